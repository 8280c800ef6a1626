# xchg: build, test, install.  `make help` lists the targets.
#
# There is no configure step. Sources are found by wildcard, headers by the compiler's dependency files. A change of the
# compiler or its flags rebuilds the files that it affects. All output is in build/, or in BUILD=DIR; a variant (asan,
# tsan, ...) has a folder of its own there. The first target that needs packages installs them with apt.

VARIANT ?= release
JEMALLOC ?= 1
PROBES ?= 0
PREFIX ?= /usr/local
BINDIR ?= $(PREFIX)/bin
LIBDIR ?= $(PREFIX)/lib
INCLUDEDIR ?= $(PREFIX)/include
MANDIR ?= $(PREFIX)/share/man
COMPLETIONDIR ?= $(PREFIX)/share/bash-completion/completions
CFLAGS ?= -O2 -g
BUILD ?= build
WERROR ?= $(if $(filter-out 0 false no,$(CI)),1,0)
ifeq ($(origin CC),default)
CC = gcc
endif
# The compiler knows its own tools, those of another machine too.
tool = $(shell $(CC) $(CFLAGS) -print-prog-name=$(1))
ifneq ($(filter default undefined,$(origin AR)),)
AR = $(call tool,ar)
endif

MAKEFLAGS += --no-builtin-rules --no-print-directory
say = $(if $(V),,@echo '  $(1) $@';)
.SUFFIXES:
.DELETE_ON_ERROR:

# ---- variants: output folder, compiler and flags ----

B = $(BUILD)/$(VARIANT)
# Valgrind runs the release build. It takes the place of jemalloc.
ifneq ($(filter release valgrind,$(VARIANT)),)
B = $(BUILD)
else ifeq ($(VARIANT),clang)
override CC = clang
else ifeq ($(VARIANT),asan)
SANITIZE = -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
override JEMALLOC = 0
else ifeq ($(VARIANT),tsan)
SANITIZE = -fsanitize=thread
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

# ---- flags ----

# The machine that the compiler builds for; without a compiler, which is then installed, this one.
MACHINE := $(firstword $(subst -, ,$(or $(shell $(CC) $(CFLAGS) -dumpmachine 2>/dev/null),$(shell uname -m))))
ifeq ($(shell echo __SIZEOF_POINTER__ | $(CC) $(CFLAGS) -E -P - 2>/dev/null),4)
$(error xchg needs a 64-bit system, and $(CC) $(CFLAGS) builds for one of 32 bits)
endif
HARDEN_x86_64 = -fcf-protection -fstack-clash-protection
HARDEN_aarch64 = -mbranch-protection=standard
# FORTIFY needs optimization. A value in CFLAGS or CPPFLAGS, such as that of dpkg-buildflags, takes the place of ours.
USER_FLAGS = $(CFLAGS) $(CPPFLAGS)
FORTIFY = $(if $(filter-out -O0,$(lastword $(filter -O%,$(USER_FLAGS)))),-D_FORTIFY_SOURCE=3)
HARDEN = -fstack-protector-strong -U_FORTIFY_SOURCE $(if $(findstring _FORTIFY_SOURCE,$(USER_FLAGS)),,$(FORTIFY)) \
         $(HARDEN_$(MACHINE))
ifneq ($(SANITIZE),)
HARDEN =
endif

# Debian's musl-gcc does not find the kernel's headers.
ifeq ($(notdir $(firstword $(CC))),musl-gcc)
KERNEL_HEADERS := -idirafter /usr/include -idirafter /usr/include/$(shell $(CC) -print-multiarch)
endif

# A warning is an error where CI=... or WERROR=1 is set, so that those of a newer compiler stop no user.
WARN = -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wconversion -Wno-sign-conversion -Wvla \
       -Wwrite-strings -Wformat=2 -Wundef $(if $(filter 1,$(WERROR)),-Werror -Wno-error=cpp)
XCFLAGS = -std=gnu11 -D_GNU_SOURCE $(if $(filter 1,$(PROBES)),-DXCHG_PROBES) -I. -pthread -fPIE $(WARN) $(HARDEN) $(CFLAGS) $(SANITIZE) $(CPPFLAGS) $(KERNEL_HEADERS)
XLDFLAGS = $(if $(STATIC),,-pie) -pthread -Wl,-z,relro,-z,now,-z,noexecstack,--as-needed $(SANITIZE) \
           $(COVERAGE_EXIT:%=-Wl,--wrap=_exit %) $(LDFLAGS)
# A static program is linked with LDFLAGS=-static or -static-pie. The shared library stays shared.
STATIC = $(filter -static -static-pie,$(LDFLAGS))
LIBS_TESTS = -lcheck -lsubunit -lrt -lm
ifneq ($(JEMALLOC),0)
LIBS_XCHGD = -Wl,--no-as-needed -ljemalloc -Wl,--as-needed
endif

# ---- programs ----

MAIN = pool/xchgd.c
WRITTEN := $(sort $(filter-out $(MAIN),$(wildcard core/*.c net/*.c pool/*.c)))
SOURCES := $(WRITTEN) pool/page.c
OBJECTS = $(SOURCES:%.c=$(B)/obj/%.o)

all: $(B)/xchgd library ## build programs and library (CC=clang, JEMALLOC=0, PROBES=1, CFLAGS=..., V=1 shows the commands)

# All objects of the library instead of the archive, so that a plug-in finds every xchg_* in the program.
$(B)/xchgd: $(B)/obj/$(MAIN:.c=.o) $(SOURCES:%.c=$(B)/obj/%.o) $(B)/.flags-link $(B)/.flags-sources
	$(call say,LINK)$(CC) $(XLDFLAGS) -Wl,--export-dynamic-symbol='xchg_*' -o $@ $(filter %.o,$^) $(LIBS_XCHGD) -ldl

$(B)/internal.a: $(OBJECTS) $(B)/.flags-sources
	$(call say,AR  )rm -f $@ && $(AR) rcs $@ $(OBJECTS)

$(B)/obj/%.o: %.c $(B)/.flags | need-build
	@mkdir -p $(@D)
	$(call say,CC  )$(CC) $(XCFLAGS) -MMD -MP -c -o $@ $<

# The operator's page: its files as constants. make finds the source, which is not in pool, by vpath.
PAGE = $(addprefix docs/page/,index.html page.js page.css)
PAGE_SOURCE = $(B)/made/pool/page.c
vpath %.c $(B)/made
quote = sed -e 's/[\\"]/\\&/g' -e 's/.*/    "&\\n"/' docs/page/$(1)
constant = echo 'const char page_$(1)[] ='; $(call quote,$(2)); echo '    ;'; echo 'const size_t page_$(1)_size = sizeof(page_$(1)) - 1;'
$(PAGE_SOURCE): $(PAGE) Makefile
	@mkdir -p $(@D)
	$(call say,MAKE){ echo '#include "pool/page.h"'; $(call constant,html,index.html); $(call constant,js,page.js); \
	  $(call constant,css,page.css); } >$@

# ---- the library ----
#
# The library has its own objects because a shared object needs position-independent code. Both forms export xchg_* only:
# the shared object through its version script, the archive as one object whose other names are local. The thread-local
# data of the library fits into the loader's reserve, so it is accessed without a call. Names can be made local only in an
# object that is compiled, so the library is never built with link-time optimization.

VERSION := $(shell sed -n 's/^\#define XCHG_VERSION "\(.*\)"/\1/p' core/xchg.h)
SONAME = libxchg.so.0
SHARED = libxchg.so.$(VERSION)
LTO = -flto -flto=% -ffat-lto-objects
LIB_OBJECTS = $(SOURCES:%.c=$(B)/lib/%.o)
LIB_CFLAGS = $(filter-out -fPIE $(LTO),$(XCFLAGS)) -fPIC -fvisibility=default -fno-semantic-interposition \
             -ftls-model=initial-exec
LIB_LDFLAGS = $(filter-out -pie $(STATIC) $(LTO),$(XLDFLAGS)) -shared \
              -Wl,-soname,$(SONAME),--version-script=core/xchg.map,-Bsymbolic-functions,-z,defs
OBJCOPY ?= $(call tool,objcopy)

library: $(B)/libxchg.a $(B)/libxchg.so

$(B)/libxchg.a: $(LIB_OBJECTS) $(B)/.flags-lib $(B)/.flags-sources
	$(call say,AR  )$(CC) -r -nostdlib -o $(B)/lib/xchg.o $(LIB_OBJECTS) && \
	  $(OBJCOPY) --wildcard --keep-global-symbol='xchg_*' $(B)/lib/xchg.o && rm -f $@ && $(AR) rcs $@ $(B)/lib/xchg.o

$(B)/$(SHARED): $(LIB_OBJECTS) core/xchg.map $(B)/.flags-lib $(B)/.flags-sources
	$(call say,LINK)$(CC) $(LIB_LDFLAGS) -o $@ $(LIB_OBJECTS) -ldl

$(B)/libxchg.so: $(B)/$(SHARED)
	@ln -sf $(SHARED) $(B)/$(SONAME) && ln -sf $(SONAME) $@

$(B)/lib/%.o: %.c $(B)/.flags-lib | need-build
	@mkdir -p $(@D)
	$(call say,CC  )$(CC) $(LIB_CFLAGS) -MMD -MP -c -o $@ $<

# A file with the flags of its users. It is rewritten only if they change, and then its users are built again.
writable = $(shell mkdir -p $(1) 2>/dev/null && [ -w $(1) ] && echo yes)
define remember
$(if $(call writable,$(@D)),,$(error cannot write to $(@D): `make BUILD=DIR` builds in another folder))$(file >$@.new,$(1))@if cmp -s $@.new $@; then rm $@.new; else mv $@.new $@; fi
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

#
# PACKAGES_x are the packages of a group, OPTIONAL_x those that it can do without, GOALS_x the targets that need it. All
# packages of the targets that make was asked for are installed at once. NO_INSTALL=1 installs none.

COMPILER = $(patsubst musl-gcc,musl-tools,$(patsubst cc,gcc,$(notdir $(firstword $(CC)))))
PACKAGES_build = $(COMPILER) libc6-dev binutils $(if $(LIBS_XCHGD),libjemalloc-dev) \
                 $(if $(filter 1,$(PROBES)),systemtap-sdt-dev)
# A client for the first exchange.
PACKAGES_run = netcat-openbsd
GOALS_run = run
# Programs find the library through pkg-config.
PACKAGES_install = pkg-config
GOALS_install = install
PACKAGES_manual = python3
GOALS_manual = manual docs install uninstall
GROUPS_OF_PACKAGES = run install manual

# The groups that targets need, and the arguments of .ci/packages for groups.
groups_of = $(foreach group,$(GROUPS_OF_PACKAGES),$(if $(filter $(GOALS_$(group)),$(1)),$(group)))
packages_of = $(sort $(PACKAGES_build) $(foreach group,$(1),$(PACKAGES_$(group)))) \
              $(addprefix --optional ,$(sort $(foreach group,$(1),$(OPTIONAL_$(group)))))
FOR ?= check
deps: ## list and install all packages of a target (FOR='check lint', default: check; NO_INSTALL=1 installs none)
	@.ci/packages --list $(call packages_of,$(call groups_of,$(FOR)))

# ---- run and install ----

# Also builds xchg-bench for a second terminal.
run: $(B)/xchgd $(B)/xchg-bench | need-run ## build, then serve on port 7000 (XCHG_... variables pass through)
	@exec $(B)/xchgd

# The path of a name under DESTDIR.
at = '$(DESTDIR)$(strip $(1))'
# Paths in xchg.pc below the prefix are relative to it, so that an installed tree can be moved.
under_prefix = $(patsubst $(PREFIX)/%,$${prefix}/%,$(1))
PAGES = docs/man/xchg-bench.1 $(shell ls $(B)/man/*.[378])
INSTALLED = $(BINDIR)/xchgd $(BINDIR)/xchg-bench $(INCLUDEDIR)/xchg.h \
            $(addprefix $(LIBDIR)/,libxchg.a $(SHARED) $(SONAME) libxchg.so pkgconfig/xchg.pc) \
            $(foreach page,$(notdir $(PAGES)),$(MANDIR)/man$(subst .,,$(suffix $(page)))/$(page)) \
            $(COMPLETIONDIR)/xchgd $(COMPLETIONDIR)/xchg-bench

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
	$(if $(filter-out build,$(BUILD)),$(error remove the folder $(BUILD) yourself))rm -rf build

# The name of a target decides its group.
help: ## this list
	@grep -hE '^[a-z][a-z%-]*:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z%-]+):.*## /\1\t/; s/%/MODULE/' | \
	  awk -F'\t' 'function group(name) { \
	      if (name ~ /^(all|deps|run|install|uninstall|docs|compdb|clean|help)$$/) return 1; \
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

include docs/docs.mk docs/deploy/debian.mk tests/tests.mk tests/portable.mk benchmarks/bench.mk

need-build $(GROUPS_OF_PACKAGES:%=need-%): need-%:
	@.ci/packages $(call packages_of,$(sort $* $(call groups_of,$(MAKECMDGOALS))))

.PHONY: all library deps need-build $(GROUPS_OF_PACKAGES:%=need-%) run install uninstall clean help compdb FORCE
