#!/usr/bin/env bash
# The private broker and database of this checkout (under .local/, on free ports of 127.0.0.1).
#
#   stack.sh up               installs what is missing, starts both, leaves them running; writes .local/env.sh. Twice = once.
#   stack.sh env              prints `export KURIR_AMQP_URL=... KURIR_DATABASE_URL=... KURIR_RABBITMQ_MANAGEMENT_URL=...`
#   stack.sh run COMMAND...   starts them, runs COMMAND with that environment, stops them, ends with COMMAND's exit code. Servers that
#                             `up` or another `run` needs are left running. Processes that COMMAND left behind are ended and named.
#   stack.sh own-database NAME  prints the address of a further database of the private server (made if missing); where
#                             another server is used, KURIR_DATABASE_URL as it is
#   stack.sh status           what runs where
#   stack.sh down             stops both
#   stack.sh wipe             stops both and deletes their data
#   stack.sh tools            checks for cargo and a C compiler, installs the latter where it is missing
#   stack.sh monitoring-tools installs prometheus and promtool where they are missing
#
# Where KURIR_AMQP_URL or KURIR_DATABASE_URL is set, that server is used and the private one is not started.
#
# For tests that restart or kill a server: any number of further ones, each known by a folder of its own (made if missing):
#
#   stack.sh broker   start|stop|kill|pause|resume|running|env|destroy DIR
#   stack.sh database start|stop|kill|pause|resume|running|env|destroy DIR
#
# start prints the same exports as env, and works after stop and kill: same data, same ports (others, if they were taken meanwhile).
# kill is kill -9, pause and resume are SIGSTOP and SIGCONT of all its processes, destroy kills and deletes DIR. running tells by
# its exit code. What a test started below `stack.sh run` and forgot is destroyed at the end of the run.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
root=$(cd "$here/../.." && pwd -P)
local_dir=$root/.local

note() { echo "stack: $*" >&2; }
fail() { echo "stack: $*" >&2 && exit 1; }
usage() { sed -n '2,/^set -euo/{s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}" >&2 && exit 2; }

# shellcheck source=deploy/local/processes.sh
. "$here/processes.sh"
# shellcheck source=deploy/local/slots.sh
. "$here/slots.sh"
# shellcheck source=deploy/local/install.sh
. "$here/install.sh"

# ---- one server -------------------------------------------------------------------------------------------------------------------

declare -A SCRIPT=([broker]=$here/rabbitmq.sh [database]=$here/postgres.sh)
readonly PORT_RETRIES=5

server() { # KIND COMMAND DIR
  local kind=$1 command=$2 dir
  dir=$(realpath -m "$3")
  case $command in
    start)
      install_for "$kind"
      start_server "$kind" "$dir"
      exports "$kind" "$dir" ;;
    env) [ -s "$dir/port" ] || fail "no $kind was started in $dir" && exports "$kind" "$dir" ;;
    stop | kill | pause | resume | running)
      if [ ! -s "$dir/port" ]; then # never started: nothing to stop
        if [ "$command" = running ]; then return 1; else return 0; fi
      fi
      "${SCRIPT[$kind]}" "$command" "$(place "$dir" "$kind")" "$(cat "$dir/port")" ;;
    destroy)
      if [ ! -e "$dir" ]; then return; fi
      [ -e "$dir/lock" ] || fail "no $kind was started in $dir, so it is not deleted"
      destroy_server "$kind" "$dir" ;;
    *) usage ;;
  esac
}

declare -A PACKAGE=([broker]=rabbitmq-server [database]=postgresql [compiler]=gcc [monitoring]=prometheus)
install_for() { # broker, database, compiler, monitoring; one at a time
  local what packages=()
  for what in "$@"; do packages+=("${PACKAGE[$what]}"); done
  mkdir -p "$local_dir"
  (flock 7 && ensure_installed "${packages[@]}" 7>&-) 7>"$local_dir/install.lock"
}

start_server() { # KIND DIR, one at a time per DIR: a second caller waits and then finds it running
  local kind=$1 dir=$2 home port attempt
  mkdir -p "$dir"
  open_registry
  (
    flock 8
    home=$(place "$dir" "$kind")
    if [ -s "$dir/port" ] && "${SCRIPT[$kind]}" running "$home" "$(cat "$dir/port")" 8>&-; then
      "${SCRIPT[$kind]}" start "$home" "$(cat "$dir/port")" 8>&-
      exit
    fi
    # A leftover of a kill -9 (epmd, a backend) may still hold our own ports.
    "${SCRIPT[$kind]}" kill "$home" "$(cat "$dir/port" 2>/dev/null || echo 0)" 8>&-
    for ((attempt = 1; ; attempt++)); do
      port=$(reserve "$dir" "$kind" 8>&-)
      if "${SCRIPT[$kind]}" start "$home" "$port" 8>&-; then exit; fi
      # Somebody who knows no registry may have taken the port since we looked.
      if ! slot_taken "$port" "$kind" || [ "$attempt" -ge "$PORT_RETRIES" ]; then fail "the $kind does not start; its data is in $home"; fi
      note "port $port was taken meanwhile, choosing others"
    done
  ) 8>"$dir/lock"
}

reserve() { # DIR KIND
  (
    flock 9
    sweep_registry >&2 9>&-
    choose_slot "$1" "$2"
  ) 9>"$registry/lock"
}

exports() { # KIND DIR
  local port home password
  port=$(cat "$2/port") home=$(place "$2" "$1")
  password=$(cat "$home/password")
  case $1 in
    broker)
      echo "export KURIR_AMQP_URL=amqp://kurir:$password@127.0.0.1:$port/%2f"
      echo "export KURIR_RABBITMQ_MANAGEMENT_URL=http://kurir:$password@127.0.0.1:$((port + 1))" ;;
    database) echo "export KURIR_DATABASE_URL=postgres://postgres:$password@127.0.0.1:$port/kurir" ;;
  esac
}

destroy_server() { # KIND DIR
  local kind=$1 dir=$2 away port
  port=$(cat "$dir/port" 2>/dev/null || echo 0)
  away=$registry/data/$(digest "$dir")
  "${SCRIPT[$kind]}" kill "$dir" "$port"
  "${SCRIPT[$kind]}" kill "$away" "$port"
  if [ "$(owner_of "$port")" = "$dir" ]; then rm -f "$registry/slots/$port"; fi
  rm -rf "$away" "$dir"
}

sweep_registry() { # servers whose folder was deleted under them
  local entry dir kind
  for entry in "$registry"/slots/*; do
    [ -e "$entry" ] || continue
    { read -r dir && read -r kind; } <"$entry" || continue
    if [ ! -d "$dir" ]; then
      destroy_server "$kind" "$dir"
      rm -f "$entry"
    fi
  done
}

# ---- the stack of this checkout ---------------------------------------------------------------------------------------------------

wants() { # KIND: no address was given from outside
  case $1 in
    broker) [ -z "${KURIR_AMQP_URL:-}" ] ;;
    database) [ -z "${KURIR_DATABASE_URL:-}" ] ;;
  esac
}

start_stack() {
  local kind kinds=() jobs=() job
  for kind in broker database; do
    if wants "$kind"; then kinds+=("$kind"); fi
  done
  install_for "${kinds[@]}"
  for kind in "${kinds[@]}"; do start_server "$kind" "$local_dir/$kind" & jobs+=($!); done
  for job in "${jobs[@]}"; do wait "$job" || fail "could not start the private servers"; done
}

stop_stack() {
  server broker stop "$local_dir/broker" &
  server database stop "$local_dir/database"
  wait
  rm -f "$local_dir/env.sh"
}

print_environment() {
  local kind
  for kind in broker database; do
    if wants "$kind"; then server "$kind" env "$local_dir/$kind"; fi
  done
  if ! wants broker; then
    printf 'export KURIR_AMQP_URL=%q\n' "$KURIR_AMQP_URL"
    if [ -n "${KURIR_RABBITMQ_MANAGEMENT_URL:-}" ]; then printf 'export KURIR_RABBITMQ_MANAGEMENT_URL=%q\n' "$KURIR_RABBITMQ_MANAGEMENT_URL"; fi
  fi
  if ! wants database; then printf 'export KURIR_DATABASE_URL=%q\n' "$KURIR_DATABASE_URL"; fi
}

# Who needs the stack: a file per running `run`, and `up` for the one who said so. A holder that was killed does not count.
holders=$local_dir/holders
started_at() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d ' ' -f 20; }
hold() { mkdir -p "$holders" && echo "${2:-}" >"$holders/$1"; }
others_hold() {
  local file pid
  for file in "$holders"/*; do
    [ -e "$file" ] || continue
    pid=${file##*/}
    if [ "$pid" = up ] || { [ "$pid" != "$$" ] && [ "$(started_at "$pid")" = "$(cat "$file")" ]; }; then return 0; fi
    rm -f "$file"
  done
  return 1
}

run() {
  local code=0 child
  [ $# -gt 0 ] || usage
  mkdir -p "$local_dir"
  (flock 6 && hold "$$" "$(started_at $$)") 6>"$local_dir/lock"
  trap 'finish' EXIT
  trap 'exit 129' HUP
  trap 'exit 130' INT
  trap 'exit 143' TERM
  start_stack
  local environment
  environment=$(print_environment)
  eval "$environment"
  KURIR_STACK_RUN=$$-$(started_at $$)
  export KURIR_STACK_RUN
  # In the background, so that a signal reaches us at once; with its own handling of SIGINT, which a terminal sends to both.
  (trap - INT && exec "$@") <&0 &
  child=$!
  trap 'kill -HUP "$child" 2>/dev/null || true' HUP
  trap ':' INT
  trap 'kill -TERM "$child" 2>/dev/null || true' TERM
  while :; do
    code=0
    wait "$child" || code=$?
    kill -0 "$child" 2>/dev/null || break
  done
  exit "$code"
}

finish() {
  local code=$? pid exe left=() entry dir kind owner
  trap '' HUP INT TERM
  trap - EXIT
  wait # a start that was interrupted
  if [ -n "${KURIR_STACK_RUN:-}" ]; then
    for pid in $(pids_with_environment "KURIR_STACK_RUN=$KURIR_STACK_RUN"); do
      exe=$(readlink "/proc/$pid/exe" 2>/dev/null || true)
      case $exe in
        "$root"/* | "${CARGO_TARGET_DIR:-$root}"/*) left+=("$pid") && note "left behind by the command, ended: $pid ${exe##*/}" ;;
      esac
    done
    signal KILL "${left[*]}"
    for entry in "$registry"/slots/*; do
      [ -e "$entry" ] || continue
      { read -r dir && read -r kind && read -r owner; } <"$entry" || continue
      if [ "$owner" = "$KURIR_STACK_RUN" ]; then note "left behind by the command, destroyed: $kind in $dir" && destroy_server "$kind" "$dir"; fi
    done
  fi
  exec 6>"$local_dir/lock"
  flock 6
  rm -f "$holders/$$"
  if ! others_hold; then (unset KURIR_AMQP_URL KURIR_DATABASE_URL && stop_stack) 6>&- || true; fi
  exit "$code"
}

own_database() { # NAME
  local dir=$local_dir/database private=''
  if [ -s "$dir/port" ]; then private=$(exports database "$dir" | sed 's/^export KURIR_DATABASE_URL=//'); fi
  if [ "${KURIR_DATABASE_URL:-$private}" != "$private" ]; then
    echo "$KURIR_DATABASE_URL"
    return
  fi
  [ -n "$private" ] || fail "the private database was not started"
  "${SCRIPT[database]}" create "$(place "$dir" database)" "$(cat "$dir/port")" "$1"
  echo "${private%/*}/$1"
}

status() {
  local kind
  for kind in broker database; do
    if ! wants "$kind"; then echo "$kind: given from outside"
    elif server "$kind" running "$local_dir/$kind"; then echo "$kind: running on port $(cat "$local_dir/$kind/port")"
    else echo "$kind: not running"; fi
  done
}

command=${1:-}
[ $# -gt 0 ] && shift
case $command in
  up)
    start_stack
    (flock 6 && hold up && umask 077 && print_environment >"$local_dir/env.sh") 6>"$local_dir/lock"
    print_environment ;;
  env) print_environment ;;
  run) run "$@" ;;
  own-database)
    [ $# = 1 ] || usage
    open_registry
    own_database "$1" ;;
  status) status ;;
  down)
    rm -f "$holders/up"
    unset KURIR_AMQP_URL KURIR_DATABASE_URL
    stop_stack ;;
  wipe)
    unset KURIR_AMQP_URL KURIR_DATABASE_URL
    for kind in broker database; do destroy_server "$kind" "$local_dir/$kind"; done
    rm -rf "$local_dir" ;;
  tools)
    command -v cargo >/dev/null || fail "cargo is missing. Run:  curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y"
    install_for compiler ;;
  monitoring-tools) install_for monitoring ;;
  broker | database)
    [ $# = 2 ] || usage
    server "$command" "$@" ;;
  *) usage ;;
esac
