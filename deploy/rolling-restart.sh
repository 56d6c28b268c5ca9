#!/usr/bin/env bash
# Restarts the nodes of a cluster one after the other; the next only when the cluster is whole again.
#
#   deploy/rolling-restart.sh [-n] NODE=PLACE...
#
#   NODE    a node's number
#   PLACE   ssh:HOST, where the unit clavigerd runs (UNIT names another), or unit:UNIT on this host
#   -n      look whether it could begin, and restart nothing
#
#   deploy/rolling-restart.sh 1=ssh:claviger-1.example.org 2=ssh:claviger-2.example.org 3=ssh:claviger-3.example.org
#
# Wants `claviger` with the certificate of an operator and all nodes in CLAVIGER_ADDR (or in its configuration file), jq, and
# leave to restart the units (SYSTEMCTL="sudo -n systemctl" where you are not root).
#
# A restarted node is sealed, and no other node opens it by itself: that takes a ceremony, with a threshold of custodians, for
# each node that is restarted. So have the custodians ready; the script says when they are wanted, and waits WAIT_OPEN_S
# seconds (an hour, as long as a ceremony lasts). It asks for them only when the node has caught up: a ceremony passes over a
# node that has not. A node with a static slot opens itself.
#
# It stops at the first thing that is not as it should be and leaves the rest alone. Mend that, and call it again with the
# nodes that are left.
set -euo pipefail

UNIT=${UNIT:-clavigerd}
WAIT_OPEN_S=${WAIT_OPEN_S:-3600}
# The unit may take 45 s to stop and ten minutes to start; then it must catch up.
WAIT_CAUGHT_UP_S=${WAIT_CAUGHT_UP_S:-600}
WAIT_LEAD_S=${WAIT_LEAD_S:-30}
LOOK_EVERY_S=${LOOK_EVERY_S:-2}
read -ra SYSTEMCTL <<<"${SYSTEMCTL:-systemctl}"

order=()
declare -A places
# The last status that was read, as JSON; and what was said where there is none.
status=
silence=

main() {
  local only_look=
  if [ "${1:-}" = -n ]; then
    only_look=yes
    shift
  fi
  [ $# -gt 0 ] || stop "which nodes? $0 [-n] NODE=ssh:HOST... or NODE=unit:UNIT..."
  command -v jq >/dev/null || stop "jq is missing: install it"
  read_places "$@"
  must_be_whole
  for node in "${order[@]}"; do must_be_at_its_place "$node"; done
  say "nodes ${order[*]} can be restarted"
  [ -z "$only_look" ] || return 0
  for node in "${order[@]}"; do restart "$node"; done
  say "done: the cluster is whole, and nodes ${order[*]} were restarted"
}

read_places() {
  local argument node place
  for argument in "$@"; do
    node=${argument%%=*} place=${argument#*=}
    [[ $node =~ ^[1-9][0-9]*$ && $place =~ ^(ssh|unit):[A-Za-z0-9_@][A-Za-z0-9_.@:-]*$ ]] ||
      stop "$argument: wanted NODE=ssh:HOST or NODE=unit:UNIT, as 1=ssh:claviger-1.example.org"
    [ -z "${places[$node]:-}" ] || stop "node $node is named twice"
    places[$node]=$place
    order+=("$node")
  done
}

restart() {
  local node=$1 pid target
  must_be_whole
  hand_over "$node"
  pid=$(node_says "$node" .pid)
  say "node $node restarts"
  control "$node" restart || stop "node $node: systemctl could not restart it; \`journalctl -u\` its unit says why"
  await "$WAIT_CAUGHT_UP_S" answers_anew "$node" "$pid" ||
    stop "node $node does not answer after its restart; its log says why, \`claviger operator status\` how the others see it"
  target=$(ask '[.cluster.nodes[] | select(.reachable) | .applied_index] | max')
  await "$WAIT_CAUGHT_UP_S" has_applied "$node" "$target" ||
    stop "node $node has not caught up to entry $target; \`claviger operator status\` shows how far it is"
  if [ "$(node_says "$node" .state)" = sealed ]; then
    call_custodians "$node"
  fi
  await "$WAIT_OPEN_S" whole ||
    stop "node $node was restarted, and the cluster is not whole: $(trouble)"
  say "node $node is open and has caught up"
}

# A node that stops hands over the lead by itself; asked before, the cluster never waits for it.
hand_over() {
  local node=$1
  [ "$(ask .cluster.leader)" = "$node" ] || return 0
  say "node $node leads: it hands over"
  claviger operator transfer-leader >/dev/null || stop "node $node leads and does not hand over"
  await "$WAIT_LEAD_S" is_led_by_another "$node" || stop "node $node still leads, $WAIT_LEAD_S s after it was to hand over"
}

call_custodians() {
  local node=$1
  if [ "$(ask '[.endpoints[].seal // empty] | first | .slot_kind')" = static ]; then
    say "node $node has caught up and opens itself with its static slot"
    return
  fi
  say "node $node has caught up and is SEALED. Custodians open it now, $(ask \
    '[.endpoints[].seal // empty] | first | "\(.threshold) of \(.shares)"'), each with:"
  say "    claviger custodian offer SHARE_FILE --identity FILE"
}

# What is asked of the status. A look that brings none is repeated by whoever waits.

look() {
  local code=0
  # Exit status 2 says that a node is sealed, and has an answer; 1 says that nobody answered, and why.
  status=$(claviger operator status --output json 2>&1) || code=$?
  silence=
  case $code:$status in
    "0:{"* | "2:{"*) ;;
    *) silence=${status:-claviger ended with $code} status=null ;;
  esac
  [ -z "$silence" ]
}

ask() { jq -r "$1" <<<"$status"; }

node_says() { ask "first(.cluster.nodes[]? | select(.node == $1)) | $2"; }

# The first thing that is wrong; nothing when the cluster is whole.
trouble() {
  if [ -n "$silence" ]; then
    echo "$silence"
    return
  fi
  ask 'if .cluster == null then "no node tells how the cluster is"
    elif .cluster.leader == 0 then "there is no leader"
    else [ (.cluster.nodes[] | if .reachable | not then "node \(.node) is unreachable"
                               elif .state != "open" then "node \(.node) is \(.state)"
                               else empty end),
           (.endpoints[] | select(.error) | "\(.endpoint): \(.error)") ] | first // empty
    end'
}

whole() { look && [ -z "$(trouble)" ]; }

is_led_by_another() { look && [ "$(ask '.cluster.leader // 0')" != 0 ] && [ "$(ask .cluster.leader)" != "$1" ]; }

answers_anew() {
  look && [ "$(ask '.cluster.leader // 0')" != 0 ] && [ "$(node_says "$1" .reachable)" = true ] &&
    [ "$(node_says "$1" .pid)" != "$2" ]
}

has_applied() { look && [ "$(node_says "$1" ".reachable and .applied_index >= $2")" = true ]; }

await() {
  local until=$((SECONDS + $1))
  shift
  until "$@"; do
    [ "$SECONDS" -lt "$until" ] || return 1
    sleep "$LOOK_EVERY_S"
  done
}

must_be_whole() { whole || stop "the cluster is not whole, so nothing is restarted: $(trouble)"; }

# A wrong place would restart another node than the one that handed over.
must_be_at_its_place() {
  local node=$1 told found
  told=$(node_says "$node" .pid)
  [ -n "$told" ] || stop "the cluster has no node $node"
  found=$(control "$node" show --property MainPID --value) || stop "node $node: ${places[$node]} cannot be asked"
  [ "$told" = "$found" ] || stop "node $node is process $told, and ${places[$node]} runs process $found: is it another node's?"
}

control() {
  local place=${places[$1]}
  shift
  case $place in
    ssh:*) ssh -o BatchMode=yes "${place#ssh:}" "${SYSTEMCTL[@]}" "$@" "$UNIT" ;;
    unit:*) "${SYSTEMCTL[@]}" "$@" "${place#unit:}" ;;
  esac
}

say() { echo "rolling-restart: $*"; }

stop() {
  echo "rolling-restart: stopped: $*" >&2
  exit 1
}

main "$@"
