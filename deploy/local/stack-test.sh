#!/usr/bin/env bash
# Tests stack.sh with real servers, on copies of this folder in a temporary one: two checkouts at once, kill -9, taken ports, a folder
# that the user postgres cannot reach, a killed run, a killed initdb. Takes about a minute; `make stack-test`.
# shellcheck disable=SC2016 # the inner shells expand
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
unset KURIR_AMQP_URL KURIR_DATABASE_URL KURIR_RABBITMQ_MANAGEMENT_URL KURIR_STACK_RUN CARGO_TARGET_DIR
work=$(mktemp -d)
chmod 711 "$work" # as /tmp is: passable for the user postgres
export KURIR_REGISTRY=$work/registry
passed=0

# shellcheck source=deploy/local/processes.sh
. "$here/processes.sh"

ours() { # everything that runs below $work, by environment, working directory or command line
  { grep -lzsF -- "$work" /proc/[0-9]*/environ /proc/[0-9]*/cmdline || true; } | cut -d / -f 3 | sort -u | grep -vx -e "$$" || true
  local link
  for link in /proc/[0-9]*/cwd; do
    case $(readlink "$link" 2>/dev/null) in "$work"*) cut -d / -f 3 <<<"$link" ;; esac
  done
}
servers() { # of those: servers only
  local pid
  for pid in $(ours | sort -u); do
    case $(cat "/proc/$pid/comm" 2>/dev/null) in beam.smp | epmd | postgres | erl_child_setup | inet_gethost) echo "$pid" ;; esac
  done
}
cleanup() {
  signal KILL "$(servers)"
  rm -rf "$work"
}
trap cleanup EXIT
check() { # TEXT COMMAND...
  local text=$1
  shift
  if "$@"; then passed=$((passed + 1)) && echo "ok    $text"; else echo "FAILED $text" >&2 && exit 1; fi
}
checkout() {
  mkdir -p "$work/$1/deploy" && cp -r "$here" "$work/$1/deploy/local" && echo "$work/$1/deploy/local/stack.sh"
}
port() { cat "$work/$1/.local/$2/port"; }
psql=$(printf '%s\n' "${PG_BIN:-/absent}"/psql /usr/lib/postgresql/*/bin/psql | sort -V | tail -n 1)
sql() { (eval "$("$1" env)" && "$psql" -X -qAt "$KURIR_DATABASE_URL" -c "$2"); } # STACK STATEMENTS
works() {                                                                            # STACK: both servers answer to what `env` names
  local amqp
  same 1 "$(sql "$1" "create table if not exists seen (n int); insert into seen values (1);
    select count(*) from pg_available_extensions where name = 'pg_stat_statements'" 2>/dev/null)" || return 1
  amqp=$(eval "$("$1" env)" && echo "${KURIR_AMQP_URL#*@}") && amqp=${amqp%%/*}
  printf 'AMQP\x00\x00\x09\x01' | timeout 5 bash -c 'exec 5<>"/dev/tcp/$1/$2" && cat >&5 && head -c 1 <&5' - "${amqp%:*}" "${amqp#*:}" | od -An -tx1 | grep -q 01
}
rows() { sql "$1" 'select count(*) from seen'; }
no_servers() { [ -z "$(servers)" ]; }
fails() { ! "$@"; }
same() { [ "$1" = "$2" ]; }
differ() { [ "$1" != "$2" ]; }

a=$(checkout a) b=$(checkout b)

"$a" up >/dev/null & first=$!
"$b" up >/dev/null & second=$!
wait "$first"
wait "$second"
check "two checkouts started at the same moment both work" works "$a"
check "the second one too" works "$b"
check "on different ports" differ "$(port a broker) $(port a database)" "$(port b broker) $(port b database)"
before=$(servers | sort)
"$a" up >/dev/null
check "up twice starts nothing more" same "$before" "$(servers | sort)"
check "status says so" grep -q "running on port $(port a broker)" <<<"$("$a" status)"

code=0; "$a" run sh -c 'test -n "$KURIR_AMQP_URL" && exit 7' || code=$?
check "run hands over the exit code" same "$code" 7
check "run leaves a stack alone that up started" works "$a"

further=$("$a" own-database further)
check "a further database beside the first" same "$("$psql" -X -qAt "$further" -c 'select current_database()')" further
check "is made once" same "$further" "$("$a" own-database further)"
check "and is not made where another server is used" same "$(KURIR_DATABASE_URL=postgres://elsewhere/x "$a" own-database further)" postgres://elsewhere/x

"$b" down
check "down of one leaves the other" works "$a"
had="$(port a broker) $(port a database)"
signal KILL "$(servers | while read -r pid; do [ "$(cat "/proc/$pid/comm")" != epmd ] && echo "$pid"; done)"
"$a" up >/dev/null
check "up after kill -9 of everything but epmd" works "$a"
check "with the ports of before" same "$had" "$(port a broker) $(port a database)"
check "and the data of before" same "$(rows "$a")" 4
"$a" down
check "down leaves no process" no_servers

python=$(command -v python3 || true)
if [ -n "$python" ]; then
  touch "$work/held"
  "$python" -c "
import socket, sys, time
held = []
for port in map(int, sys.argv[1:]):
    s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); s.bind(('0.0.0.0', port)); s.listen(); held.append(s)
print('held', flush=True); time.sleep(600)" $(($(port a broker) + 3)) "$(port a database)" >"$work/held" &
  squatter=$!
  wait_until 10 grep -q held "$work/held"
  "$a" up >/dev/null
  check "a taken port makes it choose others" works "$a"
  check "for both servers" differ "$had" "$(port a broker) $(port a database)"
  check "and keeps the data" same "$(rows "$a")" 5
  kill "$squatter"
  "$a" down
fi

"$a" run sleep 600 & holder=$!
wait_until 60 works "$a" 2>/dev/null
wait_until 10 pgrep -P "$holder" -x sleep >/dev/null
kill -9 "$holder"
wait "$holder" 2>/dev/null || true
pkill -9 -P "$holder" 2>/dev/null || true
signal KILL "$(ours | while read -r pid; do [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = sleep ] && echo "$pid"; done)"
check "a run that was killed leaves the servers" works "$a"
"$a" run true
check "which the next run takes over and stops" no_servers

"$a" run sleep 600 & holder=$!
wait_until 60 works "$a" 2>/dev/null
sleep 1
kill -TERM "$holder"
code=0; wait "$holder" || code=$?
check "SIGTERM ends the command and the run" same "$code" 143
check "and the servers" no_servers

printf '#!/bin/sh\ncp "$(command -v sleep)" "$1/left-over"; "$1/left-over" 600 & exec "$2" broker start "$3" >/dev/null\n' >"$work/messy" && chmod +x "$work/messy"
"$a" run "$work/messy" "$work/a" "$a" "$work/forgotten" 2>"$work/messy.log"
check "a forgotten process is ended and named" grep -q 'left-over' "$work/messy.log"
check "a forgotten server is destroyed and named" grep -q 'broker in' "$work/messy.log"
check "and nothing is left" no_servers
check "nor its folder" fails test -e "$work/forgotten"

mkdir -p "$work/closed" && chmod 700 "$work/closed"
c=$(checkout "closed/with space")
"$c" up >/dev/null
check "a checkout in a closed folder with a space in its name" works "$c"
"$c" wipe
check "wipe leaves no process" no_servers
check "and no data" same "$(ls "$KURIR_REGISTRY/data")" ""

own=$work/closed/own
exports=$("$a" database start "$own")
check "a database of a test" grep -q KURIR_DATABASE_URL <<<"$exports"
"$a" database kill "$own"
check "is killed" fails "$a" database running "$own"
check "and starts again on the same port" same "$exports" "$("$a" database start "$own")"
mkdir -p "$work/precious"
check "a folder without a server is not destroyed" fails "$a" database destroy "$work/precious" 2>/dev/null
check "and stays" test -d "$work/precious"
"$a" database pause "$own" && "$a" database resume "$own"
rm -rf "$own"
"$a" up >/dev/null
"$a" wipe
check "one whose folder was deleted is swept away by the next start" no_servers

mkdir -p "$work/a/.local/database/data.new" && echo 15 >"$work/a/.local/database/data.new/PG_VERSION"
echo 1 >"$work/a/.local/database/port" && mkdir -p "$work/a/.local/broker" && echo 999999 >"$work/a/.local/broker/rabbit.pid"
"$a" up >/dev/null
check "leftovers of a killed initdb and stale files" works "$a"
KURIR_AMQP_URL=amqp://elsewhere/ "$b" run sh -c 'test "$KURIR_AMQP_URL" = amqp://elsewhere/ && test -n "$KURIR_DATABASE_URL"'
check "a given address skips that server" fails test -e "$work/b/.local/broker/rabbit.pid"
"$a" wipe
check "at the end nothing runs" no_servers
echo "$passed checks passed"
