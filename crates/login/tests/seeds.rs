//! Runs what the fuzz target checks over its seeds and over random input, so that it is tested on stable.

use std::fs;
use std::path::Path;

use proptest::collection::vec;
use proptest::prelude::*;

#[path = "../../../fuzz/properties/login_secrets.rs"]
mod login_secrets;

#[test]
fn login_secrets_seeds_hold() {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds/login_secrets");
    let mut count = 0;
    for seed in fs::read_dir(seeds).expect("the seeds are in the repository") {
        let path = seed.expect("a listed file").path();
        println!("{}", path.display());
        login_secrets::check(&fs::read(path).expect("a readable file"));
        count += 1;
    }
    assert!(count > 0, "no seeds");
}

proptest! {
    #[test]
    fn any_typed_code_holds(text in "[B-Zb-z –-]{6,12}") {
        login_secrets::check(text.as_bytes());
    }

    #[test]
    fn anything_as_long_as_a_secret_holds(text in "[A-Za-z0-9_-]{43}|[a-fA-F0-9]{64}|l_[a-f0-9]{24}") {
        login_secrets::check(text.as_bytes());
    }

    #[test]
    fn any_bytes_hold(data in vec(any::<u8>(), 0..300)) {
        login_secrets::check(&data);
    }
}
