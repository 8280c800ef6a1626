# The Debian packages, from docs/deploy/debian.

deb: | need-deb ## build the Debian packages in build/deb, 30 s
	@mkdir -p $(BUILD)/deb
	@docs/deploy/make-deb $(BUILD)/deb >$(BUILD)/deb/build.log 2>&1 || { tail -n 40 $(BUILD)/deb/build.log; exit 1; }
	@cd $(BUILD)/deb && du -b --apparent-size $$(ls *.deb | grep -v -e -dbgsym_)

# The fresh Debian system stays in build/release/debian for the next run.
check-deb: all manual deb ## lintian, a second build, and install, upgrade, remove and purge in a fresh Debian system, at most 8 minutes
	@DEB_FOLDER='$(abspath $(BUILD))/deb' DEB_ROOT='$(abspath $(BUILD))/release/debian' \
	  tests/run --limit 1200 -o $(B)/tests/log-deb tests/release/test_debian.py; status=$$?; cat $(BUILD)/deb/report; exit $$status

PACKAGES_deb = build-essential debhelper libjemalloc-dev python3 systemtap-sdt-dev
GOALS_deb = deb check-deb
PACKAGES_check-deb = lintian debootstrap autopkgtest iproute2 binutils
GOALS_check-deb = check-deb
GROUPS_OF_PACKAGES += deb check-deb

.PHONY: deb check-deb
