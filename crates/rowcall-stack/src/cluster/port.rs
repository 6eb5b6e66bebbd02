//! The TCP port the server listens on.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener};

use super::error::ClusterError;

/// Where `supabase start` has its database.
pub const DEFAULT_PORT: u16 = 54_322;
/// How many ports are tried.
const PORTS_TRIED: u16 = 100;

/// Which port to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortChoice {
    /// This one, or none.
    Fixed(u16),
    /// This one, or when it is taken the next free one.
    NextFree(u16),
}

impl Default for PortChoice {
    fn default() -> Self {
        Self::NextFree(DEFAULT_PORT)
    }
}

impl PortChoice {
    /// The ports to try, in this order.
    fn candidates(self) -> std::ops::RangeInclusive<u16> {
        match self {
            Self::Fixed(port) => port..=port,
            Self::NextFree(from) => from..=from.saturating_add(PORTS_TRIED - 1),
        }
    }

    /// The first port that is free now, from `from` on when given.
    ///
    /// Somebody may take it before the server does: then ask again for the ports after it.
    pub(crate) fn first_free(self, after: Option<u16>, ipv6: bool) -> Result<u16, ClusterError> {
        let untried = |port: &u16| after.is_none_or(|after| *port > after);
        self.candidates()
            .filter(untried)
            .find(|port| is_free(*port, ipv6))
            .ok_or_else(|| match self {
                Self::Fixed(port) => ClusterError::PortTaken { port },
                Self::NextFree(_) => ClusterError::NoFreePort {
                    from: *self.candidates().start(),
                    to: *self.candidates().end(),
                },
            })
    }
}

/// Whether this host has the IPv6 loopback address.
pub(crate) fn has_ipv6() -> bool {
    TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok()
}

fn is_free(port: u16, ipv6: bool) -> bool {
    let can_bind = |address: IpAddr| TcpListener::bind((address, port)).is_ok();
    can_bind(Ipv4Addr::LOCALHOST.into()) && (!ipv6 || can_bind(Ipv6Addr::LOCALHOST.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_skipped_or_refused() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let taken = listener.local_addr().expect("its address").port();

        let next = PortChoice::NextFree(taken).first_free(None, false);
        assert!(next.expect("another one is free") > taken);
        let error = PortChoice::Fixed(taken)
            .first_free(None, false)
            .expect_err("it is taken");
        assert!(error.to_string().contains(&taken.to_string()), "{error}");
    }

    #[test]
    fn a_port_that_failed_is_not_tried_again() {
        let free = PortChoice::NextFree(20_000)
            .first_free(None, false)
            .expect("free");
        let next = PortChoice::NextFree(20_000).first_free(Some(free), false);
        assert!(next.expect("free") > free);
        let error = PortChoice::Fixed(free).first_free(Some(free), false);
        assert_eq!(error.expect_err("the only one").code(), "cluster-port");
        assert!(
            PortChoice::NextFree(65_535)
                .first_free(Some(65_535), false)
                .is_err()
        );
    }
}
