#!/bin/sh
# Frama-C's Eva over the parsers: tests/eva/run.sh BUILD
#
# Each program in this folder calls a parser with any bytes. No alarm, warning or unproved property may remain.
# Each mutant is a parser with one bound moved by one, and must be found.
#
# tests/eva/libc.c implements the libc functions that the parsers call, so Eva's own versions are off. Eva cannot parse
# _Static_assert in front of an expression; the compiler has checked those already.
set -u

build=$1
mkdir -p "$build/net" "$build/core" || exit 1
faults=0

# analyse NAME FILE...: Return: 0 if everything is proved.
analyse() {
  log=$build/$1.log
  shift
  frama-c -eva -eva-precision 1 -eva-slevel 4000 -eva-auto-loop-unroll 200 -eva-split-return full \
    -eva-no-builtins-auto -warn-unsigned-overflow -eva-no-show-progress -eva-print-callstacks \
    -eva-msg-key=-final-states,-initial-state -machdep gcc_x86_64 \
    -cpp-extra-args="-I. -D_GNU_SOURCE '-D_Static_assert(...)='" "$@" tests/eva/libc.c >"$log" 2>&1 &&
    grep -q '^  0 alarms generated' "$log" && grep -q 'No errors or warnings raised' "$log" &&
    ! grep -Eq 'got status (unknown|invalid)' "$log"
}

# clean NAME FILE...: there must be no alarm.
clean() {
  if analyse "$@"; then
    echo "eva: $1: no alarm ($(grep -o '[0-9]* statements reached (out of [0-9]*)' "$log"))"
  else
    grep -A9 -E 'eva:alarm|got status|error' "$log"
    echo "eva: $1: see $log"
    faults=$((faults + 1))
  fi
}

# mutant NAME FILE PATTERN REPLACEMENT OTHER-FILE...: there must be an alarm.
mutant() {
  name=$1 file=$2 pattern=$3 replacement=$4
  shift 4
  sed "s|$pattern|$replacement|" "$file" >"$build/$file"
  if cmp -s "$file" "$build/$file"; then
    echo "eva: $name: the mutant changes nothing: $pattern"
    faults=$((faults + 1))
  elif analyse "$name" -eva-stop-at-nth-alarm 1 "$build/$file" "$@"; then
    echo "eva: $name: not found"
    faults=$((faults + 1))
  elif grep -q 'eva:alarm' "$log"; then
    printf "eva: %s: found: %s\n" "$name" "$(grep -A1 -m1 'eva:alarm' "$log" | tail -n 1)"
  else
    cat "$log"
    faults=$((faults + 1))
  fi
}

clean frame tests/eva/frame.c net/frame.c
mutant frame-window net/frame.c 'max + extra : size' 'max + extra + 1 : size' tests/eva/frame.c
mutant frame-head net/frame.c 'if (size < head)' 'if (size + 1 < head)' tests/eva/frame.c
mutant frame-cr net/frame.c 'at > 0 \&\& data' 'data' tests/eva/frame.c
clean addr tests/eva/addr.c core/addr.c core/parse.c
mutant addr-path core/addr.c 'size >= sizeof(listen->path)' 'size > sizeof(listen->path)' tests/eva/addr.c core/parse.c
mutant addr-host core/addr.c 'size >= sizeof(host)' 'size > sizeof(host)' tests/eva/addr.c core/parse.c

# -eva-ilevel 256: a character that is not 0 is a set of up to 255 values, not a range. The octagon domain relates a number
# to its narrowed copy. Warnings about types in headers are off, because the compilers check them.
set -- -eva-ilevel 256 -eva-domains octagon -variadic-warn-key typing=inactive -kernel-warn-key \
  typing:int-conversion=inactive,typing:incompatible-types-call=inactive,typing:implicit-conv-void-ptr=inactive \
  core/config_vars.c core/addr.c
clean config "$@" tests/eva/config.c core/config_value.c core/parse.c
mutant config-escape core/parse.c 'return text + 3' 'return text + 4' "$@" tests/eva/config.c core/config_value.c
clean config-long "$@" tests/eva/config_long.c core/config_value.c core/parse.c
mutant config-item core/config_value.c 'size < ITEM_MAX' 'size <= ITEM_MAX' "$@" tests/eva/config_long.c core/parse.c
mutant config-listen core/config_value.c 'count == CONFIG_LISTEN_MAX' 'count > CONFIG_LISTEN_MAX' "$@" \
  tests/eva/config_long.c core/parse.c
mutant config-digit core/parse.c '(UINT64_MAX - digit) / 10' 'UINT64_MAX / 10' "$@" tests/eva/config_long.c core/config_value.c
mutant config-unit core/parse.c 'UINT64_MAX / units\[i\].factor' '& + 1' "$@" tests/eva/config_long.c core/config_value.c
[ "$faults" = 0 ]
