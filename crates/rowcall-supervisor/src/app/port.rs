//! Free ports, and the ports that programs really listen on.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};

/// How many ports after the wanted one are tried.
const TRIED: u16 = 100;

/// The wanted port, or the next one that is free on all of 127.0.0.1, `::1` and 0.0.0.0, as the SDK checks it. `None` when
/// none is.
pub(super) fn free(wanted: u16) -> Option<u16> {
    (wanted..=wanted.saturating_add(TRIED)).find(|port| is_free(*port))
}

pub(super) fn is_free(port: u16) -> bool {
    let binds = |address: SocketAddr| match TcpListener::bind(address) {
        Ok(_) => true,
        // A machine without IPv6 has no ::1 to be taken.
        Err(error) => address.is_ipv6() && error.kind() == std::io::ErrorKind::AddrNotAvailable,
    };
    binds((Ipv4Addr::LOCALHOST, port).into())
        && binds((Ipv6Addr::LOCALHOST, port).into())
        && binds((Ipv4Addr::UNSPECIFIED, port).into())
}

/// The ports that any of these processes listens on, the lowest first.
#[cfg(target_os = "linux")]
pub(super) fn listened(pids: &[u32]) -> Vec<u16> {
    use std::{
        collections::{BTreeSet, HashMap},
        fs,
    };
    /// The state of a listening socket in the kernel's table.
    const LISTEN: &str = "0A";
    let mut ports: HashMap<String, u16> = HashMap::new();
    for file in ["/proc/net/tcp", "/proc/net/tcp6"] {
        let Ok(table) = fs::read_to_string(file) else {
            continue;
        };
        for line in table.lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            if let [_, local, _, LISTEN, _, _, _, _, _, inode, ..] = fields[..]
                && let Some(port) = local
                    .rsplit_once(':')
                    .and_then(|(_, port)| u16::from_str_radix(port, 16).ok())
            {
                ports.insert(format!("socket:[{inode}]"), port);
            }
        }
    }
    let mut found = BTreeSet::new();
    for pid in pids {
        let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else {
            continue;
        };
        for entry in entries.flatten() {
            if let Ok(target) = fs::read_link(entry.path())
                && let Some(port) = target.to_str().and_then(|target| ports.get(target))
            {
                found.insert(*port);
            }
        }
    }
    found.into_iter().collect()
}

/// Elsewhere nobody says.
#[cfg(not(target_os = "linux"))]
pub(super) fn listened(_: &[u32]) -> Vec<u16> {
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_passed_over() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        assert!(!is_free(port));
        let next = free(port).unwrap();
        assert!(next > port && next <= port + TRIED);
        if cfg!(target_os = "linux") {
            assert!(listened(&[std::process::id()]).contains(&port));
        }
    }
}
