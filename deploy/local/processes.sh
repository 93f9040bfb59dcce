# shellcheck shell=bash
# Which processes belong to a private server? Sourced by the other scripts of this folder.
#
# Nothing here trusts a pid file: after a kill -9 it is stale, its number may be somebody else's, and the dead process may be a
# zombie that still answers `kill -0`. A process is ours if /proc says that it carries our mark.

# pids_with_environment NAME=VALUE: living processes started with exactly this entry. A zombie has no environment left.
pids_with_environment() {
  grep -lzsxF -- "$1" /proc/[0-9]*/environ 2>/dev/null | sed 's|^/proc/\([0-9]*\)/.*|\1|' | grep -vx "$$" || true
}

# pids_working_in DIR: living processes whose working directory is DIR. (Postgres overwrites its environment with its title.)
pids_working_in() {
  local link to
  for link in /proc/[0-9]*/cwd; do
    to=$(readlink "$link" 2>/dev/null) || continue
    if [ "${to% (deleted)}" = "$1" ]; then link=${link#/proc/} && echo "${link%/cwd}"; fi
  done
}

# signal SIGNAL PIDS: a list separated by white space; whoever is gone already is fine.
signal() {
  local pid
  for pid in $2; do kill "-$1" "$pid" 2>/dev/null || true; done
}

# wait_until SECONDS COMMAND...: polls; fails when the time is up.
wait_until() {
  local deadline=$((SECONDS + $1))
  shift
  until "$@"; do
    [ "$SECONDS" -lt "$deadline" ] || return 1
    sleep 0.1
  done
}
