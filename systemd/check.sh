#!/bin/bash
# Scores every unit with `systemd-analyze security --offline` and fails where one is more exposed than its gate.
set -euo pipefail
cd "$(dirname "$0")"
if ! command -v systemd-analyze >/dev/null; then
    echo "units: systemd-analyze was not found; install the package systemd" >&2
    exit 1
fi
scratch=$(mktemp -d)
trap 'rm -r "$scratch"' EXIT
failed=0
# Tenths: 4 means an exposure of at most 0.4.
while read -r unit gate; do
    # The programs need not be installed for their unit to be judged.
    sed 's#^ExecStart=.*#ExecStart=/bin/true#' "$unit" >"$scratch/$unit"
    if line=$(systemd-analyze security --offline=true --threshold="$gate" "$scratch/$unit" 2>&1 | tail -n 1); then
        echo "units: $unit: ${line##*: } (gate: $gate tenths)"
    else
        echo "units: $unit is over its gate of $gate tenths: ${line##*: }" >&2
        failed=1
    fi
done <<'EOF2'
sdrest-api.service 4
sdrest-authd.service 7
sdrest-conversation@.service 14
sdrest-worker@.service 9
EOF2
exit $failed
