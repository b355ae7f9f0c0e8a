//! Logins of people whom only a directory knows: a real slapd with nslcd and pam_ldap, through the shipped unit (which
//! has no network: the module asks nslcd's socket) and the shipped example of a service file.

use crate::{
    machine::Machine,
    talk::{Seen, account},
};
use anyhow::{Context, Result, bail, ensure};
use harness::{is_root, skip};
use sdrest_proto::conversation::{AccountKey, Verdict};

const LDAP: [&str; 5] = ["slapd", "ldap-utils", "nslcd", "libpam-ldapd", "libnss-ldapd"];
/// A directory of two people and a group, on the loopback of the booted system.
const DIRECTORY: &str = r#"set -eu
systemctl stop slapd nslcd 2>/dev/null || true
mkdir -p /srv/ldap/db
secret=$(slappasswd -s 'Ldap pass 1')
cat >/srv/ldap/slapd.conf <<END
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/nis.schema
include /etc/ldap/schema/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
pidfile /srv/ldap/slapd.pid
database mdb
suffix "dc=sd,dc=test"
directory /srv/ldap/db
access to attrs=userPassword by anonymous auth by * none
access to * by * read
END
person() { printf 'dn: uid=%s,dc=sd,dc=test\nobjectClass: inetOrgPerson\nobjectClass: posixAccount\nobjectClass: shadowAccount\nuid: %s\ncn: %s\nsn: x\nuidNumber: %s\ngidNumber: 20001\nhomeDirectory: /nonexistent\nuserPassword: %s\n%s\n\n' "$1" "$1" "$1" "$2" "$secret" "$3"; }
{
    printf 'dn: dc=sd,dc=test\nobjectClass: dcObject\nobjectClass: organization\no: sd\ndc: sd\n\n'
    person lucy 20001 'loginShell: /bin/sh'
    person oldie 20002 'shadowExpire: 1'
    printf 'dn: cn=painters,dc=sd,dc=test\nobjectClass: posixGroup\ncn: painters\ngidNumber: 20001\nmemberUid: lucy\n'
} >/srv/ldap/people.ldif
slapadd -f /srv/ldap/slapd.conf -l /srv/ldap/people.ldif
systemd-run --quiet --unit=test-slapd slapd -f /srv/ldap/slapd.conf -h ldap://127.0.0.1:389/ -d 0
printf 'uid nslcd\ngid nslcd\nuri ldap://127.0.0.1/\nbase dc=sd,dc=test\nbind_timelimit 2\ntimelimit 2\nreconnect_retrytime 2\n' >/etc/nslcd.conf
sed -i -E 's/^(passwd|group|shadow):.*/\1: files ldap/' /etc/nsswitch.conf
for _ in $(seq 300); do ldapsearch -x -H ldap://127.0.0.1/ -b dc=sd,dc=test >/dev/null 2>&1 && break; sleep 0.1; done
systemctl restart nslcd
for _ in $(seq 300); do getent passwd lucy >/dev/null && exit 0; sleep 0.1; done
echo 'nslcd does not know lucy' >&2
exit 1
"#;

fn expect(seen: &Seen, end: &str, what: &str) -> Result<()> {
    ensure!(seen.end == end, "{what} should end as {end}: {seen:?}");
    Ok(())
}

fn lucy(machine: &Machine) -> Result<()> {
    machine.install()?;
    machine.sh(DIRECTORY)?;
    let seen = machine.login("ldap", "lucy", &["Ldap pass 1"])?;
    let Some(Verdict::Verified(facts)) = &seen.verdict else { bail!("lucy: {seen:?}") };
    ensure!(facts.username == "lucy" && facts.uid == 20001, "{facts:?}");
    ensure!(facts.groups == ["painters"], "{facts:?}");
    ensure!(seen.prompts.len() == 1, "one question for both sources: {seen:?}");
    expect(&machine.login("ldap", "lucy", &["wrong"])?, "AuthErr", "a wrong password")?;
    expect(
        &machine.login("ldap", "lucy", &[""])?,
        "AuthErr",
        "an empty password, an anonymous bind",
    )?;
    expect(&machine.login("ldap", "*", &["Ldap pass 1"])?, "AuthErr", "a filter as a name")?;
    expect(
        &machine.login("ldap", "oldie", &["Ldap pass 1"])?,
        "AcctExpired",
        "an expired account",
    )?;
    expect(&machine.login("ldap", "alice", &["wonder land"])?, "ok", "an account of the host")?;
    let query = account(AccountKey::Name("lucy".to_owned()), Some("ldap"));
    expect(&machine.ask("conversation", &query)?.go(&[]), "ok", "the account query")?;
    // The directory goes away: nobody of it gets in, and an account query is no refusal for good.
    machine.sh("systemctl stop test-slapd")?;
    let gone = machine.login("ldap", "lucy", &["Ldap pass 1"])?;
    ensure!(gone.end != "ok", "{gone:?}");
    let query = account(AccountKey::Uid(20001), Some("ldap"));
    let asked = machine.ask("conversation", &query)?.go(&[]);
    ensure!(["Unavailable", "gone", "AcctDenied"].contains(&asked.end.as_str()), "{asked:?}");
    eprintln!("without the directory: login {}, account query {}", gone.end, asked.end);
    Ok(())
}

#[test]
fn somebody_whom_only_ldap_knows_signs_in() -> Result<()> {
    if !is_root() {
        skip("booting a system needs root");
        return Ok(());
    }
    let machine = match Machine::boot("directory", &LDAP) {
        Ok(machine) => machine,
        Err(error) => {
            skip(&format!("no Debian root with slapd and nslcd could be made: {error}"));
            return Ok(());
        }
    };
    let outcome = lucy(&machine);
    if outcome.is_err() {
        let journal =
            machine.sh("journalctl --no-pager -n 60; getent passwd lucy").unwrap_or_default();
        return outcome.context(journal);
    }
    outcome
}
