//! Whose process is at the other end of a local connection.
//!
//! Published agent scripts report without any credential. On Linux the kernel says which process holds the other end of a
//! loopback connection, and the environment of that process says which run of ours it belongs to: such a report is as good
//! as one with a token. Elsewhere nobody can say, and the report is taken.

use rowcall_supervisor::Supervisor;

use super::serve::Ends;

/// Whether the connection comes from a process that runs `task`: one started for it, or a warm worker.
#[cfg(target_os = "linux")]
pub(super) fn runs(supervisor: &Supervisor, ends: Ends, task: &str) -> bool {
    let Some(inode) = linux::socket_inode(ends) else {
        return false;
    };
    let socket = format!("socket:[{inode}]");
    supervisor
        .processes()
        .into_iter()
        .any(|pid| linux::holds(pid, &socket) && linux::is_agent_of(pid, task))
}

/// Elsewhere every process of this machine may report on a task whose uuid it knows.
#[cfg(not(target_os = "linux"))]
pub(super) fn runs(_: &Supervisor, _: Ends, _: &str) -> bool {
    true
}

#[cfg(target_os = "linux")]
mod linux {
    use std::{
        fs,
        net::{IpAddr, SocketAddr},
    };

    use super::Ends;

    /// The inode of the client's socket.
    pub(super) fn socket_inode(ends: Ends) -> Option<u64> {
        ["/proc/net/tcp", "/proc/net/tcp6"].iter().find_map(|file| {
            let table = fs::read_to_string(file).ok()?;
            inode_in(&table, ends.peer, ends.local)
        })
    }

    /// Looks a connection up in the kernel's table: our peer is "local" in the client's line.
    pub(super) fn inode_in(table: &str, client: SocketAddr, server: SocketAddr) -> Option<u64> {
        let (client, server) = (shown(client), shown(server));
        table.lines().skip(1).find_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let [_, local, remote, _, _, _, _, _, _, inode, ..] = fields[..] else {
                return None;
            };
            if same(local, &client) && same(remote, &server) {
                inode.parse().ok()
            } else {
                None
            }
        })
    }

    /// An address as the table writes it: IPv4 possibly as an IPv6-mapped one, words in the machine's byte order.
    fn shown(address: SocketAddr) -> Vec<String> {
        use std::fmt::Write as _;
        let words = |bytes: &[u8]| {
            bytes.chunks(4).fold(String::new(), |mut out, word| {
                let word = u32::from_ne_bytes(word.try_into().expect("four bytes"));
                write!(out, "{word:08X}").expect("writing to a text does not fail");
                out
            })
        };
        let port = address.port();
        match address.ip() {
            IpAddr::V4(ip) => vec![
                format!("{}:{port:04X}", words(&ip.octets())),
                format!("{}:{port:04X}", words(&ip.to_ipv6_mapped().octets())),
            ],
            IpAddr::V6(ip) => vec![format!("{}:{port:04X}", words(&ip.octets()))],
        }
    }

    fn same(field: &str, forms: &[String]) -> bool {
        forms.iter().any(|form| form == field)
    }

    pub(super) fn holds(pid: u32, socket: &str) -> bool {
        let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else {
            return false;
        };
        entries.flatten().any(|entry| {
            fs::read_link(entry.path()).is_ok_and(|target| target.as_os_str() == socket)
        })
    }

    /// What only warm workers find in their environment.
    const WORKER: &str = "ROWCALL_WORKER_PROTOCOL";

    /// A process started for a task carries its uuid, a warm worker the version of its protocol. An app's own program is no
    /// agent.
    pub(super) fn is_agent_of(pid: u32, task: &str) -> bool {
        let Ok(environment) = fs::read(format!("/proc/{pid}/environ")) else {
            return false;
        };
        let value = |name: &str| {
            environment
                .split(|byte| *byte == 0)
                .filter_map(|pair| std::str::from_utf8(pair).ok())
                .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
        };
        match value("TASK_UUID") {
            Some(uuid) => uuid == task,
            None => value(WORKER).is_some(),
        }
    }

    #[cfg(test)]
    mod tests {
        use std::net::{TcpListener, TcpStream};

        use super::*;

        #[test]
        fn the_kernel_says_who_is_at_the_other_end() {
            for address in ["127.0.0.1:0", "[::1]:0"] {
                let Ok(listener) = TcpListener::bind(address) else {
                    continue;
                };
                let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
                let (server, peer) = listener.accept().unwrap();
                let ends = Ends {
                    peer,
                    local: server.local_addr().unwrap(),
                };
                let inode = socket_inode(ends).expect("the connection is in the table");
                assert!(holds(std::process::id(), &format!("socket:[{inode}]")));
                drop(client);
            }
        }
    }
}
