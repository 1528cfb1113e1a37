//! PROXY headers, on any bytes.

use doorbell_protocol::proxy::{MAX_V2, ProxyHeader, parse};

/// Once a prefix of the stream has been understood, more bytes do not change what it means.
pub(crate) fn check(data: &[u8]) {
    let whole = parse(data);
    for len in 0..data.len().min(MAX_V2 + 1) {
        match parse(&data[..len]) {
            Ok(ProxyHeader::Partial) => {}
            known => assert_eq!(known, whole, "after {len} bytes"),
        }
    }
    match whole {
        Ok(ProxyHeader::Present { consumed, .. }) => assert!(consumed <= data.len().min(MAX_V2)),
        Ok(ProxyHeader::Partial) => assert!(data.len() < MAX_V2),
        Ok(ProxyHeader::Absent) | Err(_) => {}
    }
}
