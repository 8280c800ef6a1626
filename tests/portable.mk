# Builds for other systems, and README on systems without a compiler. Both take minutes, so `make check` does not run them.

check-portable: ## build with gcc, clang, musl, for aarch64 and with dpkg-buildflags, and run what was built (CASES='musl aarch64')
	@tests/portable/run.sh $(BUILD)/portable $(CASES)

check-fresh: ## README's commands on fresh Debian 12 and 13 systems, as root and as a user (SUITES=trixie, FRESH_CHECK=no without make check)
	@FRESH_CHECK='$(FRESH_CHECK)' tests/portable/fresh.sh $(BUILD)/fresh $(SUITES)
FRESH_CHECK ?= yes

.PHONY: check-portable check-fresh
