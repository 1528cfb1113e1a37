//! Whose connection it is when proxies stand in between.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use crate::admission::is_in;

/// The client's own address: `peer`, unless that is a trusted proxy and says otherwise.
///
/// `forwarded` are the values of all `X-Forwarded-For` headers in order. They are read from the right, because each
/// proxy appends whom it heard from, and only as far as the trusted ones go: what a stranger wrote further left is
/// never believed. An entry that is no address ends the walk at the proxy that wrote it.
pub(crate) fn client_address<'a>(
    peer: IpAddr,
    forwarded: impl DoubleEndedIterator<Item = &'a [u8]>,
    trusted: &[IpNet],
) -> IpAddr {
    let mut address = peer.to_canonical();
    let entries = forwarded.rev().flat_map(|value| value.rsplit(|byte| *byte == b','));
    for entry in entries {
        if !is_in(trusted, address) {
            break;
        }
        match parse(entry) {
            Some(said) => address = said.to_canonical(),
            None => break,
        }
    }
    address
}

/// An address, with or without a port and brackets, as proxies write them.
fn parse(entry: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(entry).ok()?.trim();
    text.parse::<IpAddr>()
        .or_else(|_| text.parse::<SocketAddr>().map(|address| address.ip()))
        .or_else(|_| text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>())
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(peer: &str, forwarded: &[&str], trusted: &[&str]) -> String {
        let trusted: Vec<IpNet> = trusted.iter().map(|net| net.parse().unwrap()).collect();
        client_address(peer.parse().unwrap(), forwarded.iter().map(|value| value.as_bytes()), &trusted)
            .to_string()
    }

    #[test]
    fn table_of_forwarded_addresses() {
        let proxy = &["10.0.0.0/8"][..];
        for (peer, forwarded, trusted, expected) in [
            ("203.0.113.9", &["198.51.100.1"][..], proxy, "203.0.113.9"),
            ("10.0.0.1", &[], proxy, "10.0.0.1"),
            ("10.0.0.1", &["198.51.100.1"], proxy, "198.51.100.1"),
            ("10.0.0.1", &["1.2.3.4, 198.51.100.1"], proxy, "198.51.100.1"),
            ("10.0.0.1", &["1.2.3.4, 198.51.100.1, 10.0.0.2"], proxy, "198.51.100.1"),
            ("10.0.0.1", &["198.51.100.1", "10.0.0.2"], proxy, "198.51.100.1"),
            ("10.0.0.1", &["198.51.100.1:443"], proxy, "198.51.100.1"),
            ("10.0.0.1", &["[2001:db8::1]:443"], proxy, "2001:db8::1"),
            ("10.0.0.1", &["unknown"], proxy, "10.0.0.1"),
            ("10.0.0.1", &["1.2.3.4, unknown, 10.0.0.2"], proxy, "10.0.0.2"),
            ("::ffff:10.0.0.1", &["198.51.100.1"], proxy, "198.51.100.1"),
        ] {
            assert_eq!(client(peer, forwarded, trusted), expected, "{peer} {forwarded:?}");
        }
    }
}
