# The baseline servers, the runner that compares xchgd with them, and the bench targets.
#
#   benchmarks/peers/NAME.c    -> $(B)/peers/NAME      each links the shared files below
#   benchmarks/runner/bench.py    compares them with xchgd; see benchmarks/README.md

PEERS_PLAIN = bare bare_et reuseport bare_answer iterative fork thread
PEERS_LIBRARY = libevent_raw libevent_bev libuv uring
PEERS_SHARED = peer loop lecture text
PEERS_SHARED_OBJECTS = $(PEERS_SHARED:%=$(B)/obj/benchmarks/peers/%.o)
LIBS_libevent_raw = -levent_core
LIBS_libevent_bev = -levent_core
LIBS_libuv = -luv
LIBS_uring = -luring
PEER_PROGRAMS = $(PEERS_PLAIN:%=$(B)/peers/%) $(B)/peers/request_loop $(B)/peers/flood $(B)/peers/hand_off $(B)/peers/stop_clients \
                $(B)/peers/ping_clients $(B)/peers/accept_probe
# Peers of a library that is not installed are skipped.
PEER_HEADER_libevent_raw = event2/event.h
PEER_HEADER_libevent_bev = event2/event.h
PEER_HEADER_libuv = uv.h
PEER_HEADER_uring = liburing.h

$(B)/peers.a: $(PEERS_SHARED_OBJECTS)
	$(call say,AR  )rm -f $@ && $(AR) rcs $@ $(PEERS_SHARED_OBJECTS)

$(B)/peers/request_loop $(B)/peers/hand_off: $(B)/internal.a
$(B)/peers/request_loop: $(B)/obj/benchmarks/xchg-bench/hdr_histogram.o
$(B)/peers/%: $(B)/obj/benchmarks/peers/%.o $(B)/peers.a $(B)/.flags-link
	@mkdir -p $(@D)
	$(call say,LINK)$(CC) $(XLDFLAGS) -o $@ $(filter %.o,$^) $(B)/peers.a $(filter %internal.a,$^) $(LIBS_$*) -lm

# xchgd that measures its accepts (see benchmarks/peers/accept_probe.c).
ACCEPT_PROBE_WRAPS = sock_accept fcntl
$(B)/peers/accept_probe: $(B)/obj/benchmarks/peers/accept_probe.o $(B)/obj/$(MAIN:.c=.o) $(OBJECTS) $(B)/.flags-link $(B)/.flags-sources
	@mkdir -p $(@D)
	$(call say,LINK)$(CC) $(XLDFLAGS) $(ACCEPT_PROBE_WRAPS:%=-Wl,--wrap=%) -Wl,--export-dynamic-symbol='xchg_*' -o $@ $(filter %.o,$^) $(LIBS_XCHGD) -ldl

peers: $(PEER_PROGRAMS) ## build the baselines of the benchmarks
	@for peer in $(PEERS_LIBRARY); do $(MAKE) -s peer-$$peer; done

peer-%:
	@if echo '#include <$(PEER_HEADER_$*)>' | $(CC) -E -o /dev/null - 2>/dev/null; then $(MAKE) $(B)/peers/$*; \
	else echo 'peer $* is skipped: $(PEER_HEADER_$*) is not installed'; fi

# ---- peers in other languages ----
#
#   benchmarks/peers/languages/NAME.*  -> $(B)/peers/NAME    a program, or a script that starts one
#
# Only Debian's packages are used: tokio is built without a network from the crates of librust-tokio-dev.

LANGUAGES = go_net tokio netty asio node_net uvloop_net erlang_tcp
LANGUAGE_SOURCES = benchmarks/peers/languages
DEBIAN_CRATES = /usr/share/cargo/registry
DEBIAN_JARS = /usr/share/java
NETTY_JARS = $(patsubst %,$(DEBIAN_JARS)/netty-%.jar,buffer common resolver transport)
# Debian's Python, which finds python3-uvloop.
DEBIAN_PYTHON = /usr/bin/python3
HAS_go_net = command -v go
HAS_tokio = command -v cargo && ls -d $(DEBIAN_CRATES)/tokio-1.*
HAS_netty = command -v javac && ls $(NETTY_JARS)
HAS_asio = command -v g++ && ls /usr/include/boost/asio.hpp
HAS_node_net = command -v node
HAS_uvloop_net = $(DEBIAN_PYTHON) -c 'import uvloop'
HAS_erlang_tcp = command -v erlc
PACKAGES_OF_go_net = golang-go
PACKAGES_OF_tokio = cargo librust-tokio-dev
PACKAGES_OF_netty = default-jdk-headless libnetty-java
PACKAGES_OF_asio = g++ libboost-dev
PACKAGES_OF_node_net = nodejs
PACKAGES_OF_uvloop_net = python3-uvloop
PACKAGES_OF_erlang_tcp = erlang-base

languages: $(LANGUAGES:%=language-%) ## build the baselines in Go, Rust, Java, C++, Node.js, Python and Erlang; a language that is not installed is skipped

$(LANGUAGES:%=language-%): language-%:
	@if { $(HAS_$*); } >/dev/null 2>&1; then $(MAKE) $(B)/peers/$*; \
	else echo 'peer $* is skipped: not installed: $(PACKAGES_OF_$*)'; fi

# A script that replaces itself by ${1}.
starter = mkdir -p $(@D) && printf '\043!/bin/sh\nexec %s "$$@"\n' '$(1)' >$@ && chmod 755 $@

$(B)/peers/go_net: $(LANGUAGE_SOURCES)/go_net.go
	@mkdir -p $(@D)
	$(call say,GO  )GOCACHE='$(abspath $(B))/languages/go' GOPROXY=off GOFLAGS= go build -o $@ $<

$(B)/peers/tokio: $(LANGUAGE_SOURCES)/tokio.rs $(LANGUAGE_SOURCES)/tokio.toml
	@mkdir -p $(@D) $(B)/languages/tokio
	@cp $(LANGUAGE_SOURCES)/tokio.rs $(B)/languages/tokio && cp $(LANGUAGE_SOURCES)/tokio.toml $(B)/languages/tokio/Cargo.toml
	$(call say,RUST)cargo build --quiet --release --offline --config 'source.crates-io.replace-with="debian"' \
	  --config 'source.debian.directory="$(DEBIAN_CRATES)"' --manifest-path $(B)/languages/tokio/Cargo.toml \
	  --target-dir $(B)/languages/tokio/target && cp $(B)/languages/tokio/target/release/tokio $@

$(B)/peers/netty: $(LANGUAGE_SOURCES)/Netty.java
	@mkdir -p $(B)/languages/netty
	$(call say,JAVA)javac -Xlint:all,-processing -cp $(call colons,$(NETTY_JARS)) -d $(B)/languages/netty $<
	@$(call starter,java -cp $(abspath $(B))/languages/netty:$(call colons,$(NETTY_JARS)) Netty)

$(B)/peers/asio: $(LANGUAGE_SOURCES)/asio.cc
	@mkdir -p $(@D)
	$(call say,C++ )g++ -std=c++17 -O2 -g -pthread -Wall -Wextra -o $@ $<

$(B)/peers/node_net: $(LANGUAGE_SOURCES)/node_net.js
	@$(call starter,node --expose-gc $(abspath $<))

$(B)/peers/uvloop_net: $(LANGUAGE_SOURCES)/uvloop_net.py
	@$(call starter,$(DEBIAN_PYTHON) -B $(abspath $<))

# N schedulers, if N is given.
$(B)/peers/erlang_tcp: $(LANGUAGE_SOURCES)/erlang_tcp.erl
	@mkdir -p $(@D) $(B)/languages/erlang
	$(call say,ERL )erlc +deterministic -o $(B)/languages/erlang $<
	@printf '\043!/bin/sh\nexec erl $${3:++S $$3:$$3} +sbwt none +sbwtdcpu none +sbwtdio none -noshell -noinput -env ERL_CRASH_DUMP_BYTES 0 -pa %s -run erlang_tcp main "$$@"\n' \
	  '$(abspath $(B))/languages/erlang' >$@ && chmod 755 $@

EMPTY =
colons = $(subst $(EMPTY) $(EMPTY),:,$(strip $(1)))

# ---- packages and targets ----

# Rows without their package are skipped. The servers among them are not started, now or at the next boot.
# PEER_PACKAGES= (empty) installs none.
PEER_PACKAGES ?= libevent-dev libuv1-dev liburing-dev memcached nginx libnginx-mod-stream haproxy redis-server strace
PACKAGES_peers = python3
OPTIONAL_peers = $(PEER_PACKAGES)
GOALS_peers = bench bench-quick bench-limit bench-library bench-stop bench-upgrade
OPTIONAL_languages = $(foreach name,$(LANGUAGES),$(PACKAGES_OF_$(name)))
PACKAGES_languages = python3
GOALS_languages = bench-languages
PACKAGES_http = python3 wrk
OPTIONAL_http = nginx haproxy h2o golang-go nodejs
GOALS_http = bench-http
PACKAGES_scale = python3
GOALS_scale = bench-scale
PACKAGES_wrk = python3 wrk
GOALS_wrk = bench-wrk
PACKAGES_hdr = nodejs npm
GOALS_hdr = check-hdr
GROUPS_OF_PACKAGES += peers languages http scale wrk hdr

BENCH = python3 benchmarks/runner/bench.py --build $(B)
# A test of the runner leaves the page of figures alone, and so does a run of some rows that does not continue a whole one.
BENCH_PART = $(findstring --short,$(BENCH_OPTIONS))$(if $(findstring --resume,$(BENCH_OPTIONS)),,$(findstring --only,$(BENCH_OPTIONS)))
BENCH_PAGES = $(if $(BENCH_PART),,--document docs/benchmarks.md --picture docs/benchmarks.svg)

bench: need-peers all peers ## run every comparison, at most 45 minutes: build/bench/bench.html, docs/benchmarks.md, docs/benchmarks.svg
	@$(BENCH) --budget 2640 $(BENCH_PAGES) $(BENCH_OPTIONS)

bench-quick: need-peers all peers ## run the most important comparisons, at most 5 minutes, three to eight pairs each
	@$(BENCH) --budget 280 --quick $(BENCH_OPTIONS)

bench-limit: need-peers all peers ## check what xchgd must reach: pass, FAIL or undecided, under 30 minutes
	@$(BENCH) --budget 1700 --limits --output $(B)/bench-limit $(BENCH_OPTIONS)

bench-languages: need-languages all languages $(B)/peers/bare ## compare with servers in Go, Rust, Java, C++, Node.js, Python and Erlang, at most 90 minutes: build/bench-languages, docs/benchmarks.md
	@$(BENCH) --group languages --budget 5400 --output $(B)/bench-languages $(BENCH_PAGES) $(BENCH_OPTIONS)

bench-http: need-http all language-go_net language-node_net $(B)/peers/bare_answer $(B)/examples/http ## compare docs/examples/http.c with nginx, HAProxy, h2o, Go and Node.js by wrk, at most 15 minutes: build/bench-http, docs/benchmarks.md
	@$(BENCH) --group http --budget 900 --output $(B)/bench-http $(BENCH_PAGES) $(BENCH_OPTIONS)

bench-scale: need-scale all ## hold 100,000 connections: several xchg-bench against several xchgd on one address
	@python3 benchmarks/runner/scale.py --build $(B) $(BENCH_OPTIONS)

bench-wrk: need-wrk all $(B)/peers/bare $(B)/peers/bare_answer ## compare the CPU cost of xchg-bench with wrk: at most 0.80
	@python3 benchmarks/runner/wrk.py --build $(B) $(BENCH_OPTIONS)

# Compares the histogram of xchg-bench with an independent implementation from npm.
$(B)/hdr_dump: $(B)/obj/benchmarks/check-hdr/hdr_dump.o $(B)/obj/benchmarks/xchg-bench/hdr_histogram.o $(B)/.flags-link
	$(call say,LINK)$(CC) $(XLDFLAGS) -o $@ $(filter %.o %.a,$^) -lm

check-hdr: $(B)/hdr_dump | need-hdr ## compare the histogram with hdr-histogram-js (installs it from npm)
	@mkdir -p $(B)/check-hdr && cp benchmarks/check-hdr/package.json benchmarks/check-hdr/check.mjs $(B)/check-hdr
	@cd $(B)/check-hdr && npm install --no-package-lock --no-audit --no-fund --silent
	@node $(B)/check-hdr/check.mjs '$(abspath $(B))/hdr_dump'

.PHONY: languages $(LANGUAGES:%=language-%) bench-languages bench-http bench bench-quick bench-limit bench-scale bench-wrk check-hdr peers
