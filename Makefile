# xchg: build, test, install.  `make help` lists the targets.
#
# There is no configure step. Sources are found by wildcard, headers by the compiler's dependency files. A change of the
# compiler or its flags rebuilds the files that it affects. All output is in build/; a variant (asan, tsan, ...) has a
# folder of its own there. The first target that needs a package installs it with apt.

VARIANT ?= release
JEMALLOC ?= 1
PREFIX ?= /usr/local
BINDIR ?= $(PREFIX)/bin
LIBDIR ?= $(PREFIX)/lib
INCLUDEDIR ?= $(PREFIX)/include
MANDIR ?= $(PREFIX)/share/man
COMPLETIONDIR ?= $(PREFIX)/share/bash-completion/completions
CFLAGS ?= -O2 -g
ifeq ($(origin CC),default)
CC = gcc
endif

MAKEFLAGS += --no-builtin-rules --no-print-directory
say = $(if $(V),,@echo '  $(1) $@';)
.SUFFIXES:
.DELETE_ON_ERROR:

# ---- variants: output folder, compiler and flags ----

B = build/$(VARIANT)
MACHINE := $(shell uname -m)
HARDEN_x86_64 = -fcf-protection -fstack-clash-protection
HARDEN_aarch64 = -mbranch-protection=standard
HARDEN = -fstack-protector-strong -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3 $(HARDEN_$(MACHINE))

ifeq ($(VARIANT),release)
B = build
else ifeq ($(VARIANT),clang)
override CC = clang
else ifeq ($(VARIANT),asan)
SANITIZE = -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
override JEMALLOC = 0
else ifeq ($(VARIANT),tsan)
SANITIZE = -fsanitize=thread
override JEMALLOC = 0
else ifeq ($(VARIANT),valgrind)
override JEMALLOC = 0
else ifeq ($(VARIANT),fuzz)
override CC = clang
SANITIZE = -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
FUZZ_COVERAGE = -fsanitize-coverage=inline-8bit-counters,pc-table,indirect-calls
override JEMALLOC = 0
else ifeq ($(VARIANT),cov)
SANITIZE = --coverage -fprofile-abs-path -fprofile-update=atomic -O0
override JEMALLOC = 0
COVERAGE_EXIT = $(B)/obj/tests/coverage/exit.o
else ifeq ($(VARIANT),mcdc)
override CC = clang-19
SANITIZE = -fprofile-instr-generate -fcoverage-mapping -fcoverage-mcdc -O0
override JEMALLOC = 0
else
$(error VARIANT=$(VARIANT): allowed are release, clang, asan, tsan, valgrind, cov, mcdc, fuzz)
endif
ifneq ($(SANITIZE),)
HARDEN =
endif

# ---- flags ----

WARN = -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wconversion -Wno-sign-conversion -Wvla \
       -Wwrite-strings -Wformat=2 -Wundef -Werror -Wno-error=cpp
XCFLAGS = -std=gnu11 -D_GNU_SOURCE -I. -pthread -fPIE $(WARN) $(CFLAGS) $(HARDEN) $(SANITIZE) $(CPPFLAGS)
XLDFLAGS = -pie -pthread -Wl,-z,relro,-z,now,-z,noexecstack,--as-needed $(SANITIZE) \
           $(COVERAGE_EXIT:%=-Wl,--wrap=_exit %) $(LDFLAGS)
LIBS_TESTS = -lcheck -lsubunit -lrt -lm
ifneq ($(JEMALLOC),0)
LIBS_XCHGD = -Wl,--no-as-needed -ljemalloc -Wl,--as-needed
endif

# ---- programs ----

MAIN = pool/xchgd.c
SOURCES := $(sort $(filter-out $(MAIN),$(wildcard core/*.c net/*.c pool/*.c)))
OBJECTS = $(SOURCES:%.c=$(B)/obj/%.o)

all: $(B)/xchgd library ## build programs and library (CC=clang, JEMALLOC=0, CFLAGS=..., V=1 shows the commands)

# All objects of the library instead of the archive, so that a plug-in finds every xchg_* in the program.
$(B)/xchgd: $(B)/obj/$(MAIN:.c=.o) $(SOURCES:%.c=$(B)/obj/%.o) $(B)/.flags-link $(B)/.flags-sources
	$(call say,LINK)$(CC) $(XLDFLAGS) -Wl,--export-dynamic-symbol='xchg_*' -o $@ $(filter %.o,$^) $(LIBS_XCHGD) -ldl

$(B)/internal.a: $(OBJECTS) $(B)/.flags-sources
	$(call say,AR  )rm -f $@ && ar rcs $@ $(OBJECTS)

$(B)/obj/%.o: %.c $(B)/.flags | need-build
	@mkdir -p $(@D)
	$(call say,CC  )$(CC) $(XCFLAGS) -MMD -MP -c -o $@ $<

# ---- the library ----
#
# The library has its own objects because a shared object needs position-independent code. Both forms export xchg_* only:
# the shared object through its version script, the archive as one object whose other names are local. The thread-local
# data of the library fits into the loader's reserve, so it is accessed without a call.

VERSION := $(shell sed -n 's/^\#define XCHG_VERSION "\(.*\)"/\1/p' core/xchg.h)
SONAME = libxchg.so.0
SHARED = libxchg.so.$(VERSION)
LIB_OBJECTS = $(SOURCES:%.c=$(B)/lib/%.o)
LIB_CFLAGS = $(filter-out -fPIE,$(XCFLAGS)) -fPIC -fvisibility=default -fno-semantic-interposition \
             -ftls-model=initial-exec
LIB_LDFLAGS = $(filter-out -pie,$(XLDFLAGS)) -shared \
              -Wl,-soname,$(SONAME),--version-script=core/xchg.map,-Bsymbolic-functions,-z,defs
OBJCOPY ?= objcopy

library: $(B)/libxchg.a $(B)/libxchg.so

$(B)/libxchg.a: $(LIB_OBJECTS) $(B)/.flags-lib $(B)/.flags-sources
	$(call say,AR  )$(CC) -r -nostdlib -o $(B)/lib/xchg.o $(LIB_OBJECTS) && \
	  $(OBJCOPY) --wildcard --keep-global-symbol='xchg_*' $(B)/lib/xchg.o && rm -f $@ && ar rcs $@ $(B)/lib/xchg.o

$(B)/$(SHARED): $(LIB_OBJECTS) core/xchg.map $(B)/.flags-lib $(B)/.flags-sources
	$(call say,LINK)$(CC) $(LIB_LDFLAGS) -o $@ $(LIB_OBJECTS) -ldl

$(B)/libxchg.so: $(B)/$(SHARED)
	@ln -sf $(SHARED) $(B)/$(SONAME) && ln -sf $(SONAME) $@

$(B)/lib/%.o: %.c $(B)/.flags-lib | need-build
	@mkdir -p $(@D)
	$(call say,CC  )$(CC) $(LIB_CFLAGS) -MMD -MP -c -o $@ $<

# A file with the flags of its users. It is rewritten only if they change, and then its users are built again.
define remember
$(shell mkdir -p $(@D))$(file >$@.new,$(1))@if cmp -s $@.new $@; then rm $@.new; else mv $@.new $@; fi
endef
$(B)/.flags: FORCE
	$(call remember,$(CC) $(XCFLAGS))
$(B)/.flags-link: FORCE
	$(call remember,$(CC) $(XLDFLAGS) $(LIBS_XCHGD))
$(B)/.flags-lib: FORCE
	$(call remember,$(CC) $(LIB_CFLAGS) $(LIB_LDFLAGS))
$(B)/.flags-sources: FORCE
	$(call remember,$(SOURCES))
# The object COVERAGE_EXIT is part of each link, so it is compiled before the first one.
$(B)/.flags-link $(B)/.flags-lib: | $(COVERAGE_EXIT)
$(COVERAGE_EXIT): private XCFLAGS += -fPIC
FORCE:

-include $(wildcard $(B)/lib/*/*.d $(B)/obj/*/*.d $(B)/obj/*/*/*.d $(B)/seam/*/*.d $(B)/seam/*/*/*.d)

# ---- packages: each target installs the missing ones that it needs ----

COMPILER = $(notdir $(firstword $(CC)))
need-build:
	@.ci/packages $(patsubst cc,gcc,$(COMPILER)) libc6-dev binutils $(if $(LIBS_XCHGD),libjemalloc-dev)

# ---- run and install ----

# Also installs a client for the first exchange and builds xchg-bench for a second terminal.
need-run: need-build
	@.ci/packages netcat-openbsd

run: $(B)/xchgd $(B)/xchg-bench | need-run ## build, then serve on port 7000 (XCHG_... variables pass through)
	@exec $(B)/xchgd

# The path of a name under DESTDIR.
at = '$(DESTDIR)$(strip $(1))'
# Paths in xchg.pc below the prefix are relative to it, so that an installed tree can be moved.
under_prefix = $(patsubst $(PREFIX)/%,$${prefix}/%,$(1))
PAGES = docs/man/xchg-bench.1 $(shell ls $(B)/man/*.[38])
INSTALLED = $(BINDIR)/xchgd $(BINDIR)/xchg-bench $(INCLUDEDIR)/xchg.h \
            $(addprefix $(LIBDIR)/,libxchg.a $(SHARED) $(SONAME) libxchg.so pkgconfig/xchg.pc) \
            $(foreach page,$(notdir $(PAGES)),$(MANDIR)/man$(subst .,,$(suffix $(page)))/$(page)) \
            $(COMPLETIONDIR)/xchgd $(COMPLETIONDIR)/xchg-bench

# Programs find the library through pkg-config. The installation does not need it.
need-install:
	@[ -n '$(DESTDIR)' ] || .ci/packages pkg-config || true

install: all manual | need-install ## install programs, library, man pages and completion under $(DESTDIR)$(PREFIX)
	install -d $(call at,$(BINDIR)) $(call at,$(INCLUDEDIR)) $(call at,$(LIBDIR)/pkgconfig) $(call at,$(COMPLETIONDIR))
	install -m 755 $(B)/xchgd $(B)/xchg-bench $(call at,$(BINDIR))
	install -m 644 core/xchg.h $(call at,$(INCLUDEDIR))
	install -m 644 $(B)/libxchg.a $(B)/$(SHARED) $(call at,$(LIBDIR))
	ln -sf $(SHARED) $(call at,$(LIBDIR)/$(SONAME))
	ln -sf $(SONAME) $(call at,$(LIBDIR)/libxchg.so)
	sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@LIBDIR@|$(call under_prefix,$(LIBDIR))|' -e 's|@VERSION@|$(VERSION)|' \
	  -e 's|@INCLUDEDIR@|$(call under_prefix,$(INCLUDEDIR))|' core/xchg.pc.in >$(B)/xchg.pc
	install -m 644 $(B)/xchg.pc $(call at,$(LIBDIR)/pkgconfig)
	for page in $(PAGES); do \
	  install -D -m 644 $$page $(call at,$(MANDIR))/man$${page##*.}/$${page##*/} || exit 1; \
	done
	install -m 644 docs/completion/xchgd docs/completion/xchg-bench $(call at,$(COMPLETIONDIR))
	$(refresh)

uninstall: manual ## remove what install has put there
	rm -f $(foreach file,$(INSTALLED),$(call at,$(file)))
	$(refresh)

# The loader finds libraries outside of /usr/lib only through its cache. A DESTDIR has no cache.
refresh = @[ -n '$(DESTDIR)' ] || [ "$$(id -u)" != 0 ] || PATH="$$PATH:/sbin:/usr/sbin" ldconfig || true

clean: ## remove build/
	rm -rf build

# The name of a target decides its group.
help: ## this list
	@grep -hE '^[a-z][a-z%-]*:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z%-]+):.*## /\1\t/; s/%/MODULE/' | \
	  awk -F'\t' 'function group(name) { \
	      if (name ~ /^(all|run|install|uninstall|docs|compdb|clean|help)$$/) return 1; \
	      if (name ~ /^(check|test|lint|format)/ && name != "check-hdr") return 2; \
	      return name ~ /^(bench|check-hdr)/ ? 3 : 4 } \
	    { text[group($$1)] = text[group($$1)] sprintf("  %-18s %s\n", $$1, $$2) } \
	    END { printf "Use:\n%s\nTest:\n%s\nMeasure:\n%s\nBefore a release:\n%s", text[1], text[2], text[3], text[4] }'

# clangd finds the file in build/. Some tests are compiled against a seam.
COMMA = ,
compdb_seam = $(if $(filter tests/sim/%,$(1)),$(SIM_FLAGS))$(if $(filter tests/explore/%,$(1)),$(EXPLORE_CFLAGS)) \
              $(if $(filter tests/fault/% tests/fail_nth/%,$(1)),-DXCHG_SYS_SEAM='"tests/fault/seam.h"')
compdb_command = $(CC) $(XCFLAGS) -Icore -Ibenchmarks -Ibenchmarks/xchg-bench $(call compdb_seam,$(1)) -c $(1)
compdb_entry = {"directory": "$(CURDIR)", "file": "$(1)", "command": "$(subst ",\",$(strip $(compdb_command)))"}
compdb: ## write build/compile_commands.json, for clangd and other tools
	$(shell mkdir -p $(B))$(file >$(B)/compile_commands.json,[$(subst } {,}$(COMMA) \
	  {,$(foreach file,$(filter %.c,$(C_FILES)),$(call compdb_entry,$(file))))])@:

# The test programs check_x, check_x_*, stress_x and fuzz_x, and the live tests test_x.
is_test_of = $(filter $(foreach kind,check stress fuzz,$(kind)_$(1) $(kind)_$(1)_%),$(notdir $(2)))
tests_of = $(strip $(foreach program,$(PROGRAMS),$(if $(call is_test_of,$(1),$(program)),$(program))))
test-%: | need-check ## the tests of one module: make test-ring, test-conn, test-stop
	@$(if $(call tests_of,$*)$(wildcard tests/live/test_$*.py),,$(error there is no test named $*))
	@$(if $(call tests_of,$*),$(MAKE) $(call tests_of,$*) && $(RUN) $(call tests_of,$*))
	@$(if $(wildcard tests/live/test_$*.py),$(MAKE) check-live LIVE=tests/live/test_$*.py)

include docs/docs.mk tests/tests.mk benchmarks/bench.mk

.PHONY: all library need-build need-run need-install run install uninstall clean help compdb FORCE
