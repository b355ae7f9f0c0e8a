//! The shipped units of the conversation program under a real systemd, in a throw-away Debian that is booted for the
//! test: the sandbox must let a login, a lock-out, a one-time code and a change of password through, and a change
//! only where it is meant.

use crate::{
    machine::Machine,
    talk::{Seen, start},
};
use anyhow::{Result, bail, ensure};
use harness::{etc::service::ONE_TIME_CODES, is_root, skip};
use sdrest_proto::conversation::{FromConversation, Purpose, ToConversation};
use std::path::Path;

const SERVICE: &str = "stable-diffusion-rest";
/// The one-time codes: the module and its library from the host, the drop-in as its README says.
const WITH_CODES: &str = r#"set -eu
cp /opt/lib/liboath.so.0 /usr/lib/x86_64-linux-gnu/
cp /opt/lib/security/pam_oath.so /usr/lib/x86_64-linux-gnu/security/
install -m644 -D /opt/src/systemd/drop-ins/oath.conf "/etc/systemd/system/sdrest-conversation@.service.d/oath.conf"
install -d -m700 /var/lib/sdrest-oath
(umask 077; echo 'HOTP alice - 3132333435363738393031323334353637383930' >/var/lib/sdrest-oath/users.oath)
systemctl daemon-reload
"#;

fn expect(seen: &Seen, end: &str, what: &str) -> Result<()> {
    ensure!(seen.end == end, "{what} should end as {end}: {seen:?}");
    Ok(())
}

fn through_the_units(machine: &Machine) -> Result<()> {
    machine.install()?;
    machine.sh("chage -d 0 bob")?;
    for socket in ["conversation", "chauthtok"] {
        let probe = ToConversation::Probe { service: Some(SERVICE.to_owned()) };
        let answer = machine.ask(socket, &probe)?.hear()?;
        ensure!(
            matches!(answer, FromConversation::Probed { fault: None, pam: true }),
            "{socket}: {answer:?}"
        );
    }
    expect(&machine.login(SERVICE, "alice", &["wonder land"])?, "ok", "alice")?;
    expect(&machine.login(SERVICE, "alice", &["wrong"])?, "AuthErr", "a wrong password")?;
    expect(
        &machine.login(SERVICE, "bob", &["old Pass 5"])?,
        "NewAuthtokReqd",
        "an expired password",
    )?;
    change(machine)?;
    // The tally folder is the host's own, /var/run/faillock.
    for _ in 0..5 {
        expect(&machine.login("faillock", "alice", &["wrong"])?, "AuthErr", "a wrong password")?;
    }
    expect(&machine.login("faillock", "alice", &["wonder land"])?, "AuthErr", "a locked account")?;
    machine.sh("faillock --user alice --reset")?;
    expect(&machine.login("faillock", "alice", &["wonder land"])?, "ok", "after the reset")?;
    if !Path::new("/usr/lib/x86_64-linux-gnu/security/pam_oath.so").exists() {
        skip("in part: pam_oath is not installed (Debian package libpam-oath)");
        return Ok(());
    }
    machine.sh(WITH_CODES)?;
    let code = ONE_TIME_CODES[0];
    expect(&machine.login("totp", "alice", &["wonder land", code])?, "ok", "password and code")?;
    expect(&machine.login("totp", "alice", &["wonder land", code])?, "AuthErr", "the code again")
}

fn change(machine: &Machine) -> Result<()> {
    let old = "old Pass 5";
    let new = "a fresh Pass 77";
    let first = start(SERVICE, "bob", Purpose::ChangeExpired);
    // The everyday unit neither may nor can.
    let refused = machine.ask("conversation", &first)?.go(&[old, old, new, new]);
    expect(&refused, "Unavailable", "a change through the everyday unit")?;
    let abandoned = machine.ask("chauthtok", &first)?.go(&[old, old, new]);
    expect(&abandoned, "unanswered", "an abandoned change")?;
    expect(&machine.login(SERVICE, "bob", &[old])?, "NewAuthtokReqd", "after it")?;
    expect(&machine.ask("chauthtok", &first)?.go(&[old, old, new, new]), "ok", "the change")?;
    expect(&machine.login(SERVICE, "bob", &[new])?, "ok", "the new password")?;
    expect(&machine.login(SERVICE, "bob", &[old])?, "AuthErr", "the old password")?;
    let shadow = machine.sh("stat -c '%U:%G %a' /etc/shadow")?;
    ensure!(shadow.trim() == "root:shadow 640", "/etc/shadow is now {shadow}");
    Ok(())
}

#[test]
fn replay_04_the_shipped_units_let_logins_locks_codes_and_changes_through() -> Result<()> {
    if !is_root() {
        skip("booting a system needs root");
        return Ok(());
    }
    let machine = Machine::boot("debian", &[])?;
    let outcome = through_the_units(&machine);
    if outcome.is_err() {
        bail!("{outcome:?}\n{}", machine.sh("journalctl --no-pager -n 60").unwrap_or_default());
    }
    outcome
}
