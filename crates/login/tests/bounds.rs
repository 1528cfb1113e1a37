//! What is bounded stays bounded, and the clock does its work.

mod support;

use doorbell_login::{
    BeginError, Client, Crowded, Handle, Proximity, Refusal, Rules, State, TRIES, TypedError, same_network,
};
use support::{
    VERIFIER, address, at_once, begin, client, logins, page, person, phone, redeem, try_begin, visit,
    with_client,
};

/// T13 for the state machine alone.
#[test]
fn a_million_attempts_stay_within_the_bound_and_a_newcomer_still_gets_in() {
    let rules = Rules { attempts: 20_000, clients: vec![client()], ..Rules::default() };
    let (logins, told) = logins(rules);
    let mut refused = 0;
    for number in 0..1_000_000_u32 {
        // From 5,000 addresses, over ten minutes.
        let (from, now) = (address(0x0a00_0000 + number % 5_000), u64::from(number) * 600 / 1_000);
        match try_begin(&logins, from, now) {
            Ok(begun) if number % 3 == 0 => {
                drop(at_once(logins.cancel(page(begun.device_code.expose()), now)))
            }
            Ok(_) => {}
            Err(BeginError::Crowded(Crowded::Address | Crowded::Everywhere)) => refused += 1,
            Err(other) => panic!("{other:?}"),
        }
        if number % 1_000 == 0 {
            at_once(logins.tick(now)).expect("in memory");
            told.0.lock().clear();
            assert!(logins.under_way() <= 20_000);
            assert!(logins.store().len() <= 20_000 + 20_001, "{}", logins.store().len());
            assert!(logins.store().key_count() <= 40 * logins.store().len());
        }
    }
    assert!(refused > 100_000, "the bound was reached: {refused}");
    let now = 600_000;
    let begun = begin(&logins, address(0xc633_6401), now);
    let qr = begun.view.qr.expect("a token");
    at_once(logins.scan(qr.expose(), phone(0), now)).expect("the first");
    at_once(logins.approve(qr.expose(), &visit(0), None, person(0), now)).expect("the owner");
    assert!(redeem(&logins, Handle::DeviceCode(begun.device_code.expose()), Some(VERIFIER), now).is_ok());
    // A day later nothing is left of it.
    at_once(logins.tick(now + 25 * 3_600_000)).expect("in memory");
    at_once(logins.tick(now + 50 * 3_600_000)).expect("in memory");
    assert_eq!((logins.under_way(), logins.store().len(), logins.store().key_count()), (0, 0, 0));
}

#[test]
fn qr_tokens_change_by_the_clock_once_the_page_follows_and_old_ones_end_after_the_grace() {
    let (logins, _) = with_client(client());
    let begun = begin(&logins, address(1), 0);
    let first = begun.view.qr.expect("a token");
    let device = begun.device_code.expose();
    at_once(logins.tick(31_000)).expect("in memory");
    let look = |token: &str, now| at_once(logins.look(token, None, address(2), now)).map(|view| view.state);
    assert_eq!(look(first.expose(), 31_000), Ok(State::Pending), "nobody could have drawn a new one");
    let (_, view) = at_once(logins.current(page(device), 31_000)).expect("theirs");
    assert_eq!((view.qr.as_ref(), view.rotate_in_ms), (Some(&first), Some(0)));
    at_once(logins.tick(31_300)).expect("in memory");
    let (attempt, view) = at_once(logins.current(page(device), 31_300)).expect("theirs");
    assert_eq!((attempt.version, view.rotate_in_ms), (2, Some(30_000)));
    let second = view.qr.expect("a token");
    assert_ne!(second, first);
    assert_eq!(look(second.expose(), 31_300), Ok(State::Pending));
    assert_eq!(look(first.expose(), 36_299), Ok(State::Pending), "in the grace");
    assert_eq!(look(first.expose(), 36_300), Err(Refusal::Renewed));
    at_once(logins.scan(second.expose(), phone(0), 40_000)).expect("the first");
    at_once(logins.tick(70_000)).expect("in memory");
    let (attempt, view) = at_once(logins.current(page(device), 70_000)).expect("theirs");
    assert_eq!((attempt.version, view.qr), (3, None), "a scan ends the rotation");
}

#[test]
fn a_login_whose_page_is_gone_is_cancelled_and_one_whose_page_comes_back_is_not() {
    let (logins, _) = with_client(client());
    let state = |begun: &doorbell_login::BegunLogin| {
        at_once(logins.inspect(begun.view.login)).expect("in memory").expect("remembered").state
    };
    let watch = |begun: &doorbell_login::BegunLogin, now| {
        let (attempt, _) = at_once(logins.current(page(begun.device_code.expose()), now)).expect("theirs");
        logins.watched(&attempt, now);
    };
    let (gone, back, polling) =
        (begin(&logins, address(1), 0), begin(&logins, address(2), 0), begin(&logins, address(3), 0));
    for begun in [&gone, &back, &polling] {
        watch(begun, 1_000);
        logins.left(begun.view.login, 2_000);
    }
    watch(&back, 10_000);
    at_once(logins.current(page(polling.device_code.expose()), 20_000)).expect("theirs");
    at_once(logins.tick(31_900)).expect("in memory");
    assert_eq!(state(&gone), State::Pending);
    at_once(logins.tick(32_300)).expect("in memory");
    assert_eq!(
        (state(&gone), state(&back), state(&polling)),
        (State::Cancelled, State::Pending, State::Pending)
    );
}

/// T6 for the state machine alone.
#[test]
fn a_sixth_code_is_refused_even_if_it_is_right_and_the_qr_code_still_works() {
    let (logins, _) = with_client(client());
    let begun = begin(&logins, address(1), 0);
    let code = begun.view.user_code.expect("a code").to_string();
    let qr = begun.view.qr.expect("a token");
    for _ in 0..TRIES {
        assert_eq!(at_once(logins.typed("BBBB-BBBB", address(2), 10)), Err(TypedError::Wrong));
    }
    assert!(matches!(at_once(logins.typed(&code, address(2), 10)), Err(TypedError::Guessing(_))));
    assert_eq!(at_once(logins.typed(&code, address(3), 10)), Ok(qr.clone()));
    assert!(at_once(logins.scan(qr.expose(), phone(0), 20)).is_ok());
}

#[test]
fn a_loopback_address_says_nothing_about_networks_and_what_is_unknown_is_not_near() {
    let ip = |text: &str| text.parse::<std::net::IpAddr>().expect("an address");
    for (one, other, near) in [
        ("192.0.2.1", "192.0.2.99", Some(true)),
        ("192.0.2.1", "192.0.3.1", Some(false)),
        ("192.0.2.1", "2001:db8::1", Some(false)),
        ("2001:db8:1::1", "2001:db8:1:2::3", Some(true)),
        ("127.0.0.1", "127.9.0.1", Some(true)),
        ("127.0.0.1", "::1", Some(true)),
        ("127.0.0.1", "192.168.1.7", None),
        ("::ffff:127.0.0.1", "192.168.1.7", None),
        ("::1", "2001:db8::1", None),
    ] {
        assert_eq!(same_network(ip(one), ip(other)), near, "{one} and {other}");
        assert_eq!(same_network(ip(other), ip(one)), near, "{other} and {one}");
    }
    for (proximity, agreed) in [(Proximity::Require, Err(Refusal::TooFar)), (Proximity::Signal, Ok(()))] {
        let (logins, _) = with_client(Client { proximity, ..client() });
        let begun = begin(&logins, ip("127.0.0.1"), 0);
        let qr = begun.view.qr.expect("a token");
        // The phones of these tests are on a network of their own.
        let scanned = at_once(logins.scan(qr.expose(), phone(0), 1)).expect("the first");
        assert_eq!(scanned.same_network, None, "{proximity:?}");
        let outcome = at_once(logins.approve(qr.expose(), &visit(0), None, person(0), 2));
        assert_eq!(outcome.map(drop), agreed, "{proximity:?}");
    }
}
