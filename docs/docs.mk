# The generated pages. `make docs` writes those that readers need in the repository (the page of variables, the picture),
# and tests/lint/generated compares what is committed with its source. The man pages stay in build/man: xchgd.8 has the
# table of variables in core/config_vars.c, the pages of section 3 come from core/xchg.h.

$(B)/generate: $(B)/obj/docs/generate.o $(B)/internal.a $(B)/.flags-link
	$(call say,LINK)$(CC) $(XLDFLAGS) -o $@ $(filter %.o %.a,$^)

$(B)/docs/configuration.md: $(B)/generate
	@mkdir -p $(@D)
	@$(B)/generate markdown >$@

$(B)/man/xchgd.8: docs/man/xchgd.8.in $(B)/generate
	@mkdir -p $(@D) $(B)/docs
	@$(B)/generate man >$(B)/docs/environment.8
	@sed -e '/^@ENVIRONMENT@$$/{' -e 'r $(B)/docs/environment.8' -e 'd' -e '}' $< >$@

# One run makes all pages of section 3, libxchg.3 as the last one.
MANUAL = $(B)/man/libxchg.3 $(B)/man/xchgd.8
$(B)/man/libxchg.3: docs/manual.py core/xchg.h docs/man/libxchg.3.in $(wildcard docs/man/examples/*.c) | need-manual
	$(call say,MAN )docs/manual.py $(@D)

manual: $(MANUAL) ## make the man pages of xchgd and of the library: build/man/*

# The picture of the threads, from the drawing in docs/threads.txt.
$(B)/docs/threads.svg: docs/threads.txt docs/picture.py | need-manual
	@mkdir -p $(@D)
	@docs/picture.py $< >$@

GENERATED = $(B)/docs/threads.svg $(B)/docs/configuration.md

docs: $(GENERATED) ## write the generated pages and pictures in docs anew
	@cp $(B)/docs/threads.svg docs/threads.svg
	@cp $(B)/docs/configuration.md docs/configuration.md

.PHONY: docs manual
