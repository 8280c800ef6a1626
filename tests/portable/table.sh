#!/bin/sh
# Builds the table of system calls for aarch64 and prints it.
#
#   tests/portable/table.sh FOLDER HERE     (HERE: the same program for this machine)
#
# A row needs at least one call on each machine. The calls that the kernel makes for probes exist on x86-64 only.
set -eu
folder=$1 here=$2
cd "$(dirname "$0")/../.."
mkdir -p "$folder"
aarch64-linux-gnu-gcc -std=gnu11 -D_GNU_SOURCE -I. -O2 -Wall -Wextra -Werror -static -o "$folder/table" \
  tests/lint/sandbox_table.c pool/sandbox_calls.c core/parse.c
qemu-aarch64 "$folder/table" >"$folder/aarch64"
"$here" >"$folder/here"

# rows FILE: the kinds and rows with a call.
rows() {
  awk '$5 != -1 { print $1, $2, $3 }' "$1" | sort -u
}

awk '!seen[$3 " " $4]++ { line[$3] = line[$3] " " $4 "=" $5 } END { for (row in line) print row ":" line[row] }' "$folder/aarch64" | sort
rows "$folder/here" >"$folder/here.rows"
rows "$folder/aarch64" >"$folder/aarch64.rows"
missing=$(comm -23 "$folder/here.rows" "$folder/aarch64.rows" | grep -v ' uretprobe$' || true)
if [ -n "$missing" ]; then
  echo "rows without a call on aarch64:"
  echo "$missing"
  exit 1
fi
for kind in main acceptor worker admin log handler; do
  echo "table: aarch64: $kind: $(grep "^$kind " "$folder/aarch64.rows" | grep -vc ' kill ') rows," \
    "$(awk -v kind="$kind" '$1 == kind && $2 != "kill" && $5 != -1' "$folder/aarch64" | wc -l) calls"
done
