#!/bin/sh
# Runs a command as root in namespaces of its own, in which programs of arm64 run under qemu-user.
#
#   docs/deploy/image/foreign.sh COMMAND...
#
# The kernel keeps the table of binary formats in the user namespace, since Linux 6.7. So nothing changes on the machine itself,
# and the table ends with the command. All users keep their ids. Needs root and qemu-aarch64-static.
set -eu
if [ "$1" != --inside ]; then
  folder=$(mktemp -d)
  trap 'rm -rf "$folder"' EXIT
  trap 'exit 1' HUP INT TERM
  mkfifo "$folder/begun" "$folder/mapped"
  unshare --user --mount --pid --fork --kill-child --mount-proc sh "$0" --inside "$folder" "$@" &
  child=$!
  # The namespaces end with their first process.
  trap 'kill -KILL "$child" $(cat "/proc/$child/task/$child/children") || true; rm -rf "$folder"' EXIT
  read -r _ <"$folder/begun" # unshare has made the namespaces
  echo '0 0 65536' >"/proc/$child/uid_map"
  echo '0 0 65536' >"/proc/$child/gid_map"
  echo >"$folder/mapped"
  code=0
  wait "$child" || code=$?
  trap 'rm -rf "$folder"' EXIT
  exit "$code"
fi
folder=$2
shift 2
echo >"$folder/begun"
read -r _ <"$folder/mapped"
table=/proc/sys/fs/binfmt_misc
mount -t binfmt_misc none "$table"
# An ELF file of 64 bits for machine 183; F: the interpreter is opened now, so that it also serves in another root.
magic='\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00'
mask='\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff'
printf '%s' ":xchg-arm64:M::$magic:$mask:$(command -v qemu-aarch64-static):F" >"$table/register"
exec setpriv --reuid 0 --regid 0 --clear-groups "$@"
