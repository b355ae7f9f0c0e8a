//! Accounts and groups, read from /etc/passwd and /etc/group as text (passwd(5), group(5)). No NSS: an NSS
//! module is foreign code, and sdrest's own system users are local.

use anyhow::{Context, Result, bail};

/// One line of /etc/passwd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// The users that `serve` needs when it runs as root, and the group of admins.
#[derive(Clone, Debug)]
pub(crate) struct SystemUsers {
    pub(crate) api: User,
    pub(crate) authd: User,
    pub(crate) worker: User,
    pub(crate) admin_gid: u32,
}

pub(crate) const API: &str = "sdrest-api";
pub(crate) const AUTHD: &str = "sdrest-authd";
pub(crate) const WORKER: &str = "sdrest-worker";
pub(crate) const ADMINS: &str = "sdrest-admin";

/// All of them, or an error that holds the commands that make the missing ones.
pub(crate) fn system_users() -> Result<SystemUsers> {
    let passwd = std::fs::read_to_string("/etc/passwd").context("/etc/passwd cannot be read")?;
    let group = std::fs::read_to_string("/etc/group").context("/etc/group cannot be read")?;
    let found = (
        user_in(&passwd, API),
        user_in(&passwd, AUTHD),
        user_in(&passwd, WORKER),
        gid_in(&group, ADMINS),
    );
    let (Some(api), Some(authd), Some(worker), Some(admin_gid)) = found else {
        bail!("{}", missing(&passwd, &group));
    };
    for user in [&api, &authd, &worker] {
        if user.uid == 0 {
            bail!("the system user {} has uid 0; it must have a uid of its own", user.name);
        }
    }
    if api.uid == authd.uid || api.uid == worker.uid || authd.uid == worker.uid {
        bail!("{API}, {AUTHD} and {WORKER} share a uid; each must have its own");
    }
    Ok(SystemUsers { api, authd, worker, admin_gid })
}

fn missing(passwd: &str, group: &str) -> String {
    let mut text = String::from(
        "as root, each process runs as its own system user, and some are missing. Make them with:",
    );
    if gid_in(group, ADMINS).is_none() {
        text.push_str(&format!("\n  groupadd --system {ADMINS}"));
    }
    for name in [API, AUTHD, WORKER].into_iter().filter(|name| user_in(passwd, name).is_none()) {
        text.push_str(&format!(
            "\n  useradd --system --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin {name}"
        ));
    }
    text
}

/// The name of a uid, for display.
pub(crate) fn name_of(uid: u32) -> Option<String> {
    let passwd = std::fs::read_to_string("/etc/passwd").ok()?;
    passwd.lines().filter_map(parse).find(|user| user.uid == uid).map(|user| user.name)
}

/// The uid of a name.
pub(crate) fn uid_of(name: &str) -> Option<u32> {
    user_in(&std::fs::read_to_string("/etc/passwd").ok()?, name).map(|user| user.uid)
}

fn user_in(passwd: &str, name: &str) -> Option<User> {
    passwd.lines().filter_map(parse).find(|user| user.name == name)
}

fn parse(line: &str) -> Option<User> {
    let mut fields = line.split(':');
    let name = fields.next()?.to_owned();
    let uid = fields.nth(1)?.parse().ok()?;
    let gid = fields.next()?.parse().ok()?;
    Some(User { name, uid, gid })
}

fn gid_in(group: &str, name: &str) -> Option<u32> {
    group.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next()? == name).then_some(())?;
        fields.nth(1)?.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_line_of_passwd() {
        let passwd = "root:x:0:0:root:/root:/bin/bash\nsdrest-api:x:991:990::/nonexistent:/usr/sbin/nologin\n";
        let user = user_in(passwd, API).map(|user| (user.uid, user.gid));
        assert_eq!(user, Some((991, 990)));
        assert_eq!(user_in(passwd, "sdrest"), None, "a prefix of a name is another name");
    }

    #[test]
    fn names_only_what_is_missing() {
        let passwd = "sdrest-api:x:991:990::/:/bin/false\nsdrest-worker:x:992:992::/:/bin/false\n";
        let text = missing(passwd, "sdrest-admin:x:900:\n");
        assert!(text.contains("nologin sdrest-authd") && !text.contains("groupadd"), "{text}");
        assert!(
            !text.contains("nologin sdrest-api") && !text.contains("nologin sdrest-worker"),
            "{text}"
        );
    }
}
