#!/usr/bin/env bash
# `make dev`: all roles in one process on the private servers, beside a simulated Metakocka, until ctrl-C. A tenant `demo`
# is there with a connection to the simulator and a token, so that docs/events.md runs as it stands. The simulator keeps its
# state beside the database, in a file of the connection's id: the next start goes on where this one ended.
# Run by `stack.sh run`. SIMULATOR_PORT (8099) is the simulator's; DEV_FOLDER (.local) holds the files.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
: "${KURIR_AMQP_URL:?run it by: make dev}" "${KURIR_DATABASE_URL:?run it by: make dev}"
bin=${CARGO_TARGET_DIR:-$root/target}/debug
kurir=$bin/kurir
folder=${DEV_FOLDER:-$root/.local}
states=$folder/simulator
mkdir -p "$states"

note() { echo "dev: $*" >&2; }

# One for each folder: held as long as this script runs, by nothing that it starts.
lock=$folder/dev.lock
exec 5>>"$lock"
if ! flock -n 5; then
  note "already running in this checkout (process $(cat "$lock")): reach it in a second terminal by \`source $folder/dev.env\`," \
    "stop it with ctrl-C there, or by \`kill $(cat "$lock")\`"
  exit 1
fi
echo "$$" >"$lock"

# A key of this checkout only: what it seals stays readable the next time.
keys=$folder/keys.env
[ -s "$keys" ] || (umask 077; "$kurir" keys new --id dev >"$keys")
set -a
# shellcheck disable=SC1090
. "$keys"
set +a
export KURIR_METAKOCKA__ALLOW_PRIVATE_ADDRESSES=true KURIR_METAKOCKA__CALLS_PER_SECOND=0

"$kurir" migrate

connection() { # id and address of the connection to the simulator, if there is one
  "$kurir" connection list --tenant demo --limit 1000 --json | awk -F '"' '
    /^    "id":/ { id = $4 } /^    "system":/ { partner = $4 } /^    "account":/ { account = $4 } /^      "url":/ { url = $4 }
    /^  }/ { if (partner == "metakocka" && account == "default") print id, url; url = "" }'
}
"$kurir" tenant list --limit 1000 --json | grep -q '"id": "demo"' || "$kurir" tenant add demo --name 'make dev' >/dev/null
known=$(connection)
if [ -n "$known" ]; then
  address=${known#* }
  port=${address#http://127.0.0.1:} port=${port%%/*}
  if [ "${SIMULATOR_PORT:-$port}" != "$port" ]; then
    note "the connection of demo leads to $address: start with SIMULATOR_PORT=$port, or begin anew with deploy/local/stack.sh wipe"
    exit 1
  fi
  state=$states/${known%% *}.json
  if [ ! -s "$state" ] && [ "$("$kurir" links list --tenant demo --limit 1 --json)" != '[]' ]; then
    note "the database remembers records, and what the simulator held is gone ($state): their links lead nowhere." \
      "The simulator begins empty, with new ids; deploy/local/stack.sh wipe begins anew with both"
  fi
else
  port=${SIMULATOR_PORT:-8099}
  if compgen -G "$states/*.json" >/dev/null; then
    note "the database is a new one: what the simulator held beside the former one stays in $states, and it begins empty"
  fi
  printf '{"secret_key":"sim-key","company_id":"4711"}' |
    "$kurir" connection add --tenant demo --system metakocka --url "http://127.0.0.1:$port/rest/eshop/" >/dev/null
  known=$(connection)
  state=$states/${known%% *}.json
fi

up='' simulator=''
# shellcheck disable=SC2317 # the trap calls it
finish() { # the roles first: what they still do needs the simulator
  local process
  trap '' HUP INT TERM
  for process in $up $simulator; do
    if kill -TERM "$process" 2>/dev/null; then wait "$process" || true; fi
  done
}
trap finish EXIT
trap 'exit 143' TERM
trap 'exit 129' HUP

said=$(mktemp)
# In a session of its own: ctrl-C is for the roles, which still need it then.
setsid "$kurir" simulate metakocka --port "$port" --state "$state" >"$said" 5>&- &
simulator=$!
until grep -q '^companies' "$said"; do
  if ! kill -0 "$simulator" 2>/dev/null; then
    rm -f "$said"
    note "the simulator did not start; SIMULATOR_PORT chooses another port where there is no connection yet"
    exit 1
  fi
  sleep 0.1
done
rm -f "$said"

token=$folder/demo-token
(umask 077; "$kurir" token create --tenant demo --name dev | head -n 1 >"$token")
gateway=http://${KURIR_GATEWAY__LISTEN:-127.0.0.1:8080}
gateway=${gateway/0.0.0.0/127.0.0.1}
# For a second terminal: `source .local/dev.env`.
(umask 077; {
  printf 'export %s=%q\n' KURIR_AMQP_URL "$KURIR_AMQP_URL" KURIR_DATABASE_URL "$KURIR_DATABASE_URL" \
    KURIR_RABBITMQ_MANAGEMENT_URL "${KURIR_RABBITMQ_MANAGEMENT_URL:-}" KURIR_METAKOCKA__ALLOW_PRIVATE_ADDRESSES true \
    KURIR_URL "$gateway" KURIR_TOKEN "$(cat "$token")" SIMULATOR_URL "http://127.0.0.1:$port"
  if [ -n "${KURIR_AMQP__PREFIX:-}" ]; then
    printf 'export KURIR_AMQP__PREFIX=%q KURIR_EXCHANGE=%q\n' "$KURIR_AMQP__PREFIX" "$KURIR_AMQP__PREFIX.events"
  fi
  sed 's/^/export /' "$keys"
  # shellcheck disable=SC2016 # whoever reads the file expands it
  printf 'export PATH=%q:"$PATH"\n' "$bin"
} >"$folder/dev.env")

echo "database    $KURIR_DATABASE_URL"
echo "broker      $KURIR_AMQP_URL"
echo "management  ${KURIR_RABBITMQ_MANAGEMENT_URL:-not known (KURIR_RABBITMQ_MANAGEMENT_URL)}"
echo "gateway     $gateway/v1/events  (tenant demo, token in $token)"
echo "simulator   http://127.0.0.1:$port  (/_sim/ shows and breaks it; its state is in $state)"
echo "second terminal: source $folder/dev.env, then docs/events.md"

# In the background, so that a signal reaches us at once; a terminal sends its SIGINT to all of us.
"$kurir" up "$@" <&0 5>&- &
up=$!
trap ':' INT
while :; do
  code=0
  wait "$up" || code=$?
  kill -0 "$up" 2>/dev/null || break
done
up=''
exit "$code"
