# The Debian packages, from docs/deploy/debian.

deb: | need-deb ## build the Debian packages in build/deb (VERSION_OF_DEB=... replaces the version)
	@mkdir -p $(BUILD)/deb
	@docs/deploy/make-deb $(BUILD)/deb $(VERSION_OF_DEB) >$(BUILD)/deb/build.log 2>&1 || { tail -n 40 $(BUILD)/deb/build.log; exit 1; }
	@cd $(BUILD)/deb && ls *.deb | grep -v -e -dbgsym_ | xargs du -b --apparent-size

PACKAGES_deb = build-essential debhelper libjemalloc-dev python3 systemtap-sdt-dev
GOALS_deb = deb check-deb
GROUPS_OF_PACKAGES += deb

.PHONY: deb
