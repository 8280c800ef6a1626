# The tests and the checks. Programs:
#   tests/unit/check_x.c    -> $(B)/tests/check_x         one per module
#   tests/unit/plugin/x.c   -> $(B)/tests/plugin/x.so     what check_plugin loads
#   tests/fault/check_x.c   -> $(B)/tests/fault/check_x   the test makes system calls of the product fail
#   tests/fail_nth/*.c      -> $(B)/tests/fail_nth/check_nth    each call of a whole session fails in turn
#   tests/fixtures/*.[ch]                                 what several of these programs share
#   tests/conc/check_x.c    -> $(B)/tests/conc/check_x    threads; stress_x takes the number of items as its argument
#   tests/fuzz/fuzz_x.c     -> $(B)/tests/fuzz/fuzz_x     replays tests/fuzz/corpus/x; with libFuzzer under VARIANT=fuzz
#   tests/explore/*.c       -> $(B)/tests/explore/check_explore    the code of the hand-off in every schedule; release build only
#   tests/sim/*.c           -> $(B)/tests/sim/simulate    the server over a simulated machine, one seed after the other
#   docs/examples/x.c       -> $(B)/examples/x            which tests/live/test_examples.py and test_nats.py talk to
#   tests/live/x.c          -> $(B)/tests/live/x          programs with the library in them, for live tests and benchmarks
#   tests/ops/x.c           -> $(B)/tests/ops/x           programs for the tests of check-ops
#   tests/live/plugin/x.c   -> $(B)/tests/live/plugin/x.so
#   tests/shuffle/*.c       -> $(B)/xchgd-shuffle          xchgd whose workers give connections to each other all the time
#   tests/live/test_x.py                                  against $(B)/xchgd
# tests/run runs them and prints the sums. VARIANT selects the build that is tested; the check-... targets set it.

# Sanitizers, coverage and valgrind make calls of their own, which a filter refuses. Valgrind does not know Landlock's.
UNIT_SKIPS_cov = check_sandbox check_sandbox_handler
UNIT_SKIPS_mcdc = $(UNIT_SKIPS_cov)
UNIT_SKIPS_asan = $(UNIT_SKIPS_cov) check_sandbox_kernel
UNIT_SKIPS_valgrind = $(UNIT_SKIPS_asan)
UNIT = $(filter-out $(UNIT_SKIPS_$(VARIANT):%=$(B)/tests/%),$(patsubst tests/unit/%.c,$(B)/tests/%,$(wildcard tests/unit/check_*.c)))
FAULT = $(patsubst tests/%.c,$(B)/tests/%,$(wildcard tests/fault/check_*.c))
CONC = $(patsubst tests/%.c,$(B)/tests/%,$(wildcard tests/conc/check_*.c tests/conc/stress_*.c))
# The tests that wait longest run first, so that they do not run alone at the end.
LIVE_LONG = $(patsubst %,tests/live/test_%.py,bench service fault_matrix_resources fault_matrix_peers limits network soak examples log_descriptors languages)
LIVE_SKIPS = $(if $(filter asan tsan,$(VARIANT)),$(patsubst %,tests/live/test_%.py,bench_html bench_scale bench_upgrade lecture sandbox))
# TSan looks for races of the server's threads. These modules check what one thread does (the start, an exchange, a close),
# the load generator, whose threads check_load and check_schedule run, or faults outside of the process.
TSAN_SKIPS = amplification bench bench_agree bench_end bench_escapes bench_name bench_proxy close config exchange install network fault_matrix_accept fault_matrix_handoff
LIVE_SKIPS += $(if $(filter tsan,$(VARIANT)),$(TSAN_SKIPS:%=tests/live/test_%.py))
LIVE ?= $(filter-out $(LIVE_SKIPS),$(LIVE_LONG) $(filter-out $(LIVE_LONG),$(wildcard tests/live/test_*.py)))
# Under valgrind a live test spends most of its time waiting: for a program to start, for a timeout.
JOBS ?= $(if $(filter valgrind,$(VARIANT)),4,3)
FUZZ = $(patsubst tests/%.c,$(B)/tests/%,$(wildcard tests/fuzz/fuzz_*.c))
SIMULATE = $(B)/tests/sim/simulate
# In a slow build the start and the end of a process take most of a test's time. So a program runs all its tests in one
# process there, except these: a test of them changes what the next one starts from.
FORKED = $(addprefix check_,api_offload api_offload_cancel api_server histogram library_limits load log_writer plan send_queue_fault slab wheel)
SLOW_RUN = $(if $(filter asan tsan valgrind,$(VARIANT)),--forked '$(FORKED)')
# It has one thread, so TSan would find nothing. Slow builds make one run in 30 and no self-test.
FAIL_NTH = $(if $(filter tsan,$(VARIANT)),,$(B)/tests/fail_nth/check_nth)
FAIL_NTH_EVERY = $(if $(filter release cov,$(VARIANT)),1,30)
# The programs with more than one thread. In the others TSan would find nothing.
TSAN_UNIT = acceptor% admin admission api_% conn_api inbox library_% load log% model_% more_start offload% reactor schedule server% service signals \
            stall stats thread upgrade_totals wake watchdog worker%
# It does not support threads in the forked child of a process with threads.
THREADED = $(filter-out $(B)/tests/check_api_fork%,$(filter $(TSAN_UNIT:%=$(B)/tests/check_%),$(UNIT))) $(filter $(B)/tests/fault/check_acceptor_%,$(FAULT)) $(CONC)
PROGRAMS = $(if $(filter tsan,$(VARIANT)),$(THREADED),$(FAIL_NTH) $(UNIT) $(FAULT) $(CONC) $(FUZZ) $(SIMULATE))
STRESS = $(filter $(B)/tests/conc/stress_%,$(CONC))
STRESS_ITEMS ?= 100000000

# The other files of a folder are linked into each of its programs.
helpers = $(filter-out tests/$(1)/check_% tests/$(1)/stress_%,$(wildcard tests/$(1)/*.c))
UNIT_HELPERS = $(patsubst %.c,$(B)/obj/%.o,$(call helpers,unit) tests/fixtures/run_suite.c)
CONC_HELPERS = $(patsubst %.c,$(B)/obj/%.o,$(call helpers,conc))
FAULT_HELPERS = $(patsubst %.c,$(B)/seam/%.o,$(call helpers,fault) $(addprefix tests/fixtures/,orders.c run_suite.c))
# Sorted, so that bench.a comes before internal.a, which it needs.
link_test = $(call say,LINK)$(CC) $(XLDFLAGS) -o $@ $(filter %.o,$^) $(sort $(filter %.a,$^)) $(LIBS_TESTS)

# Lets a fork wait for the asserts of other threads (tests/fixtures/run_suite.c).
$(UNIT) $(FAULT): private XLDFLAGS += -Wl,--wrap=_mark_point

$(B)/tests/check_%: $(B)/obj/tests/unit/check_%.o $(UNIT_HELPERS) $(B)/internal.a $(B)/.flags-link
	@mkdir -p $(@D)
	$(link_test)
$(B)/tests/conc/%: $(B)/obj/tests/conc/%.o $(CONC_HELPERS) $(B)/internal.a $(B)/.flags-link
	@mkdir -p $(@D)
	$(link_test)
$(B)/tests/fault/%: $(B)/seam/tests/fault/%.o $(FAULT_HELPERS) $(B)/seam.a $(B)/.flags-link
	@mkdir -p $(@D)
	$(link_test)

# Fuzz targets have the main of libFuzzer or of replay.c. A target that uses the seam has its own bodies.
FUZZ_MAIN = $(if $(filter fuzz,$(VARIANT)),,$(B)/obj/tests/fuzz/replay.o)
FUZZ_SEAM = $(B)/tests/fuzz/fuzz_conn_memory
FUZZ_BENCH = $(patsubst %,$(B)/tests/fuzz/fuzz_%,hdr_histogram json_read merge options report)
# Branches of the product guide libFuzzer, those of the tests do not. In parsers, comparisons guide it too; they cost most.
FUZZ_PARSERS = core/addr.c core/config_value.c core/proxy.c net/http.c pool/upgrade_packet.c $(wildcard benchmarks/xchg-bench/*.c)
ifneq ($(FUZZ_COVERAGE),)
$(SOURCES:%.c=$(B)/obj/%.o) $(SOURCES:%.c=$(B)/seam/%.o) $(FUZZ_PARSERS:%.c=$(B)/obj/%.o): private XCFLAGS += $(FUZZ_COVERAGE)
$(FUZZ_PARSERS:%.c=$(B)/obj/%.o): private XCFLAGS += -fsanitize-coverage=trace-cmp
endif
link_fuzz = $(call say,LINK)$(CC) $(XLDFLAGS) $(if $(FUZZ_MAIN),,-fsanitize=fuzzer) $(FUZZ_LDFLAGS) -o $@ \
              $(filter %.o,$^) $(sort $(filter %.a,$^)) -lm
$(filter-out $(FUZZ_SEAM),$(FUZZ)): $(B)/tests/fuzz/%: $(B)/obj/tests/fuzz/%.o $(FUZZ_MAIN) $(B)/internal.a $(B)/.flags-link
	@mkdir -p $(@D)
	$(link_fuzz)
$(FUZZ_SEAM): $(B)/tests/fuzz/%: $(B)/seam/tests/fuzz/%.o $(B)/seam/tests/fuzz/conn_play.o $(FUZZ_MAIN) $(B)/seam.a $(B)/.flags-link
	@mkdir -p $(@D)
	$(link_fuzz)
$(B)/tests/fuzz/fuzz_conn_socket: $(B)/obj/tests/fuzz/conn_play.o
$(patsubst %,$(B)/tests/fuzz/fuzz_%,frame conn_socket conn_memory): $(B)/obj/tests/fixtures/reference_framing.o
$(B)/tests/fuzz/fuzz_proxy: $(B)/obj/tests/fixtures/reference_proxy.o
$(FUZZ_BENCH): $(B)/bench.a
$(FUZZ_BENCH:$(B)/tests/%=$(B)/obj/tests/%.o): private XCFLAGS += -Ibenchmarks/xchg-bench
$(B)/tests/fuzz/fuzz_options: private FUZZ_LDFLAGS = -Wl,--wrap=getaddrinfo,--wrap=freeaddrinfo

# --wrap redirects every call that does not go through core/sys.h to a function of the test.
FAIL_NTH_WRAPS = malloc calloc aligned_alloc posix_memalign strdup free open_memstream fopen fclose fgets getline __getdelim socket bind listen \
            connect getsockname setsockopt eventfd epoll_create1 signalfd open __open_2 openat fstat fstatat unlinkat fchmod chmod fcntl flock read \
            setrlimit getrandom sched_getaffinity sched_setscheduler pthread_create pthread_join pthread_detach pthread_self \
            pthread_setname_np pthread_setaffinity_np pthread_cond_wait pthread_cond_timedwait pthread_cond_signal pthread_cond_broadcast sem_wait sem_post
FAIL_NTH_HELPERS = $(patsubst %.c,$(B)/seam/%.o,$(call helpers,fail_nth) tests/fixtures/orders.c tests/fixtures/fiber.c)
$(B)/tests/fail_nth/check_nth: $(B)/seam/tests/fail_nth/check_nth.o $(FAIL_NTH_HELPERS) $(B)/seam.a $(B)/.flags-link
	@mkdir -p $(@D)
	$(call say,LINK)$(CC) $(XLDFLAGS) $(FAIL_NTH_WRAPS:%=-Wl,--wrap=%) -o $@ $(filter %.o,$^) $(filter %.a,$^) -lm
	@ln -sf check_nth $(@D)/fail_nth

# Tests that include "xchg-bench/x.h" are linked with the archive of xchg-bench.
BENCH_UNIT := $(shell grep -l '"xchg-bench/' tests/unit/check_*.c)
$(BENCH_UNIT:tests/unit/%.c=$(B)/tests/%): $(B)/bench.a
$(BENCH_UNIT:%.c=$(B)/obj/%.o): private XCFLAGS += -Ibenchmarks -Ibenchmarks/xchg-bench

# Fails the Nth call of a server's start.
START_WRAPS = malloc calloc aligned_alloc open_memstream mmap getrandom epoll_create1 epoll_ctl eventfd socket bind listen \
              getsockname setsockopt pthread_create sched_getaffinity
$(B)/tests/check_more_start: private XLDFLAGS += $(START_WRAPS:%=-Wl,--wrap=%)

# A second parser. The fuzz target has it, too.
$(patsubst %,$(B)/tests/check_%,proxy proxy_header proxy_rules): $(B)/obj/tests/fixtures/reference_proxy.o

# Changes a folder between two steps of the server.
$(B)/tests/check_socket_file: private XLDFLAGS += -Wl,--wrap=bind,--wrap=connect,--wrap=chmod

# Fails or shortens a call of the upgrade channel.
FD_SOCKET_WRAPS = socketpair sendmsg recvmsg getsockopt memfd_create getrlimit pread pwrite
$(B)/tests/check_fd_socket: private XLDFLAGS += $(FD_SOCKET_WRAPS:%=-Wl,--wrap=%)
$(B)/tests/check_upgrade_channel_nth: private XLDFLAGS += $(FD_SOCKET_WRAPS:%=-Wl,--wrap=%) -Wl,--wrap=malloc

# Answers as an older kernel does.
$(addprefix $(B)/tests/check_,sandbox sandbox_kernel sandbox_handler): private XLDFLAGS += -Wl,--wrap=syscall,--wrap=prctl

# Lets a thread fail to enter the sandbox.
$(B)/tests/check_confine: private XLDFLAGS += -Wl,--wrap=sandbox_enter

# Fails the Nth allocation of a walk.
$(B)/tests/check_snapshot_end: private XLDFLAGS += -Wl,--wrap=malloc

# check_plugin loads the plug-ins next to it. Like xchgd, it exports what plug-ins call. They are linked for lazy binding,
# the compiler's default, so that the loading program has to ask for immediate binding.
PLUGINS = $(patsubst tests/unit/%.c,$(B)/tests/%.so,$(wildcard tests/unit/plugin/*.c))
$(B)/tests/plugin/%.so: tests/unit/plugin/%.c $(B)/.flags $(B)/.flags-link | need-build
	@mkdir -p $(@D)
	$(call say,LINK)$(CC) $(filter-out -fPIE,$(XCFLAGS)) -fPIC -MMD -MP -MT $@ -MF $(@:.so=.d) \
	  $(filter-out -pie,$(XLDFLAGS)) -Wl,-z,lazy -shared -o $@ $<
-include $(PLUGINS:.so=.d)
$(B)/tests/check_plugin: $(PLUGINS)
$(B)/tests/check_plugin: private XLDFLAGS += -rdynamic

# The examples are built as users build them: they include the public header only.
EXAMPLES = $(patsubst docs/%.c,$(B)/%,$(filter-out %_so.c %_bridge.c,$(wildcard docs/examples/*.c))) \
           $(B)/examples/handler_so.so $(B)/examples/nats.so
EXAMPLE_LIBRARY = $(B)/libxchg.a
EXAMPLE_CFLAGS = $(filter-out -I. -fPIE,$(XCFLAGS)) -Icore
$(B)/examples/%.so: docs/examples/%.c $(B)/.flags $(B)/.flags-link | need-build
	@mkdir -p $(@D)
	$(call say,LINK)$(CC) $(EXAMPLE_CFLAGS) -fPIC -MMD -MP -MT $@ -MF $@.d $(filter-out -pie,$(XLDFLAGS)) -shared -o $@ $(filter %.c,$^)
$(B)/examples/%: docs/examples/%.c $(EXAMPLE_LIBRARY) $(B)/.flags $(B)/.flags-link | need-build
	@mkdir -p $(@D)
	$(call say,LINK)$(CC) $(EXAMPLE_CFLAGS) -fPIE -MMD -MP -MT $@ -MF $@.d $(XLDFLAGS) -o $@ $(filter %.c,$^) $(EXAMPLE_LIBRARY) -ldl
$(B)/examples/nats $(B)/examples/nats.so: docs/examples/nats_bridge.c docs/examples/nats_bridge.h
-include $(EXAMPLES:%=%.d)

LIVE_PROGRAMS = $(SHUFFLE) $(patsubst %.c,$(B)/%,$(wildcard tests/live/*.c)) $(patsubst %.c,$(B)/%.so,$(wildcard tests/live/plugin/*.c)) $(B)/tests/plugin/version_0.so
$(B)/tests/live/%: $(B)/obj/tests/live/%.o $(EXAMPLE_LIBRARY) $(B)/.flags-link
	@mkdir -p $(@D)
	$(call say,LINK)$(CC) $(XLDFLAGS) -o $@ $(filter %.o %.a,$^) -ldl
# publish_server counts calls: these calls of the library and of the program are redirected to functions of the program. The name of
# wake_signal is local in libxchg.a.
LIVE_WRAPS = wake_signal malloc calloc realloc memcpy memmove __memcpy_chk __memmove_chk
$(B)/tests/live/publish_server: $(B)/obj/tests/live/publish_server.o $(B)/internal.a $(B)/.flags-link
	@mkdir -p $(@D)
	$(call say,LINK)$(CC) $(XLDFLAGS) $(LIVE_WRAPS:%=-Wl,--wrap=%) -o $@ $(filter %.o %.a,$^) -ldl
# xchgd with a thread that lets the workers give connections to each other (see tests/shuffle/shuffle.c).
SHUFFLE = $(B)/xchgd-shuffle
SHUFFLE_WRAPS = server_start server_drain server_stop_now worker_send_leave
$(SHUFFLE): $(B)/obj/tests/shuffle/shuffle.o $(B)/obj/$(MAIN:.c=.o) $(OBJECTS) $(B)/.flags-link $(B)/.flags-sources
	@mkdir -p $(@D)
	$(call say,LINK)$(CC) $(XLDFLAGS) $(SHUFFLE_WRAPS:%=-Wl,--wrap=%) -Wl,--export-dynamic-symbol='xchg_*' -o $@ $(filter %.o,$^) $(LIBS_XCHGD) -ldl
# xchgd that stops at a point of an upgrade (see tests/live/xchgd_paused.c).
$(B)/tests/live/xchgd_paused: $(B)/obj/tests/live/xchgd_paused.o $(B)/obj/$(MAIN:.c=.o) $(filter-out %/upgrade_point.o,$(OBJECTS)) $(B)/.flags-link $(B)/.flags-sources
	@mkdir -p $(@D)
	$(call say,LINK)$(CC) $(XLDFLAGS) -Wl,--export-dynamic-symbol='xchg_*' -o $@ $(filter %.o,$^) $(LIBS_XCHGD) -ldl
$(B)/tests/live/plugin/%.so: tests/live/plugin/%.c $(B)/.flags $(B)/.flags-link | need-build
	@mkdir -p $(@D)
	$(call say,LINK)$(CC) $(filter-out -fPIE,$(XCFLAGS)) -fPIC -MMD -MP -MT $@ -MF $(@:.so=.d) \
	  $(filter-out -pie,$(XLDFLAGS)) -shared -o $@ $<
-include $(wildcard $(B)/tests/live/plugin/*.d)

# The same sources with their system calls through tests/fault/seam.h (see core/sys.h).
SEAM_OBJECTS = $(SOURCES:%.c=$(B)/seam/%.o)
$(B)/seam.a: $(SEAM_OBJECTS) $(B)/.flags-sources
	$(call say,AR  )rm -f $@ && $(AR) rcs $@ $(SEAM_OBJECTS)
$(B)/seam/%.o: %.c $(B)/.flags | need-build
	@mkdir -p $(@D)
	$(call say,CC  )$(CC) $(XCFLAGS) -DXCHG_SYS_SEAM='"tests/fault/seam.h"' -MMD -MP -c -o $@ $<

# The sources of the hand-off, with the explorer under both seams.  -fsanitize=thread makes the compiler report each plain
# access to tests/explore/hooks.c; no sanitizer is linked.  FORTIFY would forbid jumps between stacks.
EXPLORE = $(if $(filter release,$(VARIANT)),$(B)/tests/explore/check_explore)
EXPLORED = $(patsubst %,$(B)/explore/%.o,pool/inbox pool/worker pool/acceptor pool/admission net/wake tests/explore/scenario)
EXPLORER = $(patsubst %.c,$(B)/explore/%.o,net/reactor.c $(wildcard tests/explore/*.c))
EXPLORE_CFLAGS = -U_FORTIFY_SOURCE -DXCHG_ATOM_SEAM='"tests/explore/atom.h"' -DXCHG_SYS_SEAM='"tests/fault/seam.h"'
EXPLORE_WRAPS = conn_open task_run memcpy
$(EXPLORED): private XCFLAGS += -fsanitize=thread
$(B)/tests/explore/check_explore: $(sort $(EXPLORED) $(EXPLORER)) $(B)/internal.a $(B)/.flags-link
	@mkdir -p $(@D)
	$(call say,LINK)$(CC) $(XLDFLAGS) $(EXPLORE_WRAPS:%=-Wl,--wrap=%) -o $@ $(filter %.o %.a,$^) -lm -ldl
$(B)/explore/%.o: %.c $(B)/.flags | need-build
	@mkdir -p $(@D)
	$(call say,CC  )$(CC) $(XCFLAGS) $(EXPLORE_CFLAGS) -MMD -MP -c -o $@ $<
-include $(wildcard $(B)/explore/*/*.d $(B)/explore/*/*/*.d)

# The library over a simulated machine (see tests/sim/simulate.c).  --wrap leads the libc functions that the server calls
# when it starts and ends to the simulator.
SIM_FLAGS = -DXCHG_SYS_SEAM='"tests/fault/seam.h"' -DXCHG_ATOM_SEAM='"tests/sim/atom.h"'
SIM_WRAPS = malloc calloc aligned_alloc posix_memalign free epoll_create1 eventfd socket setsockopt bind listen getsockname getrandom fcntl \
            pthread_create pthread_join pthread_setname_np sem_wait sem_post
SIM_OBJECTS = $(patsubst %.c,$(B)/sim/%.o,$(SOURCES) $(wildcard tests/sim/*.c) tests/fixtures/fiber.c tests/fixtures/reference_framing.c)
SIM_LINK = $(CC) $(XLDFLAGS) $(SIM_WRAPS:%=-Wl,--wrap=%)
$(SIMULATE): $(SIM_OBJECTS) $(B)/.flags-link $(B)/.flags-sources
	@mkdir -p $(@D)
	$(call say,LINK)$(SIM_LINK) -o $@ $(SIM_OBJECTS) -ldl
$(B)/sim/%.o: %.c $(B)/.flags | need-build
	@mkdir -p $(@D)
	$(call say,CC  )$(CC) $(XCFLAGS) $(SIM_FLAGS) -MMD -MP -c -o $@ $<
-include $(wildcard $(B)/sim/*/*.d $(B)/sim/*/*/*.d)

TEST_SOURCES = $(wildcard tests/*/*.c)
$(TEST_SOURCES:%.c=$(B)/obj/%.o) $(TEST_SOURCES:%.c=$(B)/seam/%.o): | need-check
.SECONDARY:

# ---- run ----

# Sanitizers, valgrind and coverage make system calls of their own, which the sandbox refuses.
RUN_ENV = XCHGD='$(abspath $(B))/xchgd' XCHGD_VARIANT='$(VARIANT)' \
          $(if $(filter asan tsan valgrind cov mcdc,$(VARIANT)),XCHG_SANDBOX=off) FAIL_NTH_EVERY=$(FAIL_NTH_EVERY) $(TEST_ENV)
RUN = $(RUN_ENV) $(TEST_WRAP) tests/run $(SLOW_RUN) -j $(JOBS) -o $(B)/tests/log$(VALGRIND_LOG)
VALGRIND = valgrind --error-exitcode=99 --leak-check=full --show-leak-kinds=definite,indirect \
           --errors-for-leak-kinds=definite,indirect --track-fds=yes --num-callers=20 --fair-sched=yes \
           --log-file=$(abspath $(B))/tests/valgrind/%p.log
ifeq ($(VARIANT),asan)
TEST_ENV = SIMULATE_SEEDS=2000 XCHGD_SLOW=3 \
           ASAN_OPTIONS=detect_stack_use_after_return=1:abort_on_error=1 \
           UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1:abort_on_error=1
else ifeq ($(VARIANT),tsan)
# A second signal ends the process while its threads run: that is no leak.
TEST_ENV = TSAN_OPTIONS=halt_on_error=1:second_deadlock_stack=1:report_thread_leaks=0 XCHGD_SLOW=5
# TSan's shadow memory conflicts with the address randomization of some kernels.
TEST_WRAP = $(if $(shell setarch -R true 2>&1),,setarch -R)
else ifeq ($(VARIANT),valgrind)
TEST_ENV = XCHGD_SLOW=10 XCHGD_WRAP='$(VALGRIND)'
VALGRIND_LOG = -valgrind
else ifeq ($(VARIANT),cov)
TEST_ENV = SIMULATE_SEEDS=2000
endif
# These check the files of a release, so they run against the release build only.
RELEASE_CHECKS = $(if $(filter release,$(VARIANT)),tests/lint/hardening tests/lint/exports tests/lint/generated tests/lint/queries tests/lint/seam tests/lint/probes tests/sim/mutants.sh)

# The longest program runs first, so that it does not run alone at the end.
check: $(B)/xchgd $(B)/xchg-bench library $(EXAMPLES) $(LIVE_PROGRAMS) $(PROGRAMS) $(EXPLORE) $(GENERATED) | need-check ## every test: unit, fault, concurrency, live, generated pages
	@JEMALLOC=$(JEMALLOC) B=$(B) $(RUN) $(FAIL_NTH) $(LIVE) $(EXPLORE) $(filter-out $(FAIL_NTH),$(PROGRAMS)) $(RELEASE_CHECKS)

check-unit: $(PROGRAMS) | need-check ## the test programs in C alone
	@$(RUN) $(PROGRAMS)

check-conc: $(CONC) | need-check ## the tests with threads alone
	@$(RUN) $(CONC)

check-live: $(B)/xchgd $(B)/xchg-bench library $(EXAMPLES) $(LIVE_PROGRAMS) | need-check ## the scenarios against the real xchgd alone (LIVE=tests/live/test_x.py for one)
	@$(RUN) $(LIVE)

# The modules that neither look for a connection by its id nor count threads, rows of /connections or CPU time.
SHUFFLED_LIVE ?= $(patsubst %,tests/live/test_%.py,close drain_delay exchange hostile late limits regressions shuffle stop)
check-shuffle: $(B)/xchgd $(B)/xchg-bench library $(EXAMPLES) $(LIVE_PROGRAMS) | need-check ## scenarios against a server whose workers give connections to each other all the time
	@mkdir -p $(B)/tests/log-shuffle
	@$(RUN_ENV) XCHGD='$(abspath $(SHUFFLE))' tests/run -j $(JOBS) -o $(B)/tests/log-shuffle $(SHUFFLED_LIVE)

check-asan: ## every test under the address and undefined-behaviour sanitizers
	@$(MAKE) VARIANT=asan check

check-tsan: ## every test under the thread sanitizer
	@$(MAKE) VARIANT=tsan check

# These modules run in the other builds only. They depend on speed or size, on limits and names that valgrind changes, or
# on waits (test_network waits a minute for the kernel). The test programs in C do the same to memory as the modules of
# exchanges, models, limits, handlers and life, in a tenth of the time. Most of the fault matrix needs signals, limits and
# control groups, which would act on valgrind itself. Programs that end while threads or children run leave descriptors open.
VALGRIND_LIVE ?= $(filter-out $(VALGRIND_SKIPS:%=tests/live/test_%.py),$(LIVE))
VALGRIND_SKIPS ?= config soak bench bench_agree bench_end bench_escapes bench_html bench_name bench_proxy bench_scale bench_upgrade lecture peers languages http_example network install readme exchange models limits life examples handler \
                   amplification fault_matrix_accept fault_matrix_handoff \
                   fault_matrix_peers fault_matrix_life fault_matrix_resources stop_rights late escapes log_descriptors \
                   containers descriptor_table locale close fault_matrix_inputs fault_matrix_epoll log \
                   admin drain_delay proxy slow_log sandbox nats shuffle
# The other tests of xchg-bench run under ASan and the fuzzer, and some modules of arithmetic run millions of steps: under
# valgrind they would take minutes. The sandbox refuses calls that valgrind makes. Valgrind's own limit on descriptors does
# not hold for those that a packet brings (fd_socket, upgrade_channel, upgrade_successor), it does not know pidfd_open
# (upgrade, upgrade_spawn), and it reports what a forked child of a test leaves open (upgrade_ask).
VALGRIND_UNIT = $(filter-out $(patsubst tests/unit/%.c,$(B)/tests/%,$(filter-out %/check_hdr_histogram.c,$(BENCH_UNIT))) \
                $(addprefix $(B)/tests/check_,admission api_fork api_fork_conn ascii confine fd_socket frame log_descriptor log_writer model_fork privileges proxy ring sandbox% streams upgrade upgrade_ask upgrade_channel upgrade_spawn upgrade_successor wheel),$(UNIT))
check-valgrind: ## unit, fault and live tests under valgrind, descriptors tracked
	@$(MAKE) VARIANT=valgrind check-under-valgrind

check-under-valgrind: $(B)/xchgd $(B)/xchg-bench $(EXAMPLES) $(LIVE_PROGRAMS) $(VALGRIND_UNIT) $(FAULT) | need-check
	@rm -rf $(B)/tests/valgrind && mkdir -p $(B)/tests/valgrind
	@$(RUN) --limit 600 --wrap '$(VALGRIND)' --valgrind-logs $(B)/tests/valgrind $(VALGRIND_LIVE) $(VALGRIND_UNIT) $(FAULT)

# Under `trap` a call that the table of the sandbox does not list ends the server, so that the test fails. Elsewhere it
# returns ENOSYS, and libc may go on with another call. The modules left out run no server of the pool model.
TRAP_SKIPS = bench_escapes bench_html bench_name bench_scale config install lecture readme
TRAP_LIVE ?= $(filter-out $(TRAP_SKIPS:%=tests/live/test_%.py),$(LIVE))
check-trap: $(B)/xchgd $(B)/xchg-bench library $(EXAMPLES) $(LIVE_PROGRAMS) | need-check ## the scenarios and faults with XCHG_SANDBOX=trap
	@mkdir -p $(B)/tests/log-trap
	@$(RUN_ENV) XCHG_SANDBOX=trap tests/run -j $(JOBS) -o $(B)/tests/log-trap $(TRAP_LIVE)

# The modules about rights, limits and ends run a second time as users run the server, and a third time with the rights that
# container engines leave. The user's run has the sandbox `trap` and modules that reach other code, so .ci/run has a part of check-trap.
CONFINED_LIVE = $(patsubst %,tests/live/test_%.py,admin containers drain_delay fault_matrix_life faults life limits sandbox stop stop_rights)
TRAPPED_LIVE = $(patsubst %,tests/live/test_%.py,connections exchange fault_matrix_resources log log_descriptors proxy slow_log)
check-user: ## tests of stop, limits, faults and life as an ordinary user without capabilities, with XCHG_SANDBOX=trap
check-container: ## the same tests with the rights of a container's root
check-user check-container: check-%: $(B)/xchgd $(B)/xchg-bench $(EXAMPLES) $(LIVE_PROGRAMS) | need-check
	@$(RUN_ENV) $(if $(filter user,$*),XCHG_SANDBOX=trap) tests/confined $* $(B)/tests/log-$* tests/run -j $(JOBS) -o $(B)/tests/log-$* \
	  $(if $(filter user,$*),$(TRAPPED_LIVE)) $(CONFINED_LIVE)
check-clang: ## build everything with clang and run the test programs in C
	@$(MAKE) VARIANT=clang all check-unit
	@B=$(BUILD)/clang tests/lint/exports

# Prints what the parser of PROXY headers finds, for a test of check-ops with other implementations.
$(B)/tests/ops/proxy_parse: $(B)/obj/tests/ops/proxy_parse.o $(B)/internal.a $(B)/.flags-link
	@mkdir -p $(@D)
	$(call say,LINK)$(CC) $(XLDFLAGS) -o $@ $(filter %.o,$^) $(filter %.a,$^)

# What needs other programs: a browser, Prometheus, HAProxy, nats-server. A missing one is a failure. test_rolling comes first, as it takes longest.
OPS = $(sort $(wildcard tests/ops/test_*.py))
check-ops: $(B)/xchgd $(B)/xchg-bench library $(EXAMPLES) $(LIVE_PROGRAMS) $(B)/probes/xchgd $(B)/tests/ops/proxy_parse $(B)/ops/package-lock.json image | need-ops ## the page in Chromium, Prometheus, alert rules, load balancers, NATS, probes, units of systemd, image, manifests, pages of docs/deploy
	@OPS_FOLDER='$(abspath $(B))/ops' OPS_LOGS='$(abspath $(B))/tests/log-ops' OPS_IMAGES='$(abspath $(IMAGES))' $(RUN_ENV) tests/run -j 2 --limit 240 -o $(B)/tests/log-ops $(OPS)

# Restarts, kills and NATS again and again, with the tests that wait for minutes.
NETWORK_TESTS = $(patsubst %,tests/ops/test_%.py,rolling balancer nats_server)
check-network: $(B)/xchgd $(B)/xchg-bench $(EXAMPLES) $(LIVE_PROGRAMS) | need-ops ## load balancers and NATS under load, RUNS times (RUNS=3)
	@for run in $$(seq $(RUNS)); do \
	  OPS_LONG=1 OPS_LOGS='$(abspath $(B))/tests/log-network' $(RUN_ENV) tests/run -j 1 --limit 400 -o $(B)/tests/log-network $(NETWORK_TESTS) || exit 1; \
	done
RUNS ?= 3

# Every build of it is a release build with probes.
$(B)/probes/xchgd: FORCE
	@$(MAKE) BUILD=$(B)/probes VARIANT=release PROBES=1 $@

$(B)/ops/package-lock.json: tests/ops/package.json tests/ops/package-lock.json | need-ops
	@mkdir -p $(@D) && cp tests/ops/package.json $(@D)
	@cp tests/ops/package-lock.json $(@D)/wanted && cd $(@D) && cp wanted package-lock.json && \
	  timeout 300 npm ci --ignore-scripts --no-audit --no-fund --silent || { rm -f package-lock.json; exit 1; }

stress: ## 10^8 items through the hand-off under the thread sanitizer (STRESS_ITEMS=...)
	@$(MAKE) VARIANT=tsan stress-items

stress-items: $(STRESS) | need-check
	@$(RUN) --limit 3600 --argument $(STRESS_ITEMS) $(STRESS)

soak: $(B)/xchgd $(B)/examples/chat | need-check ## a mixed load with rotating faults; memory and descriptors must be flat (MINUTES=n SEED=n)
	@XCHGD='$(abspath $(B))/xchgd' XCHGD_VARIANT='$(VARIANT)' $(TEST_ENV) $(if $(SEED),SEED=$(SEED)) \
	  python3 -B tests/soak/soak.py --minutes $(MINUTES)
MINUTES ?= 10

check-upgrades: $(B)/xchgd $(B)/xchg-bench library $(EXAMPLES) $(LIVE_PROGRAMS) | need-check ## UPGRADES upgrades in a row under load and scrapes (UPGRADES=100)
	@mkdir -p $(B)/tests/log-upgrades
	@$(RUN_ENV) XCHGD_UPGRADES=$(UPGRADES) tests/run -j 1 --limit 900 -o $(B)/tests/log-upgrades tests/live/test_upgrade_many.py
UPGRADES ?= 100

soak-trap: ## soak with XCHG_SANDBOX=trap
	@$(MAKE) soak TEST_ENV="$(TEST_ENV) XCHG_SANDBOX=trap"

# What takes too long for .ci/run: one step a line. Like .ci/run, it goes on after a failure and sums up.
RELEASE_STEPS = \
    check-trap \
    check-shuffle \
    check-upgrades \
    check-variants \
    check-table \
    check-images \
    check-portable \
    check-fresh \
    check-deb \
    check-images \
    check-network \
    soak-trap
check-release: ## before a release: the long checks, one by one (RELEASE_STEPS='soak-trap' for some)
	@env -u MAKEFLAGS -u MFLAGS -u MAKELEVEL MINUTES=$(MINUTES) .ci/run $(RELEASE_STEPS)

# Everything is built first, so that the load does not slow down the compiler.
flaky: $(B)/xchgd $(B)/xchg-bench library $(EXAMPLES) $(LIVE_PROGRAMS) $(PROGRAMS) $(EXPLORE) | need-check need-flaky ## live and conc tests N times, the suite N / 7 + 1 times, pinned and under load; goes on where it was stopped (N=n SECONDS=n FLAKY_OPTIONS=--again)
	@tests/flaky --runs $(N) $(if $(filter file,$(origin SECONDS)),,--seconds $(SECONDS)) $(FLAKY_OPTIONS)
N ?= 20

fuzz: | need-fuzz ## fuzz all targets with libFuzzer, two at a time (SECONDS=n in all, TARGETS='frame addr ...')
	@$(MAKE) VARIANT=fuzz fuzz-run
fuzz-minimize: | need-fuzz ## reduce what fuzzing has found to what is worth keeping, in build/fuzz/corpus
	@$(MAKE) VARIANT=fuzz FUZZ_OPTIONS=--minimize fuzz-run
fuzz-run: $(FUZZ)
	@tests/fuzz/run.py --build $(B) --seconds $(SECONDS) $(FUZZ_OPTIONS) $(TARGETS)
SECONDS ?= 60

GOLDEN_DIRS = $(addprefix tests/golden/,record-1 upgrade-$(shell sed -n 's/^.define UPGRADE_VERSION \([0-9]*\).*/\1/p' pool/upgrade_packet.h))
golden: $(B)/tests/check_upgrade_golden $(B)/tests/check_conn_record_golden ## write the golden files of packets and records that do not exist
	@mkdir -p $(GOLDEN_DIRS)
	@for program in $^; do GOLDEN=write $$program || exit 1; done

explore: $(B)/tests/explore/check_explore ## the code of the hand-off in every schedule, with larger bounds than make check: about 70 s of one core
	@$< more

simulate: $(SIMULATE) ## the server over a simulated machine, in two processes (SEEDS=1000000 FROM=1; see docs/testing.md)
	@half=$$((($(SEEDS) + 1) / 2)); $(SIMULATE) --from $(FROM) --seeds $$half & other=$$!; \
	  $(SIMULATE) --from $$(($(FROM) + half)) --seeds $$(($(SEEDS) - half)); code=$$?; wait $$other && exit $$code
SEEDS ?= 1000000
FROM ?= 1

simulate-mutants: $(SIMULATE) ## deliberate bugs of the server and of the simulated kernel: the simulator must find each
	@B=$(B) OBJECTS='$(SIM_OBJECTS)' COMPILE='$(CC) $(XCFLAGS)' LINK='$(SIM_LINK)' tests/sim/mutants.sh all

model: | need-model ## check the Promela models of the hand-off with spin
	@CC='$(CC)' tests/model/run.sh $(B)

coverage: ## what all tests reach of core, net and pool, held against docs/coverage.md
	@find $(BUILD)/cov -name '*.gcda' -delete 2>/dev/null || true
	@$(MAKE) VARIANT=cov check; status=$$?; $(MAKE) VARIANT=cov coverage-report && exit $$status

# One side of an assertion must stay unreached.
coverage-report: | need-coverage
	@gcovr --root . --object-directory $(B) --filter '(core|net|pool)/' --exclude-unreachable-branches \
	  --exclude-branches-by-pattern '.*\bassert\(' --txt $(B)/coverage.txt --json $(B)/coverage.json $(B)
	@cat $(B)/coverage.txt
	@tests/lint/coverage $(B)/coverage.json

coverage-mcdc: ## which conditions decide, in ring, inbox and frame, each on its own (clang 19)
	@if .ci/packages clang-19 llvm-19 libclang-rt-19-dev; then $(MAKE) VARIANT=mcdc mcdc-report; \
	  else echo 'coverage-mcdc: skipped: clang 19 is not to be had here'; fi

MCDC = $(patsubst %,$(B)/tests/check_%,ring inbox frame frame_session)
mcdc-report: $(MCDC)
	@tests/coverage/mcdc $(B) $(MCDC)

eva: | need-eva ## the parsers on any bytes, by abstract interpretation (Frama-C): no alarm, and one for each mutant
	@tests/eva/run.sh $(BUILD)/eva

# ---- lint ----

C_FILES = $(wildcard core/*.[ch] net/*.[ch] pool/*.[ch] tests/*/*.[ch] tests/unit/*/*.[ch] tests/live/*/*.[ch] docs/*.[ch] docs/examples/*.[ch] benchmarks/*/*.[ch])
SH_FILES = .ci/run .ci/packages tests/portable/split docs/deploy/make-deb $(addprefix docs/deploy/debian/,xchgd.postinst xchgd.prerm tests/exchange tests/bench tests/compile tests/server.sh) \
           $(wildcard tests/*/*.sh docs/deploy/image/*.sh tests/lint/hardening tests/lint/generated docs/completion/*)

lint: | need-lint ## layers, lengths, words, header docs, clang-format, clang-tidy, cppcheck, shellcheck, man pages
	@$(MAKE) -k lint-rules lint-format lint-shell lint-man lint-sandbox lint-cppcheck lint-tidy
	@echo 'lint: no fault'
lint-rules:
	@tests/lint/rules $(CC) $(C_FILES)
	@tests/lint/words
	@tests/lint/modules
	@tests/lint/probes
	@tests/lint/discarded $(CC)
lint-format:
	@clang-format --dry-run -Werror $(C_FILES) $(wildcard docs/man/examples/*.c)
lint-shell:
	@shellcheck $(SH_FILES)
# The calls of each thread, seen by strace, and the table of the sandbox.
lint-sandbox: $(B)/tests/lint/sandbox_table $(B)/xchgd
	@tests/lint/sandbox $^
$(B)/tests/lint/sandbox_table: $(B)/obj/tests/lint/sandbox_table.o $(B)/internal.a $(B)/.flags-link
	@mkdir -p $(@D)
	$(call say,LINK)$(CC) $(XLDFLAGS) -o $@ $(filter %.o %.a,$^)
lint-man: $(MANUAL)
	@tests/lint/man $(CC) $(dir $<)
lint-cppcheck:
	@cppcheck --quiet --std=c11 --enable=warning,performance,portability --inline-suppr --error-exitcode=1 \
	  --suppress=missingIncludeSystem -D_GNU_SOURCE -D__SIZEOF_POINTER__=8 -I. -j2 core net pool benchmarks
# clang-tidy skips the baselines, because it would need the libraries that they use. cppcheck reads them.
TIDY_FILES = $(WRITTEN) $(wildcard $(MAIN) benchmarks/xchg-bench/*.c)
lint-tidy: $(TIDY_FILES:%=lint-tidy/%)
lint-tidy/%:
	@clang-tidy --quiet $* -- -std=gnu11 -D_GNU_SOURCE -I. 2>/dev/null

# A step of its own, because it takes a minute on two cores.
analyze: | need-analyze ## gcc -fanalyzer and scan-build's engine: nothing beyond tests/lint/findings
	@tests/lint/analyze $(TIDY_FILES)

format: | need-lint ## format the C sources with clang-format
	@tests/lint/arrange $(C_FILES)
	@clang-format -i $(C_FILES) $(wildcard docs/man/examples/*.c)

# ---- packages: see the Makefile ----

PACKAGES_check = check libsubunit-dev g++ pkg-config python3 strace curl socat netcat-openbsd python3-pymemcache iproute2 nftables \
                 valgrind locales libmemcached-tools
GOALS_check = check check-unit check-conc check-live check-trap check-shuffle check-upgrades check-user check-container check-asan check-tsan check-valgrind check-under-valgrind check-clang test-% \
              stress stress-items soak soak-trap flaky coverage simulate simulate-mutants explore
PACKAGES_ops = python3 prometheus haproxy nginx-light libnginx-mod-stream curl jq chromium nodejs npm iproute2 bpftrace systemtap-sdt-dev systemd \
               kubernetes-client nats-server stunnel4 openssl netcat-openbsd
GOALS_ops = check-ops check-network
PACKAGES_release = python3 musl-tools gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user
GOALS_release = check-release check-variants check-table
PACKAGES_lint = python3 strace clang clang-format clang-tidy cppcheck shellcheck mandoc
GOALS_lint = lint lint-% format
PACKAGES_clang = clang
GOALS_clang = check-clang
PACKAGES_fuzz = clang libclang-rt-dev python3
GOALS_fuzz = fuzz fuzz-%
PACKAGES_model = spin
GOALS_model = model
PACKAGES_flaky = stress-ng
GOALS_flaky = flaky
PACKAGES_analyze = gcc clang python3
GOALS_analyze = analyze
PACKAGES_eva = gcc frama-c-base
GOALS_eva = eva
PACKAGES_coverage = gcovr
GOALS_coverage = coverage coverage-report
GROUPS_OF_PACKAGES += check ops release lint clang fuzz model flaky analyze eva coverage

.PHONY: golden check-ops check-network check-shuffle check-upgrades check-trap soak-trap check-release analyze eva coverage-mcdc mcdc-report check-conc soak flaky simulate simulate-mutants fuzz fuzz-run \
        fuzz-minimize check check-user check-container check-unit check-live check-asan check-tsan check-valgrind \
        check-under-valgrind check-clang stress stress-items explore model coverage coverage-report lint lint-rules \
        lint-format lint-shell lint-man lint-sandbox lint-cppcheck lint-tidy format
