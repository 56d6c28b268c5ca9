#!/usr/bin/env bash
# Stories of rolling-restart.sh, told by a claviger and a systemctl that are played here: no node runs. Part of
# `make deploy-check`.
set -euo pipefail

script=$(realpath "$(dirname "$0")")/rolling-restart.sh
stage=$(mktemp -d "${TMPDIR:-/tmp}/claviger-rolling-XXXXXX")
trap 'rm -rf "$stage"' EXIT
failed=0

# The cluster is a file. At every look a node that lags catches up, and custodians open one that has, if they are there.
cat >"$stage/claviger" <<'PLAY'
#!/usr/bin/env bash
cluster=$(<cluster)
case "$*" in
  "operator transfer-leader")
    echo "handed over" >>done
    jq '.cluster.leader = .cluster.leader % 3 + 1' <<<"$cluster" >cluster ;;
  "operator status --output json")
    jq -c . <<<"$cluster"
    there=$([ -e custodians ] && echo true || echo false)
    jq --argjson there "$there" '.cluster.nodes[] |= (if .applied_index < 9 then .applied_index += 3 | .reachable = true
      elif .state == "sealed" and $there then .state = "open" else . end)' <<<"$cluster" >cluster
    [ -z "$(jq '.cluster.nodes[] | select(.state == "sealed")' <<<"$cluster")" ] || exit 2 ;;
  *) echo "no such part: $*" >&2; exit 1 ;;
esac
PLAY
cat >"$stage/systemctl" <<'PLAY'
#!/usr/bin/env bash
node=${*: -1} node=${node#node-}
case $1 in
  show) jq ".cluster.nodes[$node - 1].pid" cluster ;;
  restart)
    [ ! -e broken ] || exit 1
    echo "restarted $node" >>done
    cluster=$(<cluster)
    jq ".cluster.nodes[$node - 1] += {pid: (1000 + $node), state: \"sealed\", applied_index: 0, reachable: false}" \
      <<<"$cluster" >cluster ;;
esac
PLAY
chmod +x "$stage/claviger" "$stage/systemctl"

# A cluster of three, all well, led by node 2; `with` changes it.
begin() {
  rm -f "$stage"/{custodians,broken,done}
  touch "$stage/done"
  jq -n "${1:-.}"' | {endpoints: [{endpoint: "a:1", seal: {slot_kind: "custodians", threshold: 2, shares: 3}}],
    cluster: {leader: 2, nodes: [1, 2, 3 | {node: ., pid: (100 + .), state: "open", applied_index: 9, reachable: true}]}}
    | '"${2:-.}" >"$stage/cluster"
}

# What was said at the end, and what was done.
play() {
  local said
  said=$(cd "$stage" && PATH=$stage:$PATH LOOK_EVERY_S=0.01 WAIT_OPEN_S=${WAIT:-20} WAIT_CAUGHT_UP_S=20 \
    "$script" "$@" 2>&1 | tail -n 1) || true
  echo "$said / $(paste -sd, "$stage/done")"
}

# NAME WANTED GOT
is() {
  if [[ $3 == *"$2"* ]]; then
    echo "rolling-restart: $1: good"
  else
    echo "rolling-restart: $1: wanted \"$2\", got \"$3\"" >&2
    failed=1
  fi
}

all=("1=unit:node-1" "2=unit:node-2" "3=unit:node-3")

begin
touch "$stage/custodians"
is "all are restarted, one after the other, the leader after it handed over" \
  "done: the cluster is whole, and nodes 1 2 3 were restarted / restarted 1,handed over,restarted 2,handed over,restarted 3" \
  "$(play "${all[@]}")"

begin
is "a look restarts nothing" "nodes 1 2 3 can be restarted / " "$(play -n "${all[@]}")"

begin
is "nobody opens the first: the others are left alone" \
  "node 1 was restarted, and the cluster is not whole: node 1 is sealed / restarted 1" "$(WAIT=1 play "${all[@]}")"

begin . '.cluster.nodes[2].state = "sealed"'
is "a sealed node is no beginning" "nothing is restarted: node 3 is sealed / " "$(WAIT=1 play 1=unit:node-1)"

begin . '.cluster.nodes[2].reachable = false'
is "nor is a node that is away" "nothing is restarted: node 3 is unreachable / " "$(WAIT=1 play 1=unit:node-1)"

begin . '.cluster.leader = 0'
is "nor a cluster without a leader" "nothing is restarted: there is no leader / " "$(WAIT=1 play 1=unit:node-1)"

begin . '.endpoints += [{endpoint: "b:1", error: "the audit book cannot be written"}]'
is "nor a node that answers with an error" "b:1: the audit book cannot be written / " "$(WAIT=1 play 1=unit:node-1)"

begin
is "a node at another's place is refused" "node 1 is process 101, and unit:node-2 runs process 102" "$(play 1=unit:node-2)"

begin
is "a node that the cluster has not is refused" "the cluster has no node 4 / " "$(play 4=unit:node-4)"

begin
is "a place that is none is refused" "1=node-1: wanted NODE=ssh:HOST or NODE=unit:UNIT" "$(play 1=node-1)"

begin
touch "$stage/broken"
is "a unit that does not start ends it" "node 1: systemctl could not restart it" "$(play "${all[@]}")"

exit $failed
