//! Runs what the fuzz target checks over its seeds, so that it is tested on stable.

use std::fs;
use std::path::Path;

#[path = "../../../fuzz/properties/login_request.rs"]
mod login_request;

#[test]
fn login_request_seeds_hold() {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds/login_request");
    let mut paths: Vec<_> = fs::read_dir(seeds)
        .expect("the seeds are in the repository")
        .map(|seed| seed.expect("a listed file").path())
        .collect();
    paths.sort();
    assert!(!paths.is_empty(), "no seeds");
    for path in paths {
        println!("{}", path.display());
        login_request::check(&fs::read(path).expect("a readable file"));
    }
}
