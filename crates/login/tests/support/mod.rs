//! A table of logins with a counter for randomness, and futures that never wait.
#![allow(unreachable_pub, reason = "shared by several test binaries")]
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::future::Future;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

use doorbell_login::{
    Attempt, Begin, BegunLogin, Client, Digest, Handle, Identity, Keys, Logins, MemoryStore, NoRandomness,
    Observer, Origin, Page, Phone, Random, RedeemError, Redeemed, Redemption, Rules, Session, Step, View,
};
use parking_lot::Mutex;

/// The value of a future that does not wait: the store in memory never does.
pub fn at_once<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("the store in memory does not wait"),
    }
}

/// Different each time, and the same in every run.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Random for Counter {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), NoRandomness> {
        for chunk in bytes.chunks_mut(8) {
            // Mixed, so that the shards are used as they would be (splitmix64).
            let mut word = self.0.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            let word = (word ^ (word >> 31)).to_be_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
        Ok(())
    }
}

/// What the observer was told.
#[derive(Debug, Clone, Default)]
pub struct Told(pub Arc<Mutex<Vec<Stepped>>>);

pub type Stepped = (Arc<Attempt>, Step);

impl Observer for Told {
    fn stepped(&self, attempt: &Arc<Attempt>, step: Step, view: &dyn Fn() -> View) {
        assert_eq!(view().version, attempt.version);
        self.0.lock().push((Arc::clone(attempt), step));
    }
}

pub const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
pub const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

pub fn client() -> Client {
    Client { secret: Some(Digest::of("secret")), ..Client::new("shop", "Example Shop") }
}

pub fn logins(rules: Rules) -> (Logins<MemoryStore>, Told) {
    let told = Told::default();
    let keys = Keys::from_bytes([9; 32]);
    let most_ended = rules.attempts;
    rules.check().expect("good rules");
    let logins = Logins::new(
        MemoryStore::new(most_ended),
        keys,
        Box::<Counter>::default(),
        rules,
        Box::new(told.clone()),
    );
    (logins, told)
}

pub fn with_client(client: Client) -> (Logins<MemoryStore>, Told) {
    logins(Rules { clients: vec![client], ..Rules::default() })
}

pub fn address(number: u32) -> IpAddr {
    IpAddr::from(number.to_be_bytes())
}

pub fn begin(logins: &Logins<MemoryStore>, from: IpAddr, now: u64) -> BegunLogin {
    try_begin(logins, from, now).expect("there is room")
}

pub fn try_begin(
    logins: &Logins<MemoryStore>,
    from: IpAddr,
    now: u64,
) -> Result<BegunLogin, doorbell_login::BeginError> {
    let rules = logins.rules();
    at_once(logins.begin(beginning(&rules.clients[0], from), now))
}

/// What a login of a client's page begins with.
pub fn beginning(client: &Client, from: IpAddr) -> Begin<'_> {
    Begin {
        client,
        base: "https://login.example",
        computer: Origin::new(from, "Mozilla/5.0 (X11; Linux x86_64; rv:132.0) Gecko/20100101 Firefox/132.0"),
        exempt: false,
        cookie: None,
        web_origin: None,
        redirect_uri: None,
        return_to: None,
        challenge: Some(CHALLENGE),
        binding_message: None,
        provider: None,
    }
}

pub fn page(device_code: &str) -> Page<'_> {
    Page { device_code, cookie: None, web_origin: None }
}

pub fn visit(number: u8) -> Digest {
    Digest::of(&format!("visit {number}"))
}

pub fn phone(number: u8) -> Phone {
    Phone { visit: visit(number), origin: Origin::new(address(0xc000_0201), "phone"), name: None }
}

pub fn person(number: u8) -> Identity {
    Identity {
        provider: "demo".into(),
        appid: None,
        id: format!("person{number}"),
        unionid: None,
        name: Some(format!("Person {number}")),
        picture: None,
    }
}

pub fn redeem(
    logins: &Logins<MemoryStore>,
    handle: Handle<'_>,
    verifier: Option<&str>,
    now: u64,
) -> Result<Redeemed, RedeemError> {
    let redemption = Redemption {
        handle,
        client: Some(&client()),
        verifier,
        redirect_uri: None,
        compare_redirect_uri: false,
        address: None,
    };
    let session = |identity: &Identity| identity.uid(None).map(|uid| Session { uid, revoked: false });
    at_once(logins.redeem(redemption, session, now))
}
