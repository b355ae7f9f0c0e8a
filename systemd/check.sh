#!/bin/bash
# Scores every unit, and the drop-ins, with `systemd-analyze security --offline` and fails where one is more exposed
# than its gate.
set -euo pipefail
cd "$(dirname "$0")"
if ! command -v systemd-analyze >/dev/null; then
    echo "units: systemd-analyze was not found; install the package systemd" >&2
    exit 1
fi
scratch=$(mktemp -d)
trap 'rm -r "$scratch"' EXIT
failed=0
# Tenths: 4 means an exposure of at most 0.4. A third word is a drop-in that is laid over the unit.
while read -r unit gate drop_in; do
    folder=$scratch/${drop_in:-plain}
    mkdir -p "$folder/$unit.d"
    # The programs need not be installed for their unit to be judged.
    sed 's#^ExecStart=.*#ExecStart=/bin/true#' "$unit" >"$folder/$unit"
    if [ -n "$drop_in" ]; then cp "drop-ins/$drop_in" "$folder/$unit.d/"; fi
    name=$unit${drop_in:+ with $drop_in}
    if line=$(systemd-analyze security --offline=true --threshold="$gate" "$folder/$unit" 2>&1 | tail -n 1); then
        echo "units: $name: ${line##*: } (gate: $gate tenths)"
    else
        echo "units: $name is over its gate of $gate tenths: ${line##*: }" >&2
        failed=1
    fi
done <<'EOF2'
sdrest-api.service 4
sdrest-authd.service 7
sdrest-conversation@.service 14
sdrest-chauthtok@.service 14
sdrest-worker@.service 9
sdrest-worker@.service 9 cuda.conf
sdrest-conversation@.service 14 oath.conf
sdrest-conversation@.service 14 google-authenticator.conf
sdrest-conversation@.service 23 network.conf
sdrest-chauthtok@.service 23 network.conf
EOF2
exit $failed
