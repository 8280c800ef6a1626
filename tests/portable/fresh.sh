#!/bin/sh
# README's commands on fresh Debian systems that have git and make only: tests/portable/fresh.sh FOLDER [SUITE...]
#
# For each suite, debootstrap makes a system in a folder of its own, from the mirror in apt's sources. In one copy, root
# types README's first block and its installation. In another copy, an ordinary user with sudo types the first block and
# `make check` (FRESH_CHECK=no leaves that out). Each system has its own processes and mounts. It uses the network of this
# machine, where port 7000 must be free. Every command has a time limit, and all systems are removed.
#
# The output is in FOLDER/SUITE-USER.log. The last line is `N passed, N failed`. A suite that cannot be loaded is skipped
# by name.
set -u
folder=$1
shift
mkdir -p "$folder" && folder=$(cd "$folder" && pwd) || exit 1
cd "$(dirname "$0")/../.." || exit 1
passed=0
failed=0

skip() { # everything
  echo "fresh: skipped: $1"
  echo '0 passed, 0 failed'
  exit 0
}
[ "$(id -u)" = 0 ] || skip 'debootstrap needs root'
unshare --mount --pid --fork true 2>/dev/null || skip 'no namespace of processes can be made here'
.ci/packages debootstrap git || skip 'debootstrap is not to be had'

mirror=$(sed -n -e 's/^URIs: *\([^ ]*debian\)\/* *$/\1/p' -e 's/^deb \(\[[^]]*\] \)*\([^ ]*debian\)\/* .*/\2/p' \
  /etc/apt/sources.list /etc/apt/sources.list.d/*.sources /etc/apt/sources.list.d/*.list 2>/dev/null | head -n 1)
work=$(mktemp -d "${TMPDIR:-/tmp}/xchg-fresh-XXXXXX") || exit 1
inner=''
end() {
  [ -z "$inner" ] || kill -KILL "$inner" 2>/dev/null # the first process of its namespace, which ends with it
  rm -rf --one-file-system "$work"
}
trap end EXIT
trap 'exit 1' HUP INT TERM

# What is typed. `make run` serves until its conversation is over.
cat >"$work/first" <<'COMMANDS'
set -eu
git clone -q /xchg.bundle xchg
cd xchg
timeout 900 make run >run.log 2>&1 &
server=$!
until grep -q msg=listening run.log; do
  kill -0 "$server" || { cat run.log; exit 1; }
  sleep 1
done
answer=$(printf 'hello\0' | nc 127.0.0.1 7000 | tr -d '\0')
echo "$answer"
[ "$answer" = 'Message from server' ]
kill -TERM "$server"
wait "$server" || true
COMMANDS
cat >"$work/root" <<'COMMANDS'
make install
cc docs/examples/echo.c $(pkg-config --cflags --libs xchg) -o build/echo
build/echo --version | grep -q '^libxchg '
COMMANDS
cat >"$work/user" <<'COMMANDS'
make install PREFIX=$HOME/.local
export PKG_CONFIG_PATH=$HOME/.local/lib/pkgconfig
cc docs/examples/echo.c $(pkg-config --cflags --libs xchg) -Wl,-rpath,$HOME/.local/lib -o build/echo
build/echo --version | grep -q '^libxchg '
[ "$FRESH_CHECK" = no ] || make check
COMMANDS

# enter SYSTEM USER: become a shell that types USER's commands in a system.
enter() {
  cat "$work/first" "$work/$2" >"$1/typed"
  # shellcheck disable=SC2016
  exec unshare --mount --pid --fork --kill-child sh -c '
    set -e
    mount -t proc proc "$1/proc"
    mount --rbind /dev "$1/dev"
    mount -t tmpfs tmpfs "$1/run"
    [ "$2" = user ] || exec chroot "$1" env -i HOME=/root PATH="$PATH" sh -c "cd; exec sh -x /typed"
    exec chroot "$1" su - user -c "FRESH_CHECK=$3 exec sh -x /typed"' sh "$1" "$2" "${FRESH_CHECK:-yes}" </dev/null
}

[ $# -gt 0 ] || set -- bookworm trixie
git bundle create -q "$work/xchg.bundle" HEAD || exit 1
for suite; do
  if ! timeout 900 debootstrap --variant=minbase --include=git,make,ca-certificates "$suite" "$work/$suite" "$mirror" \
    >"$folder/$suite.log" 2>&1; then
    echo "fresh: $suite: skipped: $(tail -n 1 "$folder/$suite.log")"
    continue
  fi
  cp "$work/xchg.bundle" "$work/$suite" && cp /etc/resolv.conf "$work/$suite/etc"
  for user in root user; do
    system=$work/$suite-$user
    cp -a --reflink=auto "$work/$suite" "$system"
    if [ $user = user ]; then
      chroot "$system" sh -c 'apt-get -qq update && apt-get -qq install -y --no-install-recommends sudo && useradd -m -s /bin/sh user &&
        echo "user ALL=(ALL) NOPASSWD: ALL" >/etc/sudoers.d/user' >"$folder/$suite-$user.log" 2>&1
    fi
    enter "$system" $user >>"$folder/$suite-$user.log" 2>&1 &
    inner=$!
    if wait "$inner"; then
      passed=$((passed + 1))
      echo "fresh: $suite as $user: passed"
    else
      failed=$((failed + 1))
      tail -n 40 "$folder/$suite-$user.log"
      echo "fresh: $suite as $user: FAILED, see $folder/$suite-$user.log"
    fi
    inner=''
    rm -rf --one-file-system "$system"
  done
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
