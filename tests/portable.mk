# Builds for other systems, and README on systems without a compiler. Both take minutes, so `make check` does not run them.

check-portable: ## build with gcc, clang, musl, for aarch64 and with dpkg-buildflags, and run what was built (CASES='musl aarch64')
	@tests/portable/run.sh $(BUILD)/portable $(CASES)

.PHONY: check-portable
