#!/bin/sh
# Unpacks the libraries of arm64 that xchgd is linked with, for a cross compiler. Nothing is installed on the machine.
#
#   docs/deploy/image/cross.sh FOLDER [SUITE]
#
# MIRROR is another mirror of Debian. The libraries are then in FOLDER/usr/lib/aarch64-linux-gnu and FOLDER/lib/aarch64-linux-gnu.
set -eu
folder=$1 suite=${2:-bookworm}
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
state=$(mktemp -d)
trap 'rm -rf "$state"' EXIT
mkdir -p "$state/lists/partial" "$state/cache/archives/partial" "$state/packages"
keys=/usr/share/keyrings/debian-archive-keyring.gpg
echo "deb [signed-by=$keys] ${MIRROR:-http://deb.debian.org/debian} $suite main" >"$state/sources.list"
apt() {
  timeout 300 apt-get -qq -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o "Dir::Etc::sourcelist=$state/sources.list" \
    -o Dir::Etc::sourceparts=- -o "Dir::State::lists=$state/lists" -o "Dir::Cache=$state/cache" -o APT::Sandbox::User= "$@"
}
cd "$state/packages"
apt update
apt download libjemalloc-dev libjemalloc2 libstdc++6 libgcc-s1
for package in *.deb; do
  dpkg-deb --extract "$package" "$folder"
done
