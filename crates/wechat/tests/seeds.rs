//! Runs what the fuzz target checks over its seeds and over random input, so that it is tested on stable.

use std::fs;
use std::path::Path;

use proptest::collection::vec;
use proptest::prelude::*;

#[path = "../../../fuzz/properties/wechat_callback.rs"]
mod wechat_callback;

#[test]
fn wechat_callback_seeds_hold() {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds/wechat_callback");
    let mut count = 0;
    for seed in fs::read_dir(seeds).expect("the seeds are in the repository") {
        let path = seed.expect("a listed file").path();
        println!("{}", path.display());
        wechat_callback::check(&fs::read(path).expect("a readable file"));
        count += 1;
    }
    assert!(count > 0, "no seeds");
}

/// Parts of callbacks in any order: often close to well-formed.
fn callback() -> impl Strategy<Value = Vec<u8>> {
    let part = prop::sample::select(vec![
        "<xml>",
        "</xml>",
        "<ToUserName>",
        "</ToUserName>",
        "<FromUserName>oA</FromUserName>",
        "<CreateTime>1</CreateTime>",
        "<MsgType>event</MsgType>",
        "<Event>SCAN</Event>",
        "<EventKey>S</EventKey>",
        "<Ticket>T</Ticket>",
        "<![CDATA[",
        "]]>",
        "&amp;",
        "&#65;",
        "&x;",
        "<!--",
        "-->",
        "<!DOCTYPE a>",
        "<?a?>",
        "<a b='c'/>",
        "gh_1",
        "微信",
        "\n",
        " ",
        "timestamp=1714112445",
        "&nonce=1",
        "&encrypt_type=aes",
        "&msg_signature=",
        "%41",
        "%",
        "+",
        "=",
        "{",
        "}",
        "\"",
        "\"ToUserName\":\"gh\",",
        "\"FromUserName\":\"oA\",",
        "\"CreateTime\":1",
        ",",
        "null",
        "[",
        "]",
    ]);
    vec(prop_oneof![part.prop_map(|part| part.as_bytes().to_vec()), vec(any::<u8>(), 0..4)], 0..40)
        .prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn any_callback_holds(data in callback()) {
        wechat_callback::check(&data);
    }

    #[test]
    fn any_bytes_hold(data in vec(any::<u8>(), 0..300)) {
        wechat_callback::check(&data);
    }
}
