#!/usr/bin/env bash
# `make dev`: all roles in one process on the private servers, until ctrl-C. Run by `stack.sh run`.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
: "${KURIR_AMQP_URL:?run it by: make dev}" "${KURIR_DATABASE_URL:?run it by: make dev}"
kurir=${CARGO_TARGET_DIR:-$root/target}/debug/kurir
echo "database    $KURIR_DATABASE_URL"
echo "broker      $KURIR_AMQP_URL"
echo "management  ${KURIR_RABBITMQ_MANAGEMENT_URL:-not known (KURIR_RABBITMQ_MANAGEMENT_URL)}"
"$kurir" migrate
exec "$kurir" up "$@"
