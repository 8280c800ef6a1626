# The generated pages. `make docs` writes those that readers need in the repository (the pages of variables and of metrics,
# the dashboard, the picture), and tests/lint/generated compares what is committed with its source. The man pages stay in
# build/man: xchgd.8 has the table of variables in core/config_vars.c, xchg-metrics.7 that of metrics in core/metrics.c, the
# pages of section 3 come from core/xchg.h.

GENERATE = $(patsubst %,$(B)/obj/docs/%.o,generate metrics_pages sandbox_pages grafana)
$(B)/generate: $(GENERATE) $(B)/internal.a $(B)/.flags-link
	$(call say,LINK)$(CC) $(XLDFLAGS) -o $@ $(filter %.o %.a,$^)

$(B)/docs/configuration.md: $(B)/generate
	@mkdir -p $(@D)
	@$(B)/generate markdown >$@

$(B)/docs/metrics.md: $(B)/generate
	@mkdir -p $(@D)
	@$(B)/generate metrics-markdown >$@

$(B)/docs/grafana.json: $(B)/generate
	@mkdir -p $(@D)
	@$(B)/generate metrics-grafana >$@

$(B)/docs/metrics.names: $(B)/generate
	@mkdir -p $(@D)
	@$(B)/generate metrics-names >$@

# The whole page, with the table of system calls between its two markers as the source has it.
$(B)/docs/SECURITY.md: docs/SECURITY.md $(B)/generate
	@mkdir -p $(@D)
	@$(B)/generate sandbox-markdown >$(B)/docs/calls.md
	@sed -e '/^<!-- table of calls: begin -->$$/,/^<!-- table of calls: end -->$$/{//!d}' \
	  -e '/^<!-- table of calls: begin -->$$/r $(B)/docs/calls.md' $< >$@

$(B)/man/xchg-metrics.7: docs/man/xchg-metrics.7.in $(B)/generate
	@mkdir -p $(@D) $(B)/docs
	@$(B)/generate metrics-man >$(B)/docs/metrics.7
	@sed -e '/^@METRICS@$$/{' -e 'r $(B)/docs/metrics.7' -e 'd' -e '}' $< >$@

$(B)/man/xchg-proxy.7: docs/man/xchg-proxy.7
	@mkdir -p $(@D) && cp $< $@

$(B)/man/xchgd.8: docs/man/xchgd.8.in $(B)/generate
	@mkdir -p $(@D) $(B)/docs
	@$(B)/generate man >$(B)/docs/environment.8
	@sed -e '/^@ENVIRONMENT@$$/{' -e 'r $(B)/docs/environment.8' -e 'd' -e '}' $< >$@

# One run makes all pages of section 3, libxchg.3 as the last one.
MANUAL = $(B)/man/libxchg.3 $(B)/man/xchgd.8 $(B)/man/xchg-metrics.7 $(B)/man/xchg-proxy.7
$(B)/man/libxchg.3: docs/manual.py core/xchg.h docs/man/libxchg.3.in $(wildcard docs/man/examples/*.c) | need-manual
	$(call say,MAN )docs/manual.py $(@D)

manual: $(MANUAL) ## make the man pages of xchgd and of the library: build/man/*

# The picture of the threads, from the drawing in docs/threads.txt.
$(B)/docs/threads.svg: docs/threads.txt docs/picture.py | need-manual
	@mkdir -p $(@D)
	@docs/picture.py $< >$@

GENERATED = $(B)/docs/threads.svg $(B)/docs/SECURITY.md $(B)/docs/configuration.md $(B)/docs/metrics.md $(B)/docs/grafana.json $(B)/docs/metrics.names

docs: $(GENERATED) ## write the generated pages and pictures in docs anew
	@cp $(B)/docs/threads.svg docs/threads.svg
	@cp $(B)/docs/configuration.md docs/configuration.md
	@cp $(B)/docs/metrics.md docs/metrics.md
	@cp $(B)/docs/SECURITY.md docs/SECURITY.md
	@mkdir -p docs/deploy && cp $(B)/docs/grafana.json docs/deploy/grafana.json

.PHONY: docs manual
