# xchg: build, test, install.  `make help` lists the targets.
#
# No configure step: sources are found by wildcard, headers by the compiler's dependency files, and a change of the
# compiler or its flags rebuilds what it touches.  Everything that is made lies under build/; a variant (asan, tsan,
# ...) has a folder of its own there.  What is missing is asked from apt by the first target that needs it.

VARIANT ?= release
JEMALLOC ?= 1
PREFIX ?= /usr/local
CFLAGS ?= -O2 -g
ifeq ($(origin CC),default)
CC = gcc
endif

MAKEFLAGS += --no-builtin-rules --no-print-directory
say = $(if $(V),,@echo '  $(1) $@';)
.SUFFIXES:
.DELETE_ON_ERROR:

# ---- variants: where it is built, and with what -------------------------------------------------

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
else ifeq ($(VARIANT),cov)
SANITIZE = --coverage -fprofile-abs-path -fprofile-update=atomic -O0
override JEMALLOC = 0
else
$(error VARIANT=$(VARIANT): allowed are release, clang, asan, tsan, valgrind, cov)
endif
ifneq ($(SANITIZE),)
HARDEN =
endif

# ---- flags ---------------------------------------------------------------------------------------

WARN = -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wconversion -Wno-sign-conversion -Wvla \
       -Wwrite-strings -Wformat=2 -Wundef -Werror -Wno-error=cpp
XCFLAGS = -std=gnu11 -D_GNU_SOURCE -I. -pthread -fPIE $(WARN) $(CFLAGS) $(HARDEN) $(SANITIZE) $(CPPFLAGS)
XLDFLAGS = -pie -pthread -Wl,-z,relro,-z,now,-z,noexecstack,--as-needed $(SANITIZE) $(LDFLAGS)
LIBS_TESTS = -lcheck -lsubunit -lrt -lm
ifneq ($(JEMALLOC),0)
LIBS_XCHGD = -Wl,--no-as-needed -ljemalloc -Wl,--as-needed
endif

# ---- what is built -------------------------------------------------------------------------------

MAIN = pool/xchgd.c
SOURCES := $(sort $(filter-out $(MAIN),$(wildcard core/*.c net/*.c pool/*.c)))
OBJECTS = $(SOURCES:%.c=$(B)/obj/%.o)

all: $(B)/xchgd ## build build/xchgd (CC=clang, JEMALLOC=0, CFLAGS=..., V=1 shows the commands)

$(B)/xchgd: $(B)/obj/$(MAIN:.c=.o) $(B)/internal.a $(B)/.flags-link
	$(call say,LINK)$(CC) $(XLDFLAGS) -o $@ $(filter %.o %.a,$^) $(LIBS_XCHGD)

$(B)/internal.a: $(OBJECTS) $(B)/.flags-sources
	$(call say,AR  )rm -f $@ && ar rcs $@ $(OBJECTS)

$(B)/obj/%.o: %.c $(B)/.flags | need-build
	@mkdir -p $(@D)
	$(call say,CC  )$(CC) $(XCFLAGS) -MMD -MP -c -o $@ $<

# A file that holds what its users were made with, and is newer than they are once that changes.
define remember
$(shell mkdir -p $(@D))$(file >$@.new,$(1))@if cmp -s $@.new $@; then rm $@.new; else mv $@.new $@; fi
endef
$(B)/.flags: FORCE
	$(call remember,$(CC) $(XCFLAGS))
$(B)/.flags-link: FORCE
	$(call remember,$(CC) $(XLDFLAGS) $(LIBS_XCHGD))
$(B)/.flags-sources: FORCE
	$(call remember,$(SOURCES))
FORCE:

-include $(wildcard $(B)/obj/*/*.d $(B)/obj/*/*/*.d $(B)/seam/*/*.d $(B)/seam/*/*/*.d)

# ---- what must be installed: each target asks for what it needs, nothing happens where it is there -----

COMPILER = $(notdir $(firstword $(CC)))
need-build:
	@.ci/packages $(patsubst cc,gcc,$(COMPILER)) libc6-dev $(if $(LIBS_XCHGD),libjemalloc-dev)

# ---- to use it -----------------------------------------------------------------------------------

run: $(B)/xchgd ## build, then serve on port 7000 (XCHG_... variables pass through)
	@exec $(B)/xchgd

install: all ## install program and man page under $(DESTDIR)$(PREFIX)
	install -d '$(DESTDIR)$(PREFIX)/bin' '$(DESTDIR)$(PREFIX)/share/man/man1' '$(DESTDIR)$(PREFIX)/share/man/man8'
	install -m 755 $(B)/xchgd $(B)/xchg-bench '$(DESTDIR)$(PREFIX)/bin'
	install -m 644 docs/man/xchg-bench.1 '$(DESTDIR)$(PREFIX)/share/man/man1/xchg-bench.1'
	install -m 644 docs/man/xchgd.8 '$(DESTDIR)$(PREFIX)/share/man/man8/xchgd.8'

uninstall: ## remove what install has put there
	rm -f '$(DESTDIR)$(PREFIX)/bin/xchgd' '$(DESTDIR)$(PREFIX)/share/man/man8/xchgd.8'
	rm -f '$(DESTDIR)$(PREFIX)/bin/xchg-bench' '$(DESTDIR)$(PREFIX)/share/man/man1/xchg-bench.1'

clean: ## remove build/
	rm -rf build

help: ## this list
	@grep -hE '^[a-z][a-z-]*:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 16

include docs/docs.mk tests/tests.mk benchmarks/bench.mk

.PHONY: all need-build run install uninstall clean help FORCE
