//! Runs what the fuzz targets check over random input, some of it close to valid.

use proptest::collection::vec;
use proptest::prelude::*;

#[path = "../../../fuzz/properties/deflate.rs"]
mod deflate;
#[path = "../../../fuzz/properties/frame.rs"]
mod frame;
#[path = "../../../fuzz/properties/handshake_head.rs"]
mod handshake_head;
#[path = "../../../fuzz/properties/line.rs"]
mod line;
#[path = "../../../fuzz/properties/proxy.rs"]
mod proxy;

/// JSON that often has a `uid`, as text, with random whitespace and spelling.
fn json() -> impl Strategy<Value = String> {
    let space = "[ \t\r]{0,2}";
    let uid = prop_oneof![Just("uid"), Just("\\u0075id"), Just("u\\u0069\\u0064"), Just("UID")];
    let name = prop_oneof![uid.prop_map(str::to_owned), "[a-z微\\\\n ]{0,3}".prop_map(escape)];
    let leaf = prop_oneof![
        any::<i64>().prop_map(|number| number.to_string()),
        "-?(0|[1-9][0-9]{0,140})(\\.[0-9]{1,3})?([eE][+-]?[0-9]{1,2})?",
        any::<String>().prop_map(|text| format!("\"{}\"", escape(text))),
        "\"(\\\\u[0-9a-fA-F]{4}|\\\\[bfnrt/\"\\\\]|[a-z微😀]){0,40}\"",
        prop::sample::select(vec!["true", "false", "null", "-0", "\"\"", "[]", "{}"]).prop_map(str::to_owned),
    ];
    let value = leaf.prop_recursive(3, 32, 4, move |inner| {
        prop_oneof![
            (vec(inner.clone(), 0..4), space)
                .prop_map(|(items, space)| { format!("[{space}{}]", items.join(&format!("{space},"))) }),
            members(name.clone(), inner, space),
        ]
    });
    (space, value, space).prop_map(|(before, value, after)| before + &value + &after)
}

fn members(
    name: impl Strategy<Value = String>,
    value: impl Strategy<Value = String>,
    space: &'static str,
) -> impl Strategy<Value = String> {
    (vec((name, value), 0..4), space).prop_map(|(members, space)| {
        let members: Vec<_> =
            members.iter().map(|(name, value)| format!("\"{name}\"{space}:{value}{space}")).collect();
        format!("{{{space}{}}}", members.join(&format!(",{space}")))
    })
}

fn escape(text: String) -> String {
    let quoted = serde_json::to_string(&text).expect("a string is JSON");
    quoted[1..quoted.len() - 1].to_owned()
}

/// Bytes that matter to the grammar under test, and others.
fn mutations(alphabet: &'static [u8]) -> impl Strategy<Value = Vec<(prop::sample::Index, u8)>> {
    vec((any::<prop::sample::Index>(), prop_oneof![prop::sample::select(alphabet), any::<u8>()]), 0..4)
}

fn mutate(mut bytes: Vec<u8>, mutations: Vec<(prop::sample::Index, u8)>) -> Vec<u8> {
    for (index, byte) in mutations {
        if !bytes.is_empty() {
            let index = index.index(bytes.len());
            bytes[index] = byte;
        }
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn lines_are_understood_as_serde_json_does(json in json(), mutations in mutations(b"\"\\{}[],:0-.eu\0 \r")) {
        line::check(json.as_bytes());
        line::check(&mutate(json.into_bytes(), mutations));
    }

    #[test]
    fn any_bytes_as_lines(bytes in vec(any::<u8>(), 0..200)) {
        line::check(&bytes);
    }

    #[test]
    fn any_bytes_as_compressed_frames(bytes in vec(any::<u8>(), 0..400)) {
        deflate::check(&bytes);
    }

    /// Whole masked messages, compressed and then damaged here and there.
    #[test]
    fn nearly_valid_compressed_frames(
        max_message in 0u16..2000,
        piece in 1u8..60,
        text in "[a-c]{0,600}",
        damage in mutations(&[0xc1, 0xc2, 0x81, 0x41, 0x80, 0x00, 0xff]),
    ) {
        let mut stream = max_message.to_be_bytes().to_vec();
        stream.push(piece);
        deflate::append_masked(text.as_bytes(), &mut stream);
        deflate::append_masked(text.as_bytes(), &mut stream);
        deflate::check(&mutate(stream, damage));
    }

    #[test]
    fn any_bytes_as_frames(bytes in vec(any::<u8>(), 0..400)) {
        frame::check(&bytes);
    }

    /// Headers that are mostly valid, so that the payload behind them is reached.
    #[test]
    fn nearly_valid_frames(
        limit in 0..64_u8,
        piece in 1..20_u8,
        frames in vec(
            (
                prop::sample::select(&[0x81_u8, 0x82, 0x01, 0x02, 0x00, 0x80, 0x88, 0x89, 0x8a][..]),
                vec(prop_oneof![3 => 0..0x80_u8, 1 => any::<u8>()], 0..30),
                any::<[u8; 4]>(),
            ),
            0..8,
        ),
    ) {
        let mut bytes = vec![0, limit, piece];
        for (first, payload, mask) in frames {
            let len = u8::try_from(payload.len()).expect("short");
            bytes.extend([first, 0x80 | len]);
            bytes.extend(mask);
            bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key));
        }
        frame::check(&bytes);
    }

    #[test]
    fn nearly_valid_heads(mutations in mutations(b"\r\n:, ")) {
        let head = b"GET /chat HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
            Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
        handshake_head::check(&mutate(head.to_vec(), mutations));
    }

    #[test]
    fn any_bytes_as_heads(bytes in vec(prop_oneof![any::<u8>(), Just(b'\n'), Just(b'\r')], 0..100)) {
        handshake_head::check(&bytes);
    }

    #[test]
    fn nearly_valid_proxy_headers(
        mutations in mutations(b"\r\n 0:."),
        tail in vec(any::<u8>(), 0..20),
        v1 in any::<bool>(),
    ) {
        let header: &[u8] = if v1 {
            b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n"
        } else {
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0cssssddddspdp"
        };
        proxy::check(&mutate([header, &tail].concat(), mutations));
    }

    #[test]
    fn any_bytes_as_proxy_headers(bytes in vec(any::<u8>(), 0..60)) {
        proxy::check(&bytes);
    }
}
