# The load generator, xchg-bench: an archive of its modules, which unit tests link too, and main.
#
#   benchmarks/xchg-bench/*.c  -> $(B)/bench.a (without main.c) -> $(B)/xchg-bench

BENCH_MAIN = benchmarks/xchg-bench/main.c
BENCH_SOURCES := $(sort $(filter-out $(BENCH_MAIN),$(wildcard benchmarks/xchg-bench/*.c)))
BENCH_OBJECTS = $(BENCH_SOURCES:%.c=$(B)/obj/%.o)

all: $(patsubst %/main.c,$(B)/xchg-bench,$(wildcard $(BENCH_MAIN)))

$(B)/xchg-bench: $(B)/obj/$(BENCH_MAIN:.c=.o) $(B)/bench.a $(B)/internal.a $(B)/.flags-link
	$(call say,LINK)$(CC) $(XLDFLAGS) -o $@ $(filter %.o %.a,$^) $(LIBS_XCHGD) -lm

$(B)/bench.a: $(BENCH_OBJECTS) $(B)/.flags-bench
	$(call say,AR  )rm -f $@ && $(AR) rcs $@ $(BENCH_OBJECTS)

$(B)/.flags-bench: FORCE
	$(call remember,$(BENCH_SOURCES))

include benchmarks/peers.mk

OPTIONAL_library = valgrind
GOALS_library = bench-library
GROUPS_OF_PACKAGES += library

bench-library: need-library need-peers all peers $(EXAMPLES) $(LIVE_PROGRAMS) ## check what libxchg promises, pass or fail, at most 6 minutes (BENCH_OPTIONS=--short)
	@python3 benchmarks/runner/library.py --build $(B) $(BENCH_OPTIONS)

bench-stop: need-peers $(B)/xchgd $(B)/peers/stop_clients ## count clients lost by a stop: xchgd without privileges, nginx, HAProxy; 200 stops each, 9 minutes (BENCH_OPTIONS='--stops n', --short)
	@.ci/packages iproute2 nftables || echo 'iproute2 or nftables is not installed: continuing without them'
	@python3 benchmarks/runner/stop.py --build $(B) $(BENCH_OPTIONS)

bench-upgrade: need-peers $(B)/xchgd $(B)/peers/ping_clients ## what 10,000 clients notice of a live upgrade of xchgd, and of nginx and HAProxy, 4 minutes (BENCH_OPTIONS='--rounds n', --short)
	@python3 benchmarks/runner/upgrade.py --build $(B) $(BENCH_OPTIONS)

PACKAGES_lecture = python3
GOALS_lecture = lecture
GROUPS_OF_PACKAGES += lecture

lecture: need-lecture $(B)/xchgd $(B)/xchg-bench $(B)/peers/iterative $(B)/peers/fork $(B)/peers/thread ## measure the four concurrency models side by side, at most 10 minutes: build/lecture/lecture.html (BENCH_OPTIONS=--short: 1 minute)
	@python3 benchmarks/runner/lecture.py --build $(B) $(BENCH_OPTIONS)

bench-fair: $(B)/xchgd $(B)/tests/live/publish_server ## what a client waits for while 40 others flood its worker, in eight ways, 1 minute (BENCH_OPTIONS='--seconds n')
	@python3 benchmarks/runner/fair.py --build $(B) $(BENCH_OPTIONS)

bench-admin: $(B)/xchgd $(B)/xchg-bench ## what the admin endpoint costs and how fast it answers, 3 minutes (BENCH_OPTIONS='--pairs n --seconds n')
	@python3 benchmarks/runner/admin.py --build $(B) $(BENCH_OPTIONS)

bench-sandbox: $(B)/xchgd $(B)/xchg-bench ## what XCHG_SANDBOX=auto costs an exchange and the start, 4 minutes (BENCH_OPTIONS='--pairs n --seconds n --starts n')
	@python3 benchmarks/runner/sandbox.py --build $(B) $(BENCH_OPTIONS)

.PHONY: lecture bench-stop bench-upgrade bench-library bench-fair bench-admin bench-sandbox
