//! Providers that have QR codes of their own and tell of their scans.

mod support;

use doorbell_login::{Begin, BeginError, Consent, Origin, OwnCode, Phone, Refusal, Rules, State};

use support::{address, at_once, begin, beginning, client, page, person, phone, visit, with_client};

#[test]
fn a_login_with_the_providers_own_code_keeps_its_qr_token() {
    let (logins, _) = with_client(client());
    let begun = begin(&logins, address(1), 0);
    let (device, qr) = (&begun.device_code, begun.view.qr.expect("a token"));
    let text = || OwnCode::Text("http://weixin.qq.com/q/02x".into());
    let view = at_once(logins.show_own_code(device, &qr, text(), 10)).expect("pending");
    assert_eq!((view.own_code, view.rotate_in_ms), (Some(text()), None));
    let view = at_once(logins.rotate(page(device.expose()), 5_000)).expect("nothing to do");
    assert_eq!(view.version, 2);
    for now in (10_000..110_000).step_by(10_000) {
        at_once(logins.tick(now)).expect("the store works");
    }
    let view = at_once(logins.look(qr.expose(), None, address(2), 110_000)).expect("the same token");
    assert_eq!(view.state, State::Pending);
    // Another token than the code names is refused, and after a scan it is too late.
    let other = begin(&logins, address(1), 0).view.qr.expect("a token");
    let refused = at_once(logins.show_own_code(device, &other, OwnCode::Elsewhere, 110_000));
    assert_eq!(refused.expect_err("another"), Refusal::Renewed);
    at_once(logins.scan(qr.expose(), phone(1), 110_000)).expect("pending");
    assert!(at_once(logins.show_own_code(device, &qr, OwnCode::Elsewhere, 110_000)).is_err());
}

#[test]
fn whoever_the_provider_has_seen_agrees_and_nobody_in_their_place() {
    let (logins, _) = with_client(client());
    let begun = begin(&logins, address(1), 0);
    let qr = begun.view.qr.expect("a token");
    let from_the_provider = || Phone { origin: Origin::new(address(99), "provider"), ..phone(1) };
    let scan = |now| at_once(logins.scan_known(qr.expose(), from_the_provider(), person(1), now));
    let view = scan(10).expect("pending");
    assert_eq!((view.state, view.known_by.as_deref(), view.version), (State::Scanned, Some("demo"), 2));
    // Told twice: nothing more. Someone else: too late.
    assert_eq!(scan(11).expect("the same").version, 2);
    let second = Phone { visit: visit(2), ..from_the_provider() };
    let refused = at_once(logins.scan_known(qr.expose(), second, person(2), 12));
    assert_eq!(refused.expect_err("taken"), Refusal::AlreadyScanned);

    // The phone itself says where it is, once.
    let view = at_once(logins.scan(qr.expose(), phone(1), 13)).expect("the same visit");
    assert_eq!(view.version, 3);
    assert_eq!(at_once(logins.scan(qr.expose(), phone(1), 14)).expect("again").version, 3);
    // Others see nothing of it, and cannot agree.
    let look =
        |number| at_once(logins.look(qr.expose(), Some(&visit(number)), address(3), 15)).expect("there");
    assert_eq!((look(1).known_by.as_deref(), look(2).known_by), (Some("demo"), None));
    let stranger = at_once(logins.agree_by(qr.expose(), &visit(2), None, "demo", 16));
    assert_eq!(stranger.err(), Some(Refusal::AlreadyScanned));

    let mut now = 17;
    let mut agree = |who| {
        now += 1;
        let agreed = at_once(logins.agree_by(qr.expose(), &visit(1), None, "demo", now)).expect("the owner");
        let Consent::Ask(state) = agreed else { panic!("approved before") };
        let back = at_once(logins.came_back(state.expose(), &visit(1), "demo", now)).expect("the owner");
        at_once(logins.approve_returned(&back, phone(1).origin, person(who), now))
    };
    assert_eq!(agree(2).expect_err("somebody else"), Refusal::AlreadyScanned);
    let view = agree(1).expect("who scanned");
    assert_eq!(view.state, State::Approved);
    let attempt = at_once(logins.inspect(view.login)).expect("the store works").expect("there");
    assert_eq!(attempt.identity.as_deref(), Some(&person(1)));
}

#[test]
fn another_provider_still_asks_and_one_that_is_not_allowed_is_not_believed() {
    let mut shop = client();
    shop.providers = vec!["other".into(), "demo".into()];
    let (logins, _) = with_client(shop.clone());
    let qr = begin(&logins, address(1), 0).view.qr.expect("a token");
    at_once(logins.scan_known(qr.expose(), phone(1), person(1), 1)).expect("pending");
    let asked = at_once(logins.agree_by(qr.expose(), &visit(1), None, "other", 2));
    assert!(matches!(asked, Ok(Consent::Ask(_))), "{asked:?}");

    shop.providers = vec!["other".into()];
    logins.adopt(Rules { clients: vec![shop], ..Rules::default() });
    let qr = begin(&logins, address(1), 0).view.qr.expect("a token");
    let refused = at_once(logins.scan_known(qr.expose(), phone(1), person(1), 1));
    assert_eq!(refused.expect_err("not allowed"), Refusal::Provider);
}

#[test]
fn a_page_is_brought_back_to_its_own_origin_alone() {
    let (logins, _) = with_client(client());
    let origin = Some("https://shop.example");
    for (return_to, web_origin, good) in [
        ("https://shop.example", origin, true),
        ("https://shop.example/login?next=%2Fcart", origin, true),
        ("https://shop.example?x", origin, true),
        ("https://shop.example.evil/", origin, false),
        ("https://shop.example@evil/", origin, false),
        ("https://shop.example:8443/", origin, false),
        ("http://shop.example/", origin, false),
        ("https://shop.example/a b", origin, false),
        ("https://shop.example/#a", origin, false),
        ("//evil/", origin, false),
        ("null/", Some("null"), false),
        ("https://shop.example/", None, false),
    ] {
        let client = client();
        let begin = Begin { return_to: Some(return_to), web_origin, ..beginning(&client, address(1)) };
        let begun = at_once(logins.begin(begin, 0));
        assert_eq!(begun.is_ok(), good, "{return_to} from {web_origin:?}");
        assert!(good || matches!(begun, Err(BeginError::ReturnTo)), "{return_to}");
    }
}
