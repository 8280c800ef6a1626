#!/bin/sh
# Mutants that test the oracle of the simulator: it must find each of them.
#
#   tests/sim/mutants.sh        mutants of the simulated kernel, which need no compiler
#   tests/sim/mutants.sh all    also mutants of the server: one line of its source is changed in a copy under $B/sim/mutants
#
# B is the folder of the build.  For `all`, COMPILE is the command that compiles, LINK the one that links, OBJECTS what is linked.
# Prints a line for each mutant: its name, and the seed that found it, or that none did.
set -u
B=${B:-build}
cd "$(dirname "$0")/../.." || exit 1
missed=0

# must_find NAME SEEDS COMMAND...: run the command with SEEDS seeds; it must fail and print the seed.
must_find() {
  name=$1 seeds=$2
  shift 2
  said=$(timeout 300 "$@" --from 1 --seeds "$seeds" --failures 1 2>&1) # the simulator ends a seed that hangs
  code=$?
  found=$(echo "$said" | grep -m 1 '^seed ')
  if [ "$code" = 0 ]; then
    echo "mutant $name: NOT FOUND with $seeds seeds"
    missed=$((missed + 1))
  elif [ -z "$found" ]; then
    echo "mutant $name: BROKEN: no seed was printed, exit code $code: $said"
    missed=$((missed + 1))
  else
    echo "mutant $name: found by $found"
  fi
}

kernel() {
  must_find "kernel-$1" "$2" "$B/tests/sim/simulate" --mutant "$1"
}

# server NAME SEEDS FILE SED: apply SED to FILE.
server() {
  name=$1 seeds=$2 file=$3 change=$4
  at=$B/sim/mutants/$name
  mkdir -p "$at"
  sed "$change" "$file" >"$at/changed.c"
  printf '#define XCHG_SYS_SEAM "tests/fault/seam.h"\n#define XCHG_ATOM_SEAM "tests/sim/atom.h"\n' |
    cat - "$at/changed.c" >"$at/mutant.c"
  if cmp -s "$file" "$at/changed.c"; then
    echo "mutant $name: its line is no longer in $file"
    missed=$((missed + 1))
    return
  fi
  others=$(echo "$OBJECTS" | tr ' ' '\n' | grep -v "/sim/${file%.c}\.o\$")
  # shellcheck disable=SC2086
  if ! $COMPILE -Wno-error -w -c -o "$at/mutant.o" "$at/mutant.c" || ! $LINK -o "$at/simulate" "$at/mutant.o" $others -ldl; then
    echo "mutant $name: cannot be built"
    missed=$((missed + 1))
    return
  fi
  must_find "$name" "$seeds" "$at/simulate"
  rm -r "$at"
}

kernel drop 100     # a byte on its way to the server is lost
kernel flip 100     # a byte of the server changes
kernel edge 500     # an edge is not reported
kernel wake 100     # a write to an eventfd wakes no thread
kernel late 1000    # waits end long after their time
kernel ack 100      # every byte is reported as acknowledged
kernel fin 500      # a half-close closes both ways
kernel accept 500   # a connection is accepted twice

if [ "${1:-}" = all ]; then
  server no-epollout 2000 net/conn_output.c 's/CONN_WATCHED | EPOLLOUT) == -1/CONN_WATCHED) == -1/'
  server no-continuation 2000 net/conn.c 's/  if (conn_input_readable(conn)) {/  if (0) {/'
  server no-last-read 10000 net/conn_input.c 's/conn->readable == READABLE_MAYBE && count < asked/count < asked/'
  server no-linger 2000 net/conn_close.c 's/if (conn->eof || conn->ctx->config->linger_ns == 0) {/if (1) {/'
  server unacknowledged 2000 net/conn_close.c 's/ && unacked == 0;/;/'
  server extra-input-ignored 10000 net/conn_close.c 's/!conn->extra_input && conn->readable == READABLE_NO && unacked == 0/unacked == 0/'
  server no-linger-prolonged 20000 net/conn_timeout.c 's/    if (!progressed(conn, &unacked)) {/    if (1) {/'
  server not-counted 500 net/conn_input.c 's/stats->messages, 1);/stats->messages, conn->readable == READABLE_UNTIL_EAGAIN ? 0 : 1);/'
  server bytes-not-counted 2000 net/conn_output.c 's/stats->bytes_out, \*count);/stats->bytes_out, conn->stalled ? 0 : *count);/'
  server received-not-counted 500 net/conn_input.c 's/conn->bytes_in += size;/conn->bytes_in += conn->state == CONN_OPEN ? size : 0;/'
  server not-armed-anew 2000 net/conn.c '/conn_timeout_next(conn) > now_ns/,/return;/s/^ *reactor_arm.*//'
  server no-second-look 5000 pool/inbox.c '/^bool inbox_prepare_wait/,/^}/s/if (inbox_empty(inbox)) {/if (1) {/'
  server sleep-not-announced 5000 pool/inbox.c '/^bool inbox_prepare_wait/,/^}/s/sleep_flag_prepare(&inbox->sleeping);//'
  server backlog-lost 2000 pool/acceptor.c 's/bool empty = acceptor->state == ACCEPT_OPEN &&/bool empty = 1 ||/'
  server room-no-second-look 5000 pool/acceptor.c 's/(waits \&\& released(acceptor)) ||/0 ||/'
  server room-look-before-want 5000 pool/acceptor.c 's/^ *room_prepare_wait(acceptor->setup.admission);$//;s/^ *reactor_wait(&acceptor->reactor, next_ns(acceptor));/if (waits) room_prepare_wait(acceptor->setup.admission);&/'
  server room-not-wanted 5000 pool/acceptor.c 's/room_prepare_wait(acceptor->setup.admission);//'
  server room-unwanted-at-once 5000 pool/acceptor.c 's/room_prepare_wait(acceptor->setup.admission);/&room_finish_wait(acceptor->setup.admission);/'
  server acceptor-not-dozing 5000 pool/acceptor.c 's/!inbox_prepare_wait(&acceptor->inbox)/0/'
  server acceptor-wake-not-watched 5000 pool/acceptor.c 's/reactor_add_wake(&acceptor->reactor, &acceptor->inbox.wake) == -1/0/'
  server grace-ignored 5000 pool/acceptor.c 's/(now_ns < grace_over_ns(acceptor) && listeners_open(acceptor) > 0)/0/'
  server not-filtered 20000 net/listener.c 's/if (sys_setsockopt(fd, SOL_SOCKET, SO_ATTACH.*/(void)program; if (1) {/'
  server refused-not-closed 500 pool/acceptor.c '/^static void refuse/,/^}/s/sys_close(accepted->fd);//'
  server ip-slot-kept 5000 pool/worker.c '/^static void release_admission/,/^}/s/admission_release(worker->admission, ip_slot);/(void)ip_slot;/'
  server room-not-reported 5000 pool/worker.c 's/if (freed || taken > 0) {/if (0) {/'
  server no-pause 5000 pool/acceptor.c '/^static void note_exhausted/,/^}/s/pause_accepting(acceptor, error);//'
  server unread-at-stop 20000 net/conn.c 's/conn->readable == READABLE_NO \&\& !conn_paused/!conn_paused/'
  server begun-at-stop 5000 net/conn.c 's/conn->messages > 0 \&\& conn->in == NULL \&\&/conn->messages > 0 \&\&/'
  server stop-visits-one 5000 pool/worker.c 's/^#define STOP_BATCH 256/#define STOP_BATCH 1/;s/worker->stopping = true;/worker->stopping = 1;/;s/more || worker->stopping ||/more ||/'
  server stop-now-forgotten 5000 pool/worker.c 's/!worker->stopping_now \&\& worker->stop_now_ns <= worker->reactor.now_ns/0/'
  server lifetime-of-open-ones 20000 net/conn_timeout.c 's/  return add_sat_u64(conn->cold->lifetime_ns, conn->ctx->config->drain/  return !conn->lifetime_over ? NEVER : add_sat_u64(conn->cold->lifetime_ns, conn->ctx->config->drain/'
  server too-long-by-one 5000 net/frame.c 's/  if (length > max) {/  if (length > max + 1) {/'
  server pending-forgotten 5000 net/conn_input.c '/^void conn_input_work/,/^}/s/parse_buffered(conn, left)/0/'
  server idle-by-half 5000 net/conn_timeout.c 's/conn->ctx->config->idle_timeout_ns);/conn->ctx->config->idle_timeout_ns \/ 2);/'
  server message-by-half 5000 net/conn_timeout.c 's/conn->ctx->config->message_timeout_ns)$/conn->ctx->config->message_timeout_ns \/ 2)/'
  server write-by-half 10000 net/conn_timeout.c 's/conn->ctx->config->write_timeout_ns)$/conn->ctx->config->write_timeout_ns \/ 2)/'
  server write-by-three 5000 net/conn_output.c 's/^  cold->acknowledged = (uint32_t)conn->bytes_out - sock_unacked(conn->fd);/  if (!conn->stalled) {\n  &\n}/'
  server linger-by-half 5000 net/conn_timeout.c 's/conn->ctx->config->linger_ns);/conn->ctx->config->linger_ns \/ 2);/'
  server silence-by-half 10000 net/conn_timeout.c 's/^#define SILENCE_NS NS_PER_S/#define SILENCE_NS (NS_PER_S \/ 2)/'
  server stop-now-by-half 5000 pool/worker.c 's/add_sat_u64(stop_ns, max_u64(config->drain_timeout_ns/add_sat_u64(stop_ns, max_u64(config->drain_timeout_ns \/ 2/'
  server one-more-per-address 5000 pool/admission.c 's/if (atom_load_relaxed_u32(&node->live) >= admission/if (atom_load_relaxed_u32(\&node->live) > admission/'
  server denied-admitted 5000 pool/admission.c 's/return !in_any(&config->deny, addr) \&\& /return /'
  server over-the-limit 5000 pool/acceptor.c 's/live_conns(acceptor) < acceptor->setup.config->max_connections \&\&/live_conns(acceptor) <= acceptor->setup.config->max_connections \&\&/'
  server linger-from-the-turn 100000 net/reactor.c 's/  return max_u64(reactor->now_ns, sys_now_ns());/  return reactor->now_ns;/'
  server moved-without-a-turn 2000 net/conn_pack.c 's/^  reactor_requeue(reactor, &conn->source);//'
  server moved-without-a-timer 2000 net/conn_pack.c 's/^    reactor_arm(reactor, &conn->source, conn_timeout_next(conn));//'
  server moved-without-epollout 5000 net/conn_pack.c 's/conn->stalled ? (uint32_t)EPOLLOUT : 0/0/'
  server moved-without-flags 500 net/conn_record.c 's/^  conn->half_close = flags/  conn->half_close = 0 * flags/;s/^  conn->clock_stopped = flags/  conn->clock_stopped = 0 * flags/'
  server moved-without-progress 5000 net/conn_pack.c 's/cold->progress_ns = min_u64(record->cold.progress_ns, now_ns);//'
  server moved-still-watched 2000 net/conn_pack.c 's/^  reactor_remove(ctx->reactor, &conn->source, conn->fd);//'
  server stale-event 20000 net/reactor.c 's/source != NULL \&\& source->key == key \&\& key >= slots/source != NULL/'
fi
[ "$missed" = 0 ]
