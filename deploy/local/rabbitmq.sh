#!/usr/bin/env bash
# rabbitmq.sh start|stop|kill|pause|resume|running|ctl DATA_DIR PORT [arguments of rabbitmqctl]
#
# One private RabbitMQ node. Ports: PORT amqp, +1 management, +2 prometheus, +3 distribution, +4 epmd, all on 127.0.0.1.
# Debian's /usr/sbin/rabbitmq-server changes to the system's data and refuses every user but root and rabbitmq, so the scripts behind
# it are called; `env -i` and absent files of /etc/rabbitmq keep the system's configuration out. Each node has its own epmd, else two
# nodes meet in one; the node's name has no port in it, so that its data survives a change of ports.
# User and password: kurir and the content of DATA_DIR/password (made here if missing).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=deploy/local/processes.sh
. "$here/processes.sh"

readonly START_SECONDS=120 STOP_SECONDS=30

command=$1 d=$(realpath -m "$2") port=$3
shift 3
bin=${RABBITMQ_BIN:-/usr/lib/rabbitmq/bin}

environment=(
  HOME="$d/home" LANG=C.UTF-8 PATH="$PATH" RABBITMQ_BASE="$d" RABBITMQ_NODENAME=kurir@localhost
  RABBITMQ_MNESIA_BASE="$d/mnesia" RABBITMQ_LOG_BASE="$d/log" RABBITMQ_PID_FILE="$d/rabbit.pid"
  RABBITMQ_CONFIG_FILE="$d/rabbitmq.conf" RABBITMQ_CONF_ENV_FILE="$d/absent-env.conf"
  RABBITMQ_ADVANCED_CONFIG_FILE="$d/absent.config" RABBITMQ_ENABLED_PLUGINS_FILE="$d/enabled_plugins"
  RABBITMQ_DIST_PORT=$((port + 3)) ERL_EPMD_PORT=$((port + 4)) ERL_EPMD_ADDRESS=127.0.0.1
  ERL_CRASH_DUMP="$d/log/erl_crash.dump"
)
# Schedulers that spin while idle (+sbwt) take the CPU from the tests.
erlang="+sbwt none +sbwtdcpu none +sbwtdio none -kernel inet_dist_use_interface {127,0,0,1}"

ctl() { (cd "$d" && env -i "${environment[@]}" "$bin/rabbitmqctl" "$@"); }
everything() { pids_with_environment "RABBITMQ_BASE=$d"; }
nothing() { [ -z "$(everything)" ]; }
node() { # the node itself: rabbitmqctl is a beam.smp too, but without the mark
  local pid
  for pid in $(pids_with_environment "KURIR_SERVER=$d"); do
    if [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = beam.smp ]; then echo "$pid"; fi
  done
}
no_node() { [ -z "$(node)" ]; }
sweep() { # epmd and helpers outlive their node
  signal KILL "$(everything)"
  wait_until 10 nothing
}
configure() {
  mkdir -p "$d"/{home,log,mnesia}
  [ -s "$d/home/.erlang.cookie" ] || (umask 077 && head -c 24 /dev/urandom | base64 | tr -dc A-Za-z0-9 >"$d/home/.erlang.cookie")
  chmod 400 "$d/home/.erlang.cookie"
  [ -s "$d/password" ] || (umask 077 && head -c 15 /dev/urandom | base64 | tr -dc A-Za-z0-9 >"$d/password")
  echo '[rabbitmq_management,rabbitmq_prometheus].' >"$d/enabled_plugins"
  (
    umask 077
    cat >"$d/rabbitmq.conf" <<CONF
listeners.tcp.default = 127.0.0.1:$port
management.tcp.ip = 127.0.0.1
management.tcp.port = $((port + 1))
prometheus.tcp.ip = 127.0.0.1
prometheus.tcp.port = $((port + 2))
default_user = kurir
default_pass = $(cat "$d/password")
log.console = false
log.file = rabbit.log
log.file.level = info
disk_free_limit.absolute = 50MB
vm_memory_high_watermark.absolute = 1GB
CONF
  )
}
up() { grep -q 'completed with' "$d/log/stdout.log" 2>/dev/null; } # "completed with N plugins" is the last line of a start
up_or_gone() { up || ! kill -0 "$launcher" 2>/dev/null; }
start() {
  if no_node; then
    sweep
    configure
    rm -f "$d/rabbit.pid"
    : >"$d/log/stdout.log"
    (cd "$d" && exec setsid env -i "${environment[@]}" KURIR_SERVER="$d" RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="$erlang" \
      "$bin/rabbitmq-server" >"$d/log/stdout.log" 2>&1 </dev/null) &
    launcher=$!
    wait_until "$START_SECONDS" up_or_gone || true
  fi
  if ! wait_until 5 up || no_node; then
    echo "rabbitmq: no start on port $port; the end of $d/log:" >&2
    tail -n 15 "$d/log/stdout.log" "$d/log/rabbit.log" >&2 2>/dev/null || true
    sweep
    return 1
  fi
}
stop() {
  local pids
  pids=$(node)
  if [ -n "$pids" ]; then
    signal CONT "$(everything)"
    signal TERM "$pids" # Erlang takes it as init:stop(): a clean stop, and faster than rabbitmqctl
    wait_until "$STOP_SECONDS" no_node || echo "rabbitmq: not stopped in $STOP_SECONDS s, killed" >&2
  fi
  sweep
}

case $command in
  start) start ;;
  stop) stop ;;
  kill) sweep ;;
  pause) signal STOP "$(everything)" ;;
  resume) signal CONT "$(everything)" ;;
  running) ! no_node ;;
  ctl) ctl "$@" ;;
  *) sed -n 2,3p "$0" >&2 && exit 2 ;;
esac
