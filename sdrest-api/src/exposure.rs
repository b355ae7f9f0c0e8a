//! Who can reach the door, and whether that fits how callers prove who they are. Asked once, before anybody is
//! served; a policy that would need another answer is not taken over later (`authd`).

use crate::{edge::SocketTables, listener::Door};
use anyhow::{Result, bail};
use sdrest_proto::authd::{AuthMode, AuthdDescription, SignIn};

/// A server that asks nobody who they are stays on this machine, unless somebody said otherwise by name. Gives
/// what the administrator should change.
pub fn check(policy: &AuthdDescription, door: &Door, allow_open: bool) -> Result<Vec<String>> {
    let open = policy.mode == AuthMode::None;
    match (open, door.is_local(), allow_open) {
        (true, false, false) => bail!(
            "authentication is off and {door} can be reached by others: turn it on with --auth pam, listen on \
             127.0.0.1, or say --allow-open"
        ),
        (true, false, true) => {
            tracing::warn!("authentication is off and others can reach this server (--allow-open)");
            Ok(vec!["authentication is off, and others can reach this server".to_owned()])
        }
        (false, false, _) => {
            tracing::warn!("passwords cross the network unencrypted: put a TLS proxy in front");
            Ok(vec!["passwords cross the network unencrypted: put a TLS proxy in front".to_owned()])
        }
        (_, true, _) => Ok(Vec::new()),
    }
}

/// Where the kernel's word is enough to sign in, there must be one: on a Unix socket, or on loopback with the
/// tables of sockets.
pub fn check_kernel_word(
    policy: &AuthdDescription,
    door: &Door,
    tables: Option<&SocketTables>,
) -> Result<()> {
    if policy.sign_in != SignIn::Peer {
        return Ok(());
    }
    let mode = policy.mode.as_str();
    match (door.ip(), door.is_local(), tables) {
        (None, _, _) | (Some(_), true, Some(_)) => Ok(()),
        (Some(_), true, None) => bail!(
            "mode {mode} without PAM needs /proc/self/net/tcp, which cannot be read: listen on a Unix socket"
        ),
        (Some(_), false, _) => bail!(
            "mode {mode} without PAM signs in whom the kernel names, which it cannot for {door}: listen on \
             127.0.0.1 or on a Unix socket, or use --auth pam"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sdrest_proto::authd::Signature;
    use std::net::TcpListener;

    fn policy(mode: AuthMode, sign_in: SignIn) -> AuthdDescription {
        AuthdDescription {
            mode,
            sign_in,
            pam: false,
            api_keys: true,
            signature: Signature::EdDsa,
            realm: String::new(),
            public_paths: Vec::new(),
            guests: false,
            issuer: String::new(),
            audience: String::new(),
            keys: Vec::new(),
        }
    }

    /// A door on loopback that says that it is somewhere else.
    fn door(address: &str) -> Door {
        Door::Tcp(TcpListener::bind("127.0.0.1:0").unwrap(), address.parse().unwrap())
    }

    #[test]
    fn no_authentication_needs_loopback_or_a_word() {
        let none = policy(AuthMode::None, SignIn::No);
        assert!(check(&none, &door("127.0.0.1:80"), false).unwrap().is_empty());
        assert!(check(&none, &door("[::1]:80"), false).unwrap().is_empty());
        let error = check(&none, &door("192.0.2.1:80"), false).unwrap_err().to_string();
        assert!(error.contains("--allow-open"), "{error}");
        assert_eq!(check(&none, &door("192.0.2.1:80"), true).unwrap().len(), 1);
        let pam = policy(AuthMode::Pam, SignIn::Conversation);
        assert_eq!(check(&pam, &door("192.0.2.1:80"), false).unwrap().len(), 1);
    }

    #[test]
    fn the_kernels_word_needs_a_local_door() {
        let unix = policy(AuthMode::Unix, SignIn::Peer);
        let tables = SocketTables::open().unwrap();
        let check = |address, tables| check_kernel_word(&unix, &door(address), tables);
        check("127.0.0.1:80", Some(&tables)).unwrap();
        assert!(check("127.0.0.1:80", None).unwrap_err().to_string().contains("Unix socket"));
        for other in ["192.0.2.1:80", "0.0.0.0:80", "[::]:80"] {
            let error = check(other, Some(&tables)).unwrap_err().to_string();
            assert!(error.contains("--auth pam"), "{error}");
        }
        let pam = policy(AuthMode::Unix, SignIn::Conversation);
        check_kernel_word(&pam, &door("192.0.2.1:80"), None).unwrap();
    }
}
