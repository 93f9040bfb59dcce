# shellcheck shell=bash
# Finds RabbitMQ, PostgreSQL, a C compiler (Rust links with it) and Prometheus, and installs what is missing from the distribution
# (Debian, Ubuntu). Sourced by stack.sh.
#
# Only the programs are wanted: the packages would start a broker on 5672, a database on 5432 and a Prometheus on 9090 of the whole
# machine, so they are kept from it during the installation and switched off after it. What was installed before is not touched.

have_rabbitmq() { [ -x "${RABBITMQ_BIN:-/usr/lib/rabbitmq/bin}/rabbitmq-server" ]; }
have_postgres() {
  local bin=${PG_BIN:-$(printf '%s\n' /usr/lib/postgresql/*/bin | sort -V | tail -n 1)}
  [ -x "$bin/initdb" ] && [ -x "$bin/pg_ctl" ] && [ -x "$bin/psql" ] && [ -x "$bin/pg_isready" ]
}

have_prometheus() { [ -x "${PROMETHEUS_BIN:-/usr/bin}/prometheus" ] && [ -x "${PROMETHEUS_BIN:-/usr/bin}/promtool" ]; }
have_compiler() { command -v cc >/dev/null && [ -e /usr/include/stdlib.h ]; }

# ensure_installed PACKAGE...: rabbitmq-server, postgresql, gcc, prometheus.
ensure_installed() {
  local missing=() package as_root=()
  for package in "$@"; do
    case $package in
      rabbitmq-server) have_rabbitmq || missing+=("$package") ;;
      postgresql) have_postgres || missing+=("$package") ;;
      prometheus) have_prometheus || missing+=("$package") ;;
      gcc) have_compiler || missing+=("$package" libc6-dev) ;;
    esac
  done
  if [ "${#missing[@]}" = 0 ]; then return 0; fi

  if [ "$(id -u)" != 0 ]; then as_root=(sudo); fi
  if ! command -v apt-get >/dev/null; then
    fail "missing: ${missing[*]}, and this machine has no apt-get. Install them with its package manager and set RABBITMQ_BIN (folder of
  rabbitmq-server and rabbitmqctl), PG_BIN (folder of initdb and pg_ctl) and PROMETHEUS_BIN (folder of prometheus and promtool), or set KURIR_AMQP_URL and KURIR_DATABASE_URL to servers of yours."
  fi
  if [ "$(id -u)" != 0 ] && ! { command -v sudo >/dev/null && { [ -t 0 ] || sudo -n true 2>/dev/null; }; }; then
    fail "missing: ${missing[*]}. As root run:  apt-get update && apt-get install -y --no-install-recommends ${missing[*]}
  or set KURIR_AMQP_URL and KURIR_DATABASE_URL to servers of yours."
  fi
  note "installing ${missing[*]} (programs only, no system-wide server is started)"
  # shellcheck disable=SC2016
  "${as_root[@]}" bash -c '
    set -euo pipefail
    guard=/usr/sbin/policy-rc.d
    if [ -e "$guard" ]; then guard=; else
      printf "#!/bin/sh\nexit 101\n" >"$guard" && chmod 755 "$guard"
      trap "rm -f $guard" EXIT
    fi
    export DEBIAN_FRONTEND=noninteractive
    get() { apt-get -q -y -o DPkg::Lock::Timeout=300 "$@" </dev/null; }
    get install --no-install-recommends "$@" || { get update && get install --no-install-recommends "$@"; }
    if [ -d /run/systemd/system ]; then
      for package in "$@"; do systemctl disable --quiet "${package}.service" || true; done
    fi
  ' install "${missing[@]}" >"${local_dir:?}/install.log" 2>&1 || {
    tail -n 20 "${local_dir:?}/install.log" >&2
    fail "the installation failed (whole log: .local/install.log). As root run:
  apt-get update && apt-get install -y --no-install-recommends ${missing[*]}"
  }
  for package in "${missing[@]}"; do
    case $package in
      rabbitmq-server) have_rabbitmq || fail "$package is installed but its scripts are not in /usr/lib/rabbitmq/bin; set RABBITMQ_BIN" ;;
      prometheus) have_prometheus || fail "$package is installed but prometheus and promtool are not in /usr/bin; set PROMETHEUS_BIN" ;;
      postgresql) have_postgres || fail "$package is installed but initdb is not in /usr/lib/postgresql/*/bin; set PG_BIN" ;;
    esac
  done
}
