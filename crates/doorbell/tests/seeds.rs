//! Runs what the `config` fuzz target checks over its seeds and over their mutations, so that it is tested on stable.

use std::fs;
use std::path::Path;

#[path = "../../../fuzz/properties/config.rs"]
mod config;

#[test]
fn config_seeds_hold_whole_cut_and_with_any_byte_changed() {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds/config");
    let mut count = 0;
    for seed in fs::read_dir(seeds).expect("the seeds are in the repository") {
        let text = fs::read(seed.expect("a listed file").path()).expect("a readable file");
        config::check(&text);
        // A step that reaches every kind of line without trying every byte of a long file.
        let step = text.len().div_ceil(200);
        for at in (0..text.len()).step_by(step) {
            config::check(&text[..at]);
            for byte in b"\"'[]{}=#,.\n\\0-" {
                let mut changed = text.clone();
                changed[at] = *byte;
                config::check(&changed);
            }
        }
        count += 1;
    }
    assert!(count > 0, "no seeds");
}
