#!/usr/bin/env bash
# The demo (`make demo`): DEMO_SEED chooses the day of events, KEEP=1 leaves everything running until ctrl-C. Run by `stack.sh run`,
# so the addresses of the servers are in the environment. On the private server it has a database of its own: its simulated
# partner ends with it, and what `make dev` looks at must not lead there.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
: "${KURIR_AMQP_URL:?run it by: make demo}" "${KURIR_DATABASE_URL:?run it by: make demo}"
KURIR_DATABASE_URL=$("$root/deploy/local/stack.sh" own-database kurir_demo)
export KURIR_DATABASE_URL
arguments=()
if [ -n "${DEMO_SEED:-}" ]; then arguments+=(--seed "$DEMO_SEED"); fi
if [ -n "${KEEP:-}" ]; then arguments+=(--keep); fi
exec "${CARGO_TARGET_DIR:-$root/target}/debug/kurir" demo "${arguments[@]}"
