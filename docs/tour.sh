#!/usr/bin/env bash
# Runs the README's five minutes by hand, as they stand there: every ```sh block of that section, in order, in one shell
# that stops at the first failure. Usage: docs/tour.sh [README.md]; wants claviger and clavigerd on the path.
set -euo pipefail

readme=$(realpath "${1:-$(dirname "$0")/../README.md}")
folder=$(mktemp -d "${TMPDIR:-/tmp}/claviger-tour-XXXXXX")

# What the tour leaves running is ended by process id; the folder goes.
end() {
  status=$?
  # shellcheck disable=SC2046
  kill $(jobs -p) 2>/dev/null || true
  wait || true
  if [ $status -ne 0 ]; then
    echo "tour: failed; the nodes' logs:" >&2
    tail -n 20 "$folder"/dev.log "$folder"/node*/log >&2 2>/dev/null || true
  fi
  rm -rf "$folder"
  exit $status
}
trap end EXIT

awk '/^## /          { inside = ($0 == "## Five minutes by hand") }
     inside && /^```/ { code = ($0 == "```sh"); next }
     inside && code   { print }' "$readme" > "$folder/tour"
if [ ! -s "$folder/tour" ]; then
  echo "tour: $readme has no blocks to run" >&2
  exit 1
fi

cd "$folder"
HOME=$folder
export HOME
set -x
# shellcheck disable=SC1091
. ./tour
