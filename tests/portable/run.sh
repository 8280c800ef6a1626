#!/bin/sh
# Builds with other compilers, C libraries, machines and flags, and runs the programs.
#
#   tests/portable/run.sh FOLDER [CASE...]
#
# A case without its packages is skipped by name. Every build must be free of warnings. The output of a case is in
# FOLDER/CASE.log. The last line is `N passed, N failed`.
set -u
folder=$1
shift
mkdir -p "$folder" && folder=$(cd "$folder" && pwd) || exit 1
cd "$(dirname "$0")/../.." || exit 1
unset CC CFLAGS CPPFLAGS LDFLAGS MAKEFLAGS MFLAGS MAKELEVEL MAKEOVERRIDES CI
passed=0
failed=0
jobs=$(nproc)

# have CASE PACKAGE...: Return: 0 if the packages are there, now at least.
have() {
  name=$1
  shift
  .ci/packages "$@" >"$folder/$name.log" 2>&1 && return 0
  echo "portable: $name: skipped: $(tail -n 1 "$folder/$name.log")"
  return 1
}

# count CASE RESULT: one more passed or failed case.
count() {
  if [ "$2" = 0 ]; then
    passed=$((passed + 1))
    echo "portable: $1: passed"
  else
    failed=$((failed + 1))
    tail -n 40 "$folder/$1.log"
    echo "portable: $1: FAILED, see $folder/$1.log"
  fi
}

# build CASE ARGUMENT...: programs, library and an example, without a warning.
build() {
  name=$1
  shift
  make -j"$jobs" BUILD="$folder/$name" WERROR=1 "$@" all "$folder/$name/examples/echo" >>"$folder/$name.log" 2>&1 &&
    ! grep -E 'warning: ' "$folder/$name.log"
}

# smoke CASE: run what was built; RUNNER and SLOW are the command before each program and the factor of all waits.
smoke() {
  XCHGD=$folder/$1/xchgd XCHGD_VARIANT=release XCHGD_WRAP=$RUNNER XCHGD_SLOW=$SLOW PYTHONPATH=tests/live:tests/portable \
    python3 -B -m unittest smoke >>"$folder/$1.log" 2>&1
}

# refused CASE TEXT COMMAND...: the command fails and says TEXT.
refused() {
  name=$1 text=$2
  shift 2
  ! "$@" >"$folder/$name.log" 2>&1 && grep -q "$text" "$folder/$name.log"
}

# For every case: is it among the ones that were asked for?
case_is() {
  [ -z "$cases" ] && return 0
  case " $cases " in *" $1 "*) return 0 ;; esac
  return 1
}

cases=$*
RUNNER='' SLOW=2

for compiler in gcc clang gcc-14 clang-19; do
  if case_is "$compiler" && have "$compiler" "$compiler"; then
    build "$compiler" CC="$compiler" && smoke "$compiler"
    count "$compiler" $?
  fi
done

if case_is musl && have musl gcc musl-tools; then
  build musl CC=musl-gcc JEMALLOC=0 LDFLAGS=-static && smoke musl && file_is_static=$(readelf -d "$folder/musl/xchgd") &&
    ! echo "$file_is_static" | grep -q NEEDED
  count musl $?
fi

if case_is aarch64 && have aarch64 gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user; then
  build aarch64 CC=aarch64-linux-gnu-gcc JEMALLOC=0 &&
    RUNNER='qemu-aarch64 -L /usr/aarch64-linux-gnu' SLOW=10 smoke aarch64
  count aarch64 $?
fi

if case_is distribution && have distribution gcc dpkg-dev; then
  for hardening in '' hardening=+all optimize=+lto; do
    rm -rf "$folder/distribution"
    : >"$folder/distribution.log"
    (
      eval "$(DEB_BUILD_MAINT_OPTIONS=$hardening dpkg-buildflags --export=sh)"
      build distribution && smoke distribution && B=$folder/distribution tests/lint/exports >>"$folder/distribution.log" 2>&1
    )
    result=$?
    [ "$result" = 0 ] || break
  done
  count distribution "$result"
fi

# Without optimization FORTIFY would warn.
if case_is unoptimized && have unoptimized gcc; then
  build unoptimized CFLAGS='-O0 -g' && build unoptimized CFLAGS= && smoke unoptimized
  count unoptimized $?
fi

# No 32-bit header is needed for the refusal.
if case_is 32-bit && have 32-bit gcc; then
  refused 32-bit 'xchg needs a 64-bit system' make BUILD="$folder/32-bit" JEMALLOC=0 CFLAGS='-O2 -m32' &&
    [ "$(wc -l <"$folder/32-bit.log")" = 1 ]
  count 32-bit $?
fi

# A warning stops the build where CI is set, and only there.
if case_is warning && have warning gcc; then
  object=$folder/warning/obj/core/parse.o
  make BUILD="$folder/warning" JEMALLOC=0 CPPFLAGS=-Wtraditional "$object" >"$folder/warning.log" 2>&1 &&
    grep -q 'warning: ' "$folder/warning.log" && rm "$object" &&
    refused warning 'error: ' env CI=true make BUILD="$folder/warning" JEMALLOC=0 CPPFLAGS=-Wtraditional "$object"
  count warning $?
fi

echo "$passed passed, $failed failed"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
