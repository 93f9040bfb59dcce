#!/usr/bin/env bash
# `make dev`: all roles in one process on the private servers, beside a simulated Metakocka, until ctrl-C. A tenant `demo`
# is there with a connection to the simulator and a token, so that the examples of docs/events.md run as they stand.
# Run by `stack.sh run`. SIMULATOR_PORT (8099) is the simulator's.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
: "${KURIR_AMQP_URL:?run it by: make dev}" "${KURIR_DATABASE_URL:?run it by: make dev}"
kurir=${CARGO_TARGET_DIR:-$root/target}/debug/kurir
port=${SIMULATOR_PORT:-8099}

# A key of this checkout only: what it seals stays readable the next time.
keys=$root/.local/keys.env
[ -s "$keys" ] || (umask 077; "$kurir" keys new --id dev >"$keys")
set -a
# shellcheck disable=SC1090
. "$keys"
set +a
export KURIR_METAKOCKA__ALLOW_PRIVATE_ADDRESSES=true KURIR_METAKOCKA__CALLS_PER_SECOND=0

"$kurir" migrate
"$kurir" simulate metakocka --port "$port" &
simulator=$!
trap 'kill "$simulator" 2>/dev/null || true' EXIT

"$kurir" tenant add demo --name 'make dev' >/dev/null 2>&1 || true
printf '{"secret_key":"sim-key","company_id":"4711"}' |
  "$kurir" connection add --tenant demo --system metakocka --url "http://127.0.0.1:$port/rest/eshop/" >/dev/null 2>&1 || true
token=$root/.local/demo-token
(umask 077; "$kurir" token create --tenant demo --name dev | head -n 1 >"$token")
# For a second terminal: `source .local/dev.env`.
(umask 077; {
  printf 'export %s=%q\n' KURIR_AMQP_URL "$KURIR_AMQP_URL" KURIR_DATABASE_URL "$KURIR_DATABASE_URL" \
    KURIR_RABBITMQ_MANAGEMENT_URL "${KURIR_RABBITMQ_MANAGEMENT_URL:-}" KURIR_METAKOCKA__ALLOW_PRIVATE_ADDRESSES true
  sed 's/^/export /' "$keys"
} >"$root/.local/dev.env")

echo "database    $KURIR_DATABASE_URL"
echo "broker      $KURIR_AMQP_URL"
echo "management  ${KURIR_RABBITMQ_MANAGEMENT_URL:-not known (KURIR_RABBITMQ_MANAGEMENT_URL)}"
echo "gateway     http://127.0.0.1:8080/v1/events  (tenant demo, token in .local/demo-token)"
echo "simulator   http://127.0.0.1:$port  (/_sim/ shows and breaks it)"
"$kurir" up "$@"
