# shellcheck shell=sh
# What the tests share. The server or program runs as this user, on a UNIX socket in a folder of its own.

folder=$(mktemp -d)
server=''
end() {
  [ -z "$server" ] || kill -KILL "$server" 2>/dev/null || true
  rm -rf "$folder"
}
trap end EXIT
trap 'exit 1' HUP INT TERM

fail() {
  echo "failed: $1" >&2
  exit 1
}

# start COMMAND...: run it until it listens.
start() {
  mkfifo "$folder/log"
  XCHG_LISTEN="unix:$folder/data.sock" "$@" 2>"$folder/log" &
  server=$!
  exec 3<"$folder/log"
  until
    read -r line <&3 || fail "$1 ended"
    echo "$line"
    case $line in *msg=listening*) true ;; *) false ;; esac
  do :; done
}

# stop: end it by a signal, and print the rest of its log.
stop() {
  kill -TERM "$server"
  cat <&3
  wait "$server" || fail "exit code $?"
  server=''
  rm "$folder/log"
  [ ! -e "$folder/data.sock" ] || fail 'the socket file is still there'
}

# same WHAT GOT EXPECTED
same() {
  [ "$2" = "$3" ] || fail "$1: '$2', expected '$3'"
  echo "$1: $2"
}
