//! The owner of the socket at the other end of a loopback connection, from the kernel's tables of TCP sockets
//! (proc_net_tcp: `Documentation/networking/proc_net_tcp.rst`). Both ends must match exactly, the socket must be
//! established and still have an owner; whatever is gone or ambiguous is an error.
//!
//! The tables are opened before the sandbox closes, so they are those of the network namespace that this process
//! started in, and no other file of /proc stays reachable.

use std::{
    collections::BTreeSet,
    fs::File,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::unix::fs::FileExt,
    sync::{Mutex, PoisonError},
};
use thiserror::Error;

/// Of this process, so that `ProcSubset=pid` does not hide them.
const TCP: &str = "/proc/self/net/tcp";
const TCP6: &str = "/proc/self/net/tcp6";
/// A table is not read further than this, in bytes: some hundred thousand sockets.
const LARGEST: u64 = 64 * 1024 * 1024;
/// TCP_ESTABLISHED of <netinet/tcp.h>.
const ESTABLISHED: &str = "01";

#[derive(Debug, Error)]
pub enum OwnerError {
    #[error("the peer's socket is gone")]
    Gone,
    #[error("the peer's socket is not the only one of its kind")]
    Ambiguous,
    #[error("the table of sockets cannot be read: {0}")]
    Unreadable(#[from] io::Error),
}

/// The open tables.
#[derive(Debug)]
pub struct SocketTables(Mutex<Vec<File>>);

impl SocketTables {
    /// Opens them; a kernel without IPv6 has only one.
    pub fn open() -> io::Result<Self> {
        let mut tables = vec![File::open(TCP)?];
        match File::open(TCP6) {
            Ok(table) => tables.push(table),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        Ok(Self(Mutex::new(tables)))
    }

    /// The uid of the socket that is bound to `remote` and connected to `local`. Blocks.
    pub fn owner(&self, remote: SocketAddr, local: SocketAddr) -> Result<u32, OwnerError> {
        let ends = (canonical(remote), canonical(local));
        let tables = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut owners = BTreeSet::new();
        for table in tables.iter() {
            owners.extend(rows(&read(table)?).filter(|row| row.ends == ends).map(|row| row.owner));
        }
        let mut owners = owners.into_iter();
        match (owners.next(), owners.next()) {
            (None, _) => Err(OwnerError::Gone),
            // A socket whose process has closed it is shown as root's, without a file.
            (Some(Owner { inode: 0, .. }), _) | (Some(_), Some(_)) => Err(OwnerError::Ambiguous),
            (Some(Owner { uid, .. }), None) => Ok(uid),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Owner {
    inode: u64,
    uid: u32,
}

#[derive(Debug)]
struct Row {
    /// The socket's own address, and the one that it is connected to.
    ends: (SocketAddr, SocketAddr),
    owner: Owner,
}

fn read(table: &File) -> Result<String, OwnerError> {
    let (mut text, mut chunk) = (Vec::new(), vec![0; 64 * 1024]);
    loop {
        let at = text.len() as u64;
        let length = table.read_at(&mut chunk, at)?;
        if length == 0 {
            return String::from_utf8(text).map_err(|error| io::Error::other(error).into());
        }
        if at > LARGEST {
            return Err(io::Error::other("it is too large").into());
        }
        text.extend_from_slice(&chunk[..length]);
    }
}

/// The established sockets of a table. A line that does not read as one is none.
fn rows(text: &str) -> impl Iterator<Item = Row> {
    text.lines().skip(1).filter_map(row)
}

fn row(line: &str) -> Option<Row> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let (own, other) = (address(fields.next()?)?, address(fields.next()?)?);
    if fields.next()? != ESTABLISHED {
        return None;
    }
    // Queues, timer, retransmits; uid; timeout; inode.
    let uid = fields.nth(3)?.parse().ok()?;
    let inode = fields.nth(1)?.parse().ok()?;
    Some(Row { ends: (own, other), owner: Owner { inode, uid } })
}

/// `0100007F:1F90`: words as the processor has them in memory, then the port.
fn address(text: &str) -> Option<SocketAddr> {
    let (host, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let mut bytes = Vec::with_capacity(16);
    for at in (0..host.len()).step_by(8) {
        let word = u32::from_str_radix(host.get(at..at + 8)?, 16).ok()?;
        bytes.extend_from_slice(&word.to_ne_bytes());
    }
    let ip: IpAddr = match bytes.len() {
        4 => Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?).into(),
        16 => Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).into(),
        _ => return None,
    };
    Some(canonical(SocketAddr::new(ip, port)))
}

/// An IPv4 address is the same in its IPv6 form; scopes and flow labels do not count.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    fn pair(listen: &str) -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind(listen).unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (client, listener.accept().unwrap().0)
    }

    fn owner_of(server: &TcpStream) -> Result<u32, OwnerError> {
        let tables = SocketTables::open().unwrap();
        tables.owner(server.peer_addr().unwrap(), server.local_addr().unwrap())
    }

    #[test]
    fn the_owner_of_a_live_socket_and_nobody_once_it_is_gone() {
        let own = nix::unistd::geteuid().as_raw();
        for listen in ["127.0.0.1:0", "[::1]:0"] {
            if listen.starts_with('[') && TcpListener::bind(listen).is_err() {
                println!("skipped: there is no IPv6 here");
                continue;
            }
            let (client, server) = pair(listen);
            assert_eq!(owner_of(&server).unwrap(), own, "{listen}");
            drop(client);
            assert!(matches!(owner_of(&server), Err(OwnerError::Gone)), "{listen}");
        }
    }

    #[test]
    fn a_half_closed_socket_is_gone() {
        let (client, server) = pair("127.0.0.1:0");
        client.shutdown(std::net::Shutdown::Write).unwrap();
        assert!(matches!(owner_of(&server), Err(OwnerError::Gone)));
    }

    #[test]
    fn it_is_the_socket_that_counts_and_not_this_process() {
        if !nix::unistd::geteuid().is_root() {
            println!("skipped: only root can give a socket away");
            return;
        }
        let (client, server) = pair("127.0.0.1:0");
        nix::unistd::fchown(&client, Some(nix::unistd::Uid::from_raw(12_345)), None).unwrap();
        assert_eq!(owner_of(&server).unwrap(), 12_345);
    }

    #[test]
    fn an_address_of_the_table_reads_as_it_was_written() {
        let loopback = format!("{:08X}:1F90", u32::from_ne_bytes([127, 0, 0, 1]));
        assert_eq!(address(&loopback), Some("127.0.0.1:8080".parse().unwrap()));
        let mapped = format!(
            "0000000000000000{:08X}{:08X}:0050",
            u32::from_ne_bytes([0, 0, 255, 255]),
            u32::from_ne_bytes([127, 0, 0, 1])
        );
        assert_eq!(address(&mapped), Some("127.0.0.1:80".parse().unwrap()));
        for bad in ["", ":", "0100007F", "0100007F:", "01:1F90", "0100007F0100007F:1", "ä:1"] {
            assert_eq!(address(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn two_of_a_kind_and_what_has_no_owner_are_nobodys() {
        let line = |state: &str, uid: u32, inode: u64| {
            format!(
                "  1: 0100007F:1388 0100007F:1F90 {state} 00000000:00000000 00:00000000 00000000 \
                 {uid} 0 {inode} 1 0000000000000000 20 0 0 10 -1\n"
            )
        };
        let count = |text: &str| rows(&format!("header\n{text}")).count();
        assert_eq!(count(&line("01", 1000, 5)), 1);
        assert_eq!(count(&line("06", 0, 0)), 0, "TIME_WAIT is nobody's");
        let row = row(&line("01", 1000, 5)).unwrap();
        assert_eq!(row.owner, Owner { inode: 5, uid: 1000 });
        for rubbish in ["\n", "x\n", "1: 2 3 01\n", &line("01", 1, 2)[..60]] {
            assert_eq!(count(rubbish), 0, "{rubbish:?}");
        }
    }
}
