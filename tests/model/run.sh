#!/bin/sh
# Checks the models of the hand-off: a right model has no error, a mutant has its own error.
#
# Usage: run.sh BUILD_DIR.  Writes into BUILD_DIR/model only; needs spin and a C compiler.
# Prints one line per case: verdict, visited states, case, pan's error.  The verdict "wrong" fails
# the run: an error in a right model, no error or another error in a mutant, or a search that did
# not finish.
set -u

if [ $# -ne 1 ]; then
  echo "usage: run.sh BUILD_DIR" >&2
  exit 64
fi
models=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1/model" && cd "$1/model" || exit 1
passed=0
failed=0

# check NAME MODEL EXPECTED FLAGS: EXPECTED is "none" or a part of pan's message.
check() {
  name=$1 model=$2 expected=$3 flags=$4
  case $flags in
  *LIVENESS*) compile='-DNFAIR=2' run='-a -f' ;;
  *) compile='-DSAFETY' run='' ;;
  esac
  rm -f pan pan.* ./*.trail
  # Split the flags into words.
  # shellcheck disable=SC2086
  if ! spin -a $flags "$models/$model.pml" >spin.log 2>&1 ||
    ! ${CC:-cc} -O1 -w $compile -o pan pan.c 2>>spin.log; then
    echo "wrong  cannot build: $name"
    sed 's/^/    /' spin.log
    failed=$((failed + 1))
    return
  fi
  # shellcheck disable=SC2086
  ./pan -m200000 $run >pan.log 2>&1
  errors=$(sed -n 's/.*errors: \([0-9]*\).*/\1/p' pan.log)
  states=$(sed -n 's/^ *\([0-9.e+]*\) states, stored.*/\1/p' pan.log)
  found=$(sed -n '/^pan:[0-9]*: /{s/^pan:[0-9]*: //;s/ (at depth.*//;p;q;}' pan.log)
  verdict=wrong
  if [ "$expected" = none ]; then
    if [ "$errors" = 0 ] && ! grep -q 'error: \|not completed' pan.log; then
      verdict=right
    fi
  else
    case $found in
    *"$expected"*) [ "${errors:-0}" -gt 0 ] && verdict=fails ;;
    esac
  fi
  printf '%-6s %9s states  %s%s\n' "$verdict" "${states:-?}" "$name" "${found:+: $found}"
  if [ "$verdict" = wrong ]; then
    failed=$((failed + 1))
  else
    passed=$((passed + 1))
  fi
}

right() { check "$2 $3${1:+ -D$1}" "$2" none "$3${1:+ -D$1}"; }
mutant() { check "mutant $1 of $2${4:+ $4}" "$2" "$3" "-D$1${4:+ $4}"; }

right '' ring -DCAPACITY=1
right '' ring -DCAPACITY=2
right '' ring -DCAPACITY=4
right LIVENESS ring -DCAPACITY=1
right LIVENESS ring -DCAPACITY=2
mutant PUBLISH_EARLY ring 'first==expected' -DCAPACITY=2
mutant FREE_EARLY ring 'first==expected' -DCAPACITY=2
mutant FULL_LATE ring 'first==expected' -DCAPACITY=2
mutant MASKED_INDICES ring 'acceptance cycle' '-DCAPACITY=2 -DLIVENESS'
mutant NO_REFRESH ring 'acceptance cycle' '-DCAPACITY=2 -DLIVENESS'

right '' task_list -DSENDS=2
right '' task_list -DSENDS=3
right LIVENESS task_list -DSENDS=2
mutant PLAIN_PUSH task_list 'filled['
mutant PLAIN_TAKE task_list 'done==sent'
mutant NEXT_LATE task_list 'filled['
mutant FILLED_LATE task_list 'filled['
mutant NOT_REVERSED task_list 'filled['
mutant NEXT_AFTER task_list 'filled['
mutant NO_RECHECK task_list 'done==sent'
mutant NO_RECHECK task_list 'acceptance cycle' -DLIVENESS
mutant WAKE_FIRST task_list 'done==sent'

right '' hand_off -DCAPACITY=1
right '' hand_off -DCAPACITY=2
right '' hand_off '-DCAPACITY=1 -DSTOPS -DSPURIOUS=0'
right '' hand_off '-DCAPACITY=2 -DSTOPS -DSPURIOUS=0'
right '' hand_off '-DCAPACITY=1 -DCONNS=2 -DOTHER_SENDER'
right '' hand_off '-DCAPACITY=1 -DCONNS=2 -DOTHER_SENDER -DSTOPS -DSPURIOUS=0'
right LIVENESS hand_off -DCAPACITY=1
right LIVENESS hand_off -DCAPACITY=2
right LIVENESS hand_off '-DCAPACITY=1 -DCONNS=2 -DSTOPS -DSPURIOUS=0'
mutant NO_RECHECK hand_off 'taken==pushed' -DCAPACITY=2
mutant NO_RECHECK hand_off 'acceptance cycle' '-DCAPACITY=2 -DLIVENESS'
mutant ANNOUNCED_LATE hand_off 'taken==pushed' -DCAPACITY=2
mutant EDGE_CLEARED hand_off 'taken==pushed' -DCAPACITY=2
mutant NO_TASK_RECHECK hand_off 'tasks[' '-DCONNS=1 -DSTOPS'
mutant WAKE_SKIPPED hand_off 'taken==pushed' -DCAPACITY=2
mutant PLAIN_LOAD hand_off 'taken==pushed' -DCAPACITY=2
mutant PLAIN_LOAD hand_off 'acceptance cycle' '-DCAPACITY=2 -DLIVENESS'
mutant PLAIN_ROOM hand_off 'backlog==0' -DCAPACITY=1
mutant NO_ROOM_WAKE hand_off 'backlog==0' -DCAPACITY=1
mutant NO_ROOM_RECHECK hand_off 'backlog==0' -DCAPACITY=1
mutant NO_MORE_CONNS_EARLY hand_off 'taken==pushed' '-DCONNS=2 -DSTOPS'
mutant END_AT_DRAIN hand_off 'taken==pushed' '-DCONNS=2 -DSTOPS'
mutant END_UNCHECKED hand_off 'taken==pushed' '-DCONNS=2 -DSTOPS'

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
