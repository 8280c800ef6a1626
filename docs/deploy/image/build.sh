#!/bin/sh
# Builds one image with buildah, without a daemon, and writes it as an OCI archive.
#
#   docs/deploy/image/build.sh ARCHIVE ARCHITECTURE CONTAINERFILE CONTEXT [BASE]
#
# ARCHITECTURE is amd64 or arm64. CONTEXT is the folder with the program. BASE is a tar archive with the files of the base image. All
# times in the image are 0, so that the same program gives the same digest. The storage of buildah is a folder of its own, which is
# removed at the end. Prints the digest and the bytes of the program and of the archive.
set -eu
archive=$1 architecture=$2 containerfile=$3 context=$4 base=${5:-}
name=localhost/$(basename "$archive" "-$architecture.tar")
version=$(sed -n 's/^#define XCHG_VERSION "\(.*\)"/\1/p' "$(dirname "$0")/../../../core/xchg.h")
folder=$(mktemp -d "$(dirname "$archive")/storage.XXXXXX")
# The storage of an ordinary user has folders without the right to write.
trap 'chmod -R u+rwX "$folder"; rm -rf "$folder"' EXIT
trap 'exit 1' HUP INT TERM

# buildah COMMAND...: with a storage of its own; its messages are shown only if it fails.
in_storage() {
  timeout 300 buildah --root "$folder/root" --runroot "$folder/run" --storage-driver vfs "$@" >"$folder/log" 2>&1 && return 0
  cat "$folder/log" >&2
  return 1
}

# The program alone, with fixed rights, so that nothing else of the context matters.
mkdir "$folder/context"
install -m 755 "$context/xchgd" "$folder/context/xchgd"
set -- --isolation chroot --format oci --timestamp 0 --identity-label=false --no-cache --platform "linux/$architecture"
if [ -n "$base" ]; then
  mkdir "$folder/base"
  ln "$base" "$folder/base/root.tar" 2>/dev/null || cp "$base" "$folder/base/root.tar"
  printf 'FROM scratch\nADD root.tar /\n' >"$folder/base/Containerfile"
  in_storage build "$@" --tag "$name-base" --file "$folder/base/Containerfile" "$folder/base"
  set -- "$@" --pull=never --build-arg "BASE=$name-base"
fi
in_storage build "$@" --label org.opencontainers.image.title=xchgd --label "org.opencontainers.image.version=$version" \
  --label org.opencontainers.image.licenses=MIT --tag "$name" --file "$containerfile" "$folder/context"
rm -f "$archive.new"
in_storage push --digestfile "$folder/digest" "$name" "oci-archive:$archive.new:$(basename "$name"):$version"
mv "$archive.new" "$archive"
echo "$archive: $(cat "$folder/digest"), program $(wc -c <"$context/xchgd") bytes, archive $(wc -c <"$archive") bytes"
