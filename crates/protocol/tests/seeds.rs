//! Runs what the fuzz targets check over their seeds, so that the corpus is tested on stable.

use std::fs;
use std::path::Path;

#[path = "../../../fuzz/properties/deflate.rs"]
mod deflate;
#[path = "../../../fuzz/properties/envelope.rs"]
mod envelope;
#[path = "../../../fuzz/properties/frame.rs"]
mod frame;
#[path = "../../../fuzz/properties/handshake_head.rs"]
mod handshake_head;
#[path = "../../../fuzz/properties/line.rs"]
mod line;
#[path = "../../../fuzz/properties/proxy.rs"]
mod proxy;

#[test]
fn deflate_seeds_hold() {
    run("deflate", deflate::check);
}

#[test]
fn envelope_seeds_hold() {
    run("envelope", envelope::check);
}

#[test]
fn frame_seeds_hold() {
    run("frame", frame::check);
}

#[test]
fn line_seeds_hold() {
    run("line", line::check);
}

#[test]
fn handshake_head_seeds_hold() {
    run("handshake_head", handshake_head::check);
}

#[test]
fn proxy_seeds_hold() {
    run("proxy", proxy::check);
}

fn run(target: &str, check: fn(&[u8])) {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds").join(target);
    let mut count = 0;
    for seed in fs::read_dir(seeds).expect("the seeds are in the repository") {
        let path = seed.expect("a listed file").path();
        println!("{}", path.display());
        check(&fs::read(path).expect("a readable file"));
        count += 1;
    }
    assert!(count > 0, "no seeds for {target}");
}
