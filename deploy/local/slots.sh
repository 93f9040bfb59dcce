# shellcheck shell=bash
# Where a private server lives and on which ports. Sourced by stack.sh.
#
# A server is known by its folder DIR (stack: .local/broker and .local/database of the checkout; a test: a folder of its own). The
# registry, one folder per user of the machine, holds a file per slot of ten ports with the DIR that has it, so that two checkouts
# that start at the same moment cannot choose the same one. An entry whose DIR is gone is swept away with its processes and data.

registry=${KURIR_REGISTRY:-/tmp/kurir-$(id -u)}
readonly FIRST_PORT=20000 SLOTS=1200 PORTS_PER_SLOT=10 # below 32768, where the kernel takes the ports of outgoing connections

open_registry() {
  mkdir -p "$registry"
  # In a folder that everybody can write to, somebody else may have made it first.
  if [ ! -O "$registry" ] || [ -L "$registry" ]; then fail "$registry belongs to somebody else; set KURIR_REGISTRY to another path"; fi
  mkdir -p "$registry/slots" "$registry/data"
  chmod 0711 "$registry" "$registry/data" # passable for the user postgres
}

digest() { printf '%s' "$1" | sha256sum | cut -c 1-16; }

# place DIR KIND: prints where the data is: DIR itself, or a folder in the registry, if DIR has characters that RabbitMQ's scripts
# stumble over or lies where the user `postgres` cannot go (a checkout in a home with mode 0700). DIR/elsewhere then names it.
place() {
  local dir=$1 kind=$2 away
  if [ -s "$dir/elsewhere" ]; then cat "$dir/elsewhere" && return; fi
  if [[ $dir =~ ^[A-Za-z0-9._/+-]+$ ]] && { [ "$kind" = broker ] || reachable "$dir"; }; then echo "$dir" && return; fi
  away=$registry/data/$(digest "$dir")
  mkdir -p "$away"
  echo "$away" >"$dir/elsewhere"
  echo "$away"
}
reachable() {
  local owner=${PG_OS_USER:-postgres}
  [ "$(id -u)" != 0 ] || (cd / && setpriv --reuid="$owner" --regid="$(id -g "$owner")" --init-groups test -x "$1")
}

port_taken() { # in use on any address, by whoever, except for what the kernel only remembers (no inode: its process is gone)
  local hex
  hex=$(printf ':%04X' "$1")
  awk -v port="$hex" '$2 ~ port "$" && $10 != "0" { found = 1 } END { exit !found }' /proc/net/tcp /proc/net/tcp6 2>/dev/null
}
slot_taken() { # SLOT KIND
  local port last=$(($1 + 4))
  [ "$2" = broker ] || last=$1
  for ((port = $1; port <= last; port++)); do
    if port_taken "$port"; then return 0; fi
  done
  return 1
}

# choose_slot DIR KIND: the slot DIR had, if its ports are free, else the next free one. The server of DIR is not running.
choose_slot() {
  local dir=$1 kind=$2 had slot first i
  had=$(cat "$dir/port" 2>/dev/null || true)
  if [ -n "$had" ] && [ "$(owner_of "$had")" = "$dir" ]; then
    if ! slot_taken "$had" "$kind"; then take_slot "$had" "$dir" "$kind" && return; fi
    rm -f "$registry/slots/$had"
  fi
  first=$((16#$(digest "$dir" | cut -c 1-7) % SLOTS))
  for ((i = 0; i < SLOTS; i++)); do
    slot=$((FIRST_PORT + (first + i) % SLOTS * PORTS_PER_SLOT))
    if [ -e "$registry/slots/$slot" ] || slot_taken "$slot" "$kind"; then continue; fi
    take_slot "$slot" "$dir" "$kind" && return
  done
  fail "no free ports between $FIRST_PORT and $((FIRST_PORT + SLOTS * PORTS_PER_SLOT))"
}
take_slot() {
  printf '%s\n%s\n%s\n' "$2" "$3" "${KURIR_STACK_RUN:-}" >"$registry/slots/$1"
  echo "$1" | tee "$2/port"
}
owner_of() { sed -n 1p "$registry/slots/$1" 2>/dev/null || true; }
