#!/bin/sh
# Makes the base image of Containerfile.plugins from Debian's packages: the smallest Debian with apt, and libjemalloc2.
#
#   docs/deploy/image/base.sh ROOT.tar ARCHITECTURE [SUITE]
#
# Leaves out manual pages and translations, as Debian's own slim images do; licences stay. MIRROR is another mirror. Needs root:
# mmdebstrap runs in namespaces of its own, and for another machine under qemu-user.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
tar=$1 architecture=$2 suite=${3:-bookworm}
cd "$(dirname "$tar")"
name=$(basename "$tar")
set -- --mode=root --architectures="$architecture" --variant=minbase --include=libjemalloc2 --skip=check/qemu
for path in /usr/share/man /usr/share/locale /usr/share/info /usr/share/doc; do
  set -- "$@" "--dpkgopt=path-exclude=$path/*"
done
set -- "$@" '--dpkgopt=path-include=/usr/share/doc/*/copyright' --format=tar "$suite" "$name.new"
if ! SOURCE_DATE_EPOCH=0 timeout 900 "$here/foreign.sh" mmdebstrap "$@" ${MIRROR:+"$MIRROR"} >"$name.log" 2>&1; then
  cat "$name.log" >&2
  exit 1
fi
mv "$name.new" "$name"
