#!/usr/bin/env bash
# postgres.sh start|stop|kill|pause|resume|running DATA_DIR PORT
# postgres.sh create DATA_DIR PORT NAME   a further database, unless it is there
#
# One private PostgreSQL on 127.0.0.1:PORT (TCP only: a socket's path is limited to 107 bytes, a checkout's is not), with a database
# `kurir` and the superuser `postgres`, whose password is the content of DATA_DIR/password (made here if missing). It refuses to run
# as root, so root starts it as the user `postgres` (PG_OS_USER), who must be able to reach DATA_DIR.
# pg_stat_statements is loaded, since tests count statements; `create extension pg_stat_statements` is left to whoever reads it.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=deploy/local/processes.sh
. "$here/processes.sh"

readonly START_SECONDS=60 STOP_SECONDS=20

command=$1 d=$(realpath -m "$2") port=$3
bin=${PG_BIN:-$(printf '%s\n' /usr/lib/postgresql/*/bin | sort -V | tail -n 1)}
data=$d/data

as_owner() { (cd "$d" && env -i HOME="$d" PATH="$PATH" LANG=C.UTF-8 "$@"); }
if [ "$(id -u)" = 0 ]; then
  owner=${PG_OS_USER:-postgres}
  if [ -d "$data" ]; then owner=$(stat -c %U "$data"); fi # sudo in a checkout that its user started before
  as_owner() { (cd "$d" && setpriv --reuid="$owner" --regid="$(id -g "$owner")" --init-groups env -i HOME="$d" PATH="$PATH" LANG=C.UTF-8 "$@"); }
fi
everything() { pids_working_in "$data"; }
nothing() { [ -z "$(everything)" ]; }
postmaster() { # the number in postmaster.pid, if that process is ours
  local pid
  pid=$(head -n 1 "$data/postmaster.pid" 2>/dev/null) || return 1
  [ "$(readlink "/proc/$pid/cwd" 2>/dev/null)" = "$data" ] && echo "$pid"
}
sweep() {
  signal KILL "$(everything)"
  wait_until 10 nothing
}
sql() { PGPASSWORD=$(cat "$d/password") "$bin/psql" -X -qAt -h 127.0.0.1 -p "$port" -U postgres -d postgres -c "$1"; }
initialise() { # in a folder of its own first: initdb that is killed half-way leaves one that looks finished
  rm -rf "$d/data.new"
  (umask 077 && head -c 15 /dev/urandom | base64 | tr -dc A-Za-z0-9 >"$d/password")
  if [ "$(id -u)" = 0 ]; then chown "$owner" "$d" "$d/password"; fi
  # "password" over loopback: scram costs the clients thousands of hash rounds per connection in a debug build.
  as_owner "$bin/initdb" -D "$d/data.new" -U postgres -A password --pwfile="$d/password" -E UTF8 --locale=C.UTF-8 --no-sync \
    >"$d/initdb.log" 2>&1 || { cat "$d/initdb.log" >&2 && return 1; }
  as_owner tee -a "$d/data.new/postgresql.conf" >/dev/null <<'CONF'
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
fsync = off                  # a killed server keeps what it wrote; only a power cut would not
full_page_writes = off
synchronous_commit = on      # off would lose acknowledged commits when the server is killed
wal_level = minimal
max_wal_senders = 0
max_connections = 300
shared_buffers = 128MB
shared_preload_libraries = 'pg_stat_statements'
log_min_duration_statement = 500
CONF
  mv "$d/data.new" "$data"
}
create() { if [ -z "$(sql "select 1 from pg_database where datname = '$1'")" ]; then sql "create database $1"; fi; }
start() {
  mkdir -p "$d"
  [ -s "$data/PG_VERSION" ] || initialise
  if ! postmaster >/dev/null; then
    wait_until 5 nothing || sweep # backends of a killed server leave by themselves
    rm -f "$data/postmaster.pid"
    if ! as_owner setsid "$bin/pg_ctl" -D "$data" -l "$d/server.log" -o "-p $port" -w -t "$START_SECONDS" start >/dev/null; then
      echo "postgres: no start on port $port; the end of $d/server.log:" >&2
      tail -n 15 "$d/server.log" >&2 || true
      sweep
      return 1
    fi
  fi
  wait_until 20 "$bin/pg_isready" -q -h 127.0.0.1 -p "$port" -U postgres -d postgres
  create kurir
}
stop() {
  local pid
  if pid=$(postmaster); then
    signal CONT "$(everything)"
    signal INT "$pid" # fast: clients are cut off, a checkpoint is written
    wait_until "$STOP_SECONDS" nothing || echo "postgres: not stopped in $STOP_SECONDS s, killed" >&2
  fi
  sweep
}

case $command in
  start) start ;;
  stop) stop ;;
  kill) sweep ;;
  pause) signal STOP "$(everything)" ;;
  resume) signal CONT "$(everything)" ;;
  running) postmaster >/dev/null ;;
  create) create "$4" ;;
  *) sed -n 2,4p "$0" >&2 && exit 2 ;;
esac
