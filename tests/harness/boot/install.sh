#!/bin/bash
# Runs inside the booted system: installs sdrest from the read-only binds as systemd/README.md says, makes two
# users, starts the target. /opt/sdrest holds bin/ (the programs), lib/ (libtorch), src/ (the checkout).
set -euo pipefail
install -d /usr/libexec/sdrest /usr/share/sdrest/models
install -t /usr/libexec/sdrest /opt/sdrest/bin/sdrest-{api,authd,conversation,worker}
install -t /usr/bin /opt/sdrest/bin/sdrestctl
ln -s /opt/sdrest/lib /usr/lib/sdrest
cp -r /opt/sdrest/src/sdrest-worker/demo-model /usr/share/sdrest/models/demo
cd /opt/sdrest/src/systemd
install -m644 -t /etc/systemd/system ./*.target ./*.slice ./*.socket ./*.service
install -m644 -D -t /etc/sysusers.d sysusers.d/sdrest.conf
install -m644 -D -t /etc/tmpfiles.d tmpfiles.d/sdrest.conf
install -m644 -D -t /etc/pam.d ../pam.d/stable-diffusion-rest
systemd-sysusers
systemd-tmpfiles --create
useradd --create-home alice
useradd --create-home bob
# Throw-away passwords of a throw-away system.
echo 'alice:wonderland' | chpasswd
echo 'bob:builder' | chpasswd
systemctl daemon-reload
systemctl start sdrest.target
for _ in $(seq 1200); do
    systemctl is-active --quiet sdrest-api sdrest-authd sdrest-worker@0 &&
        curl -fsS --unix-socket /run/sdrest-http/http.sock http://localhost/api/health >/dev/null 2>&1 && exit 0
    sleep 0.1
done
systemctl --no-pager status 'sdrest*' >&2 || true
journalctl --no-pager -u 'sdrest*' | tail -n 60 >&2
echo "the target did not come up" >&2
exit 1
