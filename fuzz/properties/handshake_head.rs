//! Request heads and handshakes, on any bytes.

use doorbell_protocol::handshake::{Head, find_head_end};

/// Heads are found where `httparse` ends them, however they arrive, and judging one never panics.
pub(crate) fn check(data: &[u8]) {
    let end = find_head_end(data, 0);
    for first in 0..data.len().min(256) {
        if find_head_end(&data[..first], 0).is_none() {
            assert_eq!(find_head_end(data, first), end, "searched from {first}");
        }
    }

    let mut fields = [httparse::EMPTY_HEADER; 64];
    // Empty lines at the start are the one place where the two differ: two of them end the head here.
    if let Ok(httparse::Status::Complete(len)) = httparse::Request::new(&mut fields).parse(data)
        && !data.starts_with(b"\n")
        && !data.starts_with(b"\r")
    {
        assert_eq!(end, Some(len));
    }

    let Some(end) = end else { return };
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let Ok(head) = Head::parse(&data[..end], &mut fields) else { return };
    let upgrade = head.upgrade();
    let response = match upgrade.accept() {
        Ok(accepted) => accepted.response(upgrade.protocols().next(), upgrade.deflate()),
        Err(error) => error.refusal(),
    };
    let mut fields = [httparse::EMPTY_HEADER; 16];
    let parsed = httparse::Response::new(&mut fields).parse(&response);
    assert!(matches!(parsed, Ok(httparse::Status::Complete(_))), "{parsed:?}");
}
