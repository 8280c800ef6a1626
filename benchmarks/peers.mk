# The baselines that xchgd is measured against, the runner, and its targets.
#
#   benchmarks/peers/NAME.c    -> $(B)/peers/NAME      each links the shared files below
#   benchmarks/runner/bench.py    runs them all beside xchgd; see benchmarks/README.md

PEERS_PLAIN = bare bare_et reuseport bare_answer iterative fork thread
PEERS_LIBRARY = libevent_raw libevent_bev libuv uring
PEERS_SHARED = peer loop lecture text
PEERS_SHARED_OBJECTS = $(PEERS_SHARED:%=$(B)/obj/benchmarks/peers/%.o)
LIBS_libevent_raw = -levent_core
LIBS_libevent_bev = -levent_core
LIBS_libuv = -luv
LIBS_uring = -luring
PEER_PROGRAMS = $(PEERS_PLAIN:%=$(B)/peers/%) $(B)/peers/request_loop
# A library that could not be installed costs its peers, no more.
PEER_HEADER_libevent_raw = event2/event.h
PEER_HEADER_libevent_bev = event2/event.h
PEER_HEADER_libuv = uv.h
PEER_HEADER_uring = liburing.h

$(B)/peers.a: $(PEERS_SHARED_OBJECTS)
	$(call say,AR  )rm -f $@ && ar rcs $@ $(PEERS_SHARED_OBJECTS)

$(B)/peers/request_loop: $(B)/internal.a
$(B)/peers/%: $(B)/obj/benchmarks/peers/%.o $(B)/peers.a $(B)/.flags-link
	@mkdir -p $(@D)
	$(call say,LINK)$(CC) $(XLDFLAGS) -o $@ $(filter %.o,$^) $(B)/peers.a $(filter %internal.a,$^) $(LIBS_$*) -lm

peers: $(PEER_PROGRAMS) ## build the baselines of the benchmarks
	@for peer in $(PEERS_LIBRARY); do $(MAKE) -s peer-$$peer; done

peer-%:
	@if echo '#include <$(PEER_HEADER_$*)>' | $(CC) -E -o /dev/null - 2>/dev/null; then $(MAKE) $(B)/peers/$*; \
	else echo 'peer $* is skipped: there is no $(PEER_HEADER_$*)'; fi

# Each package by itself: what cannot be installed is skipped by the runner with a line that says so.
PEER_PACKAGES = libevent-dev libuv1-dev liburing-dev memcached nginx libnginx-mod-stream haproxy strace
need-peers: need-build
	@.ci/packages python3
	@for package in $(PEER_PACKAGES); do .ci/packages $$package || echo "goes on without $$package"; done

BENCH = python3 benchmarks/runner/bench.py --build $(B)

bench: need-peers all peers ## every comparison, at most 45 minutes: build/bench/bench.html, docs/benchmarks.md
	@$(BENCH) --budget 2640 --document docs/benchmarks.md $(BENCH_OPTIONS)

bench-quick: need-peers all peers ## the first rows of it, at most 5 minutes, three pairs each
	@$(BENCH) --budget 280 --quick $(BENCH_OPTIONS)

.PHONY: bench bench-quick peers need-peers
