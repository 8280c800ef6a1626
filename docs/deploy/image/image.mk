# Images of containers, built by buildah without a daemon. docs/deploy/image.md says how they are used.
#
#   $(IMAGES)/xchgd-ARCH.tar            one static program and nothing else
#   $(IMAGES)/xchgd-plugins-ARCH.tar    Debian with xchgd, for plug-ins
#
# ARCH is amd64 or arm64, by default that of this machine. For the other one a cross compiler builds the program, with libraries of
# that machine's Debian packages, and qemu-user runs what has to run.

IMAGES = $(BUILD)/image
IMAGE = docs/deploy/image
# Not from the environment, where other projects have an ARCH with other names.
ifneq ($(origin ARCH),command line)
ARCH = $(if $(filter aarch64,$(shell uname -m)),arm64,amd64)
endif
IMAGE_FOLDER = $(IMAGES)/$(ARCH)
ARM64_LIBRARIES = $(IMAGES)/arm64/libraries
ifeq ($(ARCH)-$(shell uname -m),arm64-x86_64)
FOREIGN = yes
IMAGE_CC = aarch64-linux-gnu-gcc -L$(ARM64_LIBRARIES)/usr/lib/aarch64-linux-gnu \
           -Wl,-rpath-link,$(ARM64_LIBRARIES)/usr/lib/aarch64-linux-gnu:$(ARM64_LIBRARIES)/lib/aarch64-linux-gnu
IMAGE_OBJCOPY = aarch64-linux-gnu-objcopy
IMAGE_LIBRARIES = $(ARM64_LIBRARIES)/.unpacked
else ifneq ($(ARCH)-$(shell uname -m),$(filter amd64-x86_64 arm64-aarch64,$(ARCH)-$(shell uname -m)))
IMAGE_CC = $(error ARCH=$(ARCH): allowed are amd64 and arm64 on x86-64, arm64 on aarch64)
else
IMAGE_CC = $(CC)
IMAGE_OBJCOPY = $(OBJCOPY)
endif

image: $(IMAGE_LIBRARIES) | need-image ## an image with a static xchgd and nothing else: build/image/xchgd-ARCH.tar (ARCH=amd64 or arm64)
	@mkdir -p $(IMAGES)
	@$(MAKE) CC='$(IMAGE_CC)' BUILD=$(IMAGE_FOLDER) static >$(IMAGES)/static-$(ARCH).log 2>&1 || { cat $(IMAGES)/static-$(ARCH).log >&2; exit 1; }
	@$(IMAGE)/build.sh $(IMAGES)/xchgd-$(ARCH).tar $(ARCH) $(IMAGE)/Containerfile $(IMAGE_FOLDER)/static

image-plugins: $(IMAGES)/base-$(ARCH).tar $(IMAGE_LIBRARIES) | need-image ## an image with Debian and xchgd, for plug-ins: build/image/xchgd-plugins-ARCH.tar
	@$(MAKE) CC='$(IMAGE_CC)' BUILD=$(IMAGE_FOLDER)/dynamic VARIANT=release $(IMAGE_FOLDER)/dynamic/xchgd
	@mkdir -p $(IMAGE_FOLDER)/stripped && $(IMAGE_OBJCOPY) --strip-all $(IMAGE_FOLDER)/dynamic/xchgd $(IMAGE_FOLDER)/stripped/xchgd
	@$(if $(FOREIGN),$(IMAGE)/foreign.sh) $(IMAGE)/build.sh $(IMAGES)/xchgd-plugins-$(ARCH).tar $(ARCH) \
	  $(IMAGE)/Containerfile.plugins $(IMAGE_FOLDER)/stripped $(IMAGES)/base-$(ARCH).tar

# It is made once: a new one takes Debian's latest fixes.
$(IMAGES)/base-%.tar: $(IMAGE)/base.sh | need-image
	@mkdir -p $(@D)
	$(call say,BASE)$(IMAGE)/base.sh $@ $*

$(ARM64_LIBRARIES)/.unpacked: $(IMAGE)/cross.sh | need-image
	$(call say,LIBS)$(IMAGE)/cross.sh $(@D) && touch $@

image-sizes: ## the table of sizes in docs/deploy/image.md
	@PYTHONPATH=tests/ops:tests/live OPS_IMAGES=$(IMAGES) python3 -B tests/ops/image_sizes.py

# A part of check-release.
check-images: $(B)/xchgd $(B)/ops/package-lock.json | need-image need-ops ## build all images, for amd64 and arm64, test them (as root), and the manifests with Debian's kubectl
	@for arch in amd64 arm64; do $(MAKE) ARCH=$$arch image image-plugins || exit 1; done
	@OPS_IMAGES='$(abspath $(IMAGES))' $(RUN_ENV) OPS_FOLDER='$(abspath $(B))/ops' tests/run --limit 900 -o $(B)/tests/log-images tests/ops/release_images.py tests/ops/release_manifests.py

PACKAGES_image = buildah skopeo debian-archive-keyring $(if $(filter image-plugins check-images,$(MAKECMDGOALS)),mmdebstrap) \
                 $(if $(FOREIGN),gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user-static)
GOALS_image = image image-plugins check-images
GROUPS_OF_PACKAGES += image

.PHONY: image image-plugins image-sizes check-images
