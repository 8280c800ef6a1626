# The generated pages. core/config_vars.c makes the page of variables and xchgd.8: `make docs` writes them, and
# tests/lint/generated compares what is committed with what the table says. core/xchg.h makes the section-3 pages,
# which stay in the build folder.

$(B)/generate: $(B)/obj/docs/generate.o $(B)/internal.a $(B)/.flags-link
	$(call say,LINK)$(CC) $(XLDFLAGS) -o $@ $(filter %.o %.a,$^)

$(B)/docs/configuration.md: $(B)/generate
	@mkdir -p $(@D)
	@$(B)/generate markdown >$@

$(B)/docs/xchgd.8: docs/man/xchgd.8.in $(B)/generate
	@mkdir -p $(@D)
	@$(B)/generate man >$(B)/docs/environment.8
	@sed -e '/^@ENVIRONMENT@$$/{' -e 'r $(B)/docs/environment.8' -e 'd' -e '}' $< >$@

# One run makes all pages of section 3, libxchg.3 as the last one.
MANUAL = $(B)/man/libxchg.3
$(MANUAL): docs/manual.py core/xchg.h docs/man/libxchg.3.in $(wildcard docs/man/examples/*.c) | need-manual
	$(call say,MAN )docs/manual.py $(@D)

manual: $(MANUAL) ## make the manual of the library: build/man/*.3

need-manual:
	@.ci/packages python3

# The picture of the threads, from the drawing in docs/threads.txt.
$(B)/docs/threads.svg: docs/threads.txt docs/picture.py
	@.ci/packages python3
	@mkdir -p $(@D)
	@docs/picture.py $< >$@

GENERATED = $(B)/docs/threads.svg $(B)/docs/configuration.md $(B)/docs/xchgd.8

docs: $(GENERATED) ## write the generated pages and pictures in docs anew
	@cp $(B)/docs/threads.svg docs/threads.svg
	@cp $(B)/docs/configuration.md docs/configuration.md
	@cp $(B)/docs/xchgd.8 docs/man/xchgd.8

.PHONY: docs manual need-manual
