# The pages that come from the table in core/config_table.c: the configuration page and the man page.
# `make docs` writes them; tests/lint/generated fails when what is committed differs from what the table says.

$(B)/generate: $(B)/obj/docs/generate.o $(B)/internal.a $(B)/.flags-link
	$(call say,LINK)$(CC) $(XLDFLAGS) -o $@ $(filter %.o %.a,$^)

$(B)/docs/configuration.md: $(B)/generate
	@mkdir -p $(@D)
	@$(B)/generate markdown >$@

$(B)/docs/xchgd.8: docs/man/xchgd.8.in $(B)/generate
	@mkdir -p $(@D)
	@$(B)/generate man >$(B)/docs/environment.8
	@sed -e '/^@ENVIRONMENT@$$/{' -e 'r $(B)/docs/environment.8' -e 'd' -e '}' $< >$@

GENERATED = $(B)/docs/configuration.md $(B)/docs/xchgd.8

docs: $(GENERATED) ## write docs/configuration.md and docs/man/xchgd.8 anew from the table of variables
	@cp $(B)/docs/configuration.md docs/configuration.md
	@cp $(B)/docs/xchgd.8 docs/man/xchgd.8

.PHONY: docs
