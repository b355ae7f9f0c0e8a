#!/bin/bash
# The whole of sdrest in one go, as `make demo` shows it: a made-up user in a made-up /etc (a private mount namespace;
# the host's /etc is never written), `sdrestctl serve --auth pam`, a sign-in through PAM, one picture, the health of
# every socket, and the end of everything. It needs the programs built: `make demo` does that first.
#
#   KEEP=1   leave it running, and print the address, the user and a curl line
#   PORT=N   the port (default: 8080 with KEEP=1, else a free one)
set -eu
cd "$(dirname "$(readlink -f "$0")")/../.."

prompt='a red circle on a white background'
programs=${CARGO_TARGET_DIR:-target}/release
private_etc=tests/harness/private_etc
picture=demo-out/red-circle.png
keep=${KEEP:-}
port=${PORT:-$([ -n "$keep" ] && echo 8080 || echo 0)}
serve=
begun=$(date +%s%N)

fail() { echo "demo: $*" >&2; exit 1; }

for program in sdrestctl sdrest-api sdrest-authd sdrest-conversation sdrest-worker; do
    [ -x "$programs/$program" ] || fail "$programs/$program is not built; run: make demo"
done
for program in openssl unshare mount; do
    command -v "$program" >/dev/null || fail "the program $program is missing; run: make demo"
done

dir=$(mktemp -d "${TMPDIR:-/tmp}/sdrest-demo-XXXXXX")
sdrestctl=$(readlink -f "$programs/sdrestctl")

stop() {
    if [ -n "$serve" ] && kill -TERM "$serve" 2>/dev/null; then wait "$serve" || true; fi
    serve=
}
trap 'stop; rm -rf "$dir"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# PAM signs in the caller's own account only where the caller is not root; then artist is the caller.
if [ "$(id -u)" = 0 ]; then uid=20000; else uid=$(id -u); fi
password=$(openssl rand -hex 8)
printf 'artist %s ok %s\n' "$uid" "$password" | "$private_etc" make "$dir"

echo "== sdrestctl serve --auth pam"
start=("$private_etc" run "$dir" "$sdrestctl" serve --auth pam --port "$port"
    --run-dir "$dir/run" --state-dir "$dir/state" --models-dir sdrest-worker/demo-model)
if [ -n "$keep" ]; then start=(setsid "${start[@]}"); fi
"${start[@]}" > "$dir/ready" 2> "$dir/log" < /dev/null &
serve=$!
until grep -qs '^sdrest: ready ' "$dir/ready"; do
    if ! kill -0 "$serve" 2>/dev/null; then
        serve=
        cat "$dir/log" >&2
        fail "sdrest did not start; the reason is above"
    fi
    sleep 0.1
done
url=$(sed -n 's/^sdrest: ready //p' "$dir/ready")
grep '^sdrestctl: ' "$dir/log" || true
echo "sdrest: ready $url"

echo
echo "== sdrestctl generate \"$prompt\" --user artist    (PAM asks for the password)"
mkdir -p demo-out
if ! printf '%s\n' "$password" |
    "$sdrestctl" generate "$prompt" --url "$url" --user artist --password-stdin -o "$picture"; then
    tail -n 40 "$dir/log" >&2
    fail "no picture; the reason is above"
fi

echo
echo "== ps"
# Over the made-up /etc, so that the users have names.
"$private_etc" run "$dir" ps -o pid,ppid,user:14,args -p "$(pgrep -d, -f "$dir/run")" | cut -c -100 || true
echo
echo "== sdrestctl status"
"$private_etc" run "$dir" "$sdrestctl" status --run-dir "$dir/run" || fail "something is not well; see above"

echo
echo "The picture of \"$prompt\": $PWD/$picture"
echo "The demo took $((($(date +%s%N) - begun) / 1000000000)) s."
if [ -n "$keep" ]; then
    trap - EXIT
    cat <<END

It goes on running (log: $dir/log). Stop it with: kill $serve && rm -rf $dir
  address   $url
  user      artist
  password  $password
  token=\$(curl -s $url/api/v1/auth/login -H 'Content-Type: application/json' -d '{"username":"artist","password":"$password"}' | sed 's/.*"token":"\([^"]*\)".*/\1/')
  curl -s $url/api/v1/txt2img -H "Authorization: Bearer \$token" -H 'Content-Type: application/json' -H 'Prefer: wait=30' -d '{"prompt":"$prompt"}'
END
else
    stop
fi
