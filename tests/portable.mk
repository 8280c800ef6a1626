# Builds for other systems, and README on systems without a compiler. They take minutes, so `make check` does not run them.

# xchgd as one file that needs no other file of the system, for an image without a distribution. It loads no plug-in. The
# symbols are in xchgd.debug. Neither the path of this tree nor BUILD is in the program, so that it is the same wherever it is built.
STATIC_PATHS = -ffile-prefix-map=$(CURDIR)=. -ffile-prefix-map=$(BUILD)/$@/full=build
static: ## build a static xchgd with glibc and jemalloc: build/static/xchgd
	@$(MAKE) BUILD=$(BUILD)/static/full VARIANT=release CFLAGS='$(CFLAGS) $(STATIC_PATHS)' LDFLAGS=-static-pie $(BUILD)/static/full/xchgd
	@tests/portable/split $(call tool,objcopy) $(BUILD)/static

musl: ## build a static xchgd with musl, without jemalloc: build/musl/xchgd
	@.ci/packages gcc musl-tools libc6-dev binutils
	@$(MAKE) BUILD=$(BUILD)/musl/full VARIANT=release CC=musl-gcc JEMALLOC=0 CFLAGS='$(CFLAGS) $(STATIC_PATHS)' LDFLAGS=-static $(BUILD)/musl/full/xchgd
	@tests/portable/split objcopy $(BUILD)/musl

check-variants: $(BUILD)/xchgd | need-release ## build static programs with glibc and musl, and run each under XCHG_SANDBOX=trap and on
	@$(MAKE) static musl
	@XCHGD_VARIANTS='$(abspath $(BUILD))/xchgd $(abspath $(BUILD))/static/xchgd $(abspath $(BUILD))/musl/xchgd' PYTHONPATH=tests/live \
	  tests/run -o $(BUILD)/tests/log-variants tests/portable/test_sandboxed.py

check-table: $(B)/tests/lint/sandbox_table | need-release ## build the table of the sandbox's system calls for aarch64 and print it
	@tests/portable/table.sh $(BUILD)/table $<

check-portable: ## build with gcc, clang, musl, for aarch64 and with dpkg-buildflags, and run what was built (CASES='musl aarch64')
	@tests/portable/run.sh $(BUILD)/portable $(CASES)

check-fresh: ## README's commands on fresh Debian 12 and 13 systems, as root and as a user (SUITES=trixie, FRESH_CHECK=no without make check)
	@FRESH_CHECK='$(FRESH_CHECK)' tests/portable/fresh.sh $(BUILD)/fresh $(SUITES)
FRESH_CHECK ?= yes

.PHONY: static musl check-variants check-table check-portable check-fresh
