//! What attackers try against scan-to-login, over the wire: one test a threat.
//!
//! T9 and T17 are about what providers say and are tested where that is known: the part that any provider shares is
//! here and in `crates/login`. T13 with a million attempts is in `crates/login/tests/bounds.rs`.

mod support;

use std::io::Write as _;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Barrier, Mutex};
use std::time::{Duration, Instant};

use doorbell_server::settings::{LoginClient, NumberMatch, Proximity, Settings};
use doorbell_server::{Server, StartError};
use serde_json::{Value, json};
use support::login::{
    Answer, CHALLENGE, FORM, JSON, Login, Phone, SECRET, VERIFIER, ask, login_settings, shop, shop_server,
};
use support::{
    KEY, Log, PATIENCE, Page, UPGRADE, api, connect, eventually, metric, read_all, request, start,
};

const FIREFOX: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:132.0) Gecko/20100101 Firefox/132.0";

/// Loopback is a trusted proxy, so that requests come from where `X-Forwarded-For` says.
fn behind_a_proxy(client: LoginClient) -> Settings {
    let mut settings = login_settings(client);
    settings.public.trusted_proxies = vec!["127.0.0.0/8".parse().expect("a network")];
    settings.limits.exempt = Vec::new();
    settings
}

fn from(address: &str) -> String {
    format!("X-Forwarded-For: {address}\r\n")
}

fn inspect(server: &Server, login: &Login) -> Value {
    let (status, body) = api(server, "GET", &format!("/v1/logins/{}", login.id), "");
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).expect("JSON")
}

/// State and version, as nobody's asking changes them.
fn standing(server: &Server, login: &Login) -> (String, u64) {
    let inspected = inspect(server, login);
    (
        inspected["state"].as_str().expect("a state").to_owned(),
        inspected["version"].as_u64().expect("a number"),
    )
}

fn begin_body() -> Value {
    json!({"client_id": "shop", "code_challenge": CHALLENGE})
}

#[test]
fn t01_a_victim_is_shown_the_attackers_computer_and_far_away_nobody_can_agree() {
    for (proximity, status) in [(Proximity::Require, 403), (Proximity::Signal, 200)] {
        let server = start(behind_a_proxy(LoginClient { proximity, ..shop() }));
        let attacker = format!("{}User-Agent: {FIREFOX}\r\n", from("198.51.100.7"));
        let login = Login::begin_with(&server, &attacker, &begin_body());
        let victim = Phone::open_with(&login, &from("203.0.113.9"));
        assert!(victim.html.contains("Example Shop"), "{}", victim.html);
        let shown = victim.post("scan", &[]).json();
        let question = victim.page().body;
        for part in ["198.51.100.7", "Firefox", "Linux", "Example Shop", "not in your phone"] {
            assert!(question.contains(part), "{part}: {question}");
        }
        assert_eq!(
            (&shown["same_network"], &shown["computer"]["address"]),
            (&json!(false), &json!("198.51.100.7"))
        );
        assert_eq!(victim.post("approve", &[("name", "Ada")]).status, status);
        if status == 403 {
            assert_eq!(standing(&server, &login).0, "scanned");
            continue;
        }
        // One tap later what came of it is dead.
        let token = login.token().json()["access_token"].as_str().expect("a token").to_owned();
        let mut page = Page::upgrade(server.addresses().public, "");
        page.text(&token);
        page.sync();
        let started = Instant::now();
        let (status, body) = api(&server, "DELETE", &format!("/v1/logins/{}/session", login.id), "");
        assert_eq!((status, body.contains("\"closed\":1")), (200, true), "{body}");
        assert_eq!(page.frame().close_code(), 3500);
        assert!(started.elapsed() < Duration::from_secs(1));
        let mut again = Page::upgrade(server.addresses().public, "");
        again.text(&token);
        assert_eq!(again.frame().close_code(), 3500, "the token works no more");
    }
    let server = start(behind_a_proxy(LoginClient { proximity: Proximity::Require, ..shop() }));
    let login = Login::begin_with(&server, &from("198.51.100.7"), &begin_body());
    let near = Phone::open_with(&login, &from("198.51.100.200"));
    near.post("scan", &[]);
    assert_eq!(near.post("approve", &[("name", "Ada")]).status, 200, "the same /24");
}

#[test]
fn t01b_numbers_stop_whoever_only_has_the_qr_code() {
    let server = start(login_settings(LoginClient { number_match: NumberMatch::ToPhone, ..shop() }));
    let login = Login::begin(&server);
    let number = login.begun["number"].as_str().expect("two digits").to_owned();
    assert_eq!(number.len(), 2);
    let phone = Phone::open(&login);
    let shown = phone.post("scan", &[]).json();
    assert_eq!(shown["number_match"], "to_phone");
    for text in [shown.get("number"), shown.get("digits")] {
        assert_eq!(text, None, "the phone is not told");
    }
    assert!(!phone.page().body.contains(&format!(">{number}<")));
    let missing = phone.post("approve", &[("name", "Ada")]);
    assert_eq!((missing.status, missing.error().as_str()), (400, "number"));
    let wrong = if number == "00" { "01" } else { "00" };
    for (left, status) in [(2, 400), (1, 400), (0, 400)] {
        let answer = phone.post("approve", &[("name", "Ada"), ("number", wrong)]);
        assert_eq!((answer.status, &answer.json()["tries_left"]), (status, &json!(left)), "{answer:?}");
    }
    assert_eq!(login.state(), "denied");
    assert_eq!(phone.post("approve", &[("name", "Ada"), ("number", &number)]).status, 410);

    let login = Login::begin(&server);
    let phone = Phone::scanned(&login);
    let number = login.begun["number"].as_str().expect("two digits").to_owned();
    assert_eq!(phone.post("approve", &[("name", "Ada"), ("number", &number)]).status, 200);

    let server = start(login_settings(LoginClient { number_match: NumberMatch::ToBrowser, ..shop() }));
    let login = Login::begin(&server);
    Phone::approved(&login, "Ada");
    assert_eq!((login.get().get("code"), login.token().error().as_str()), (None, "authorization_pending"));
    for left in [2, 1, 0] {
        let answer = login.ask("POST", "/v1/login/number", r#"{"number":"nope"}"#);
        assert_eq!((answer.status, &answer.json()["tries_left"]), (400, &json!(left)));
    }
    assert_eq!((login.state().as_str(), login.token().error().as_str()), ("denied", "access_denied"));
}

#[test]
fn t02_a_planted_handle_is_of_no_use_in_another_browser() {
    let server = shop_server();
    let address = server.addresses().public;
    let own = format!("Origin: http://{address}\r\nSec-Fetch-Site: same-origin\r\n{JSON}");
    let chosen = "A".repeat(43);
    let body =
        json!({"client_id": "shop", "code_challenge": CHALLENGE, "device_code": chosen, "login": "l_1"});
    let begun = ask(address, "POST", "/v1/device_authorization", &own, &body.to_string());
    let cookie = begun.cookie("doorbell_login").expect("a cookie");
    let set = begun.header("set-cookie").expect("a cookie");
    for attribute in ["HttpOnly", "SameSite=Lax", "Path=/v1"] {
        assert!(set.contains(attribute), "{set}");
    }
    let login = Login::of(address, begun.json());
    assert_ne!(login.device_code, chosen, "handles are the server's to make");
    let other = ask(address, "POST", "/v1/device_authorization", &own, &body.to_string());
    let other_cookie = other.cookie("doorbell_login").expect("a cookie");
    assert_ne!(cookie, other_cookie);
    let look = |cookie: &str, method: &str, target: &str| {
        let headers = format!(
            "Authorization: Bearer {}\r\nCookie: doorbell_login={cookie}\r\n{JSON}",
            login.device_code
        );
        ask(address, method, target, &headers, "").status
    };
    for (method, target) in [
        ("GET", "/v1/login"),
        ("DELETE", "/v1/login"),
        ("POST", "/v1/login/rotate"),
        ("POST", "/v1/login/number"),
        ("GET", "/v1/login/events"),
    ] {
        assert_eq!(look(&other_cookie, method, target), 404, "{method} {target}");
        assert_eq!(look("", method, target), 404, "{method} {target} without");
    }
    assert_eq!(standing(&server, &login), ("pending".into(), 1));
    assert_eq!(look(&cookie, "GET", "/v1/login"), 200);
    // Before it was a login, afterwards it is a person: nothing of the first is in the second.
    Phone::approved(&login, "Ada");
    let granted = login.token().json();
    assert_ne!(granted["access_token"], json!(login.device_code));
}

#[test]
fn t03_other_sites_pages_can_do_nothing_and_gets_change_nothing() {
    let server = shop_server();
    let address = server.addresses().public;
    let login = Login::begin(&server);
    let phone = Phone::open(&login);
    let before = standing(&server, &login);
    let bearer = format!("Authorization: Bearer {}\r\n", login.device_code);
    let visit = format!("Cookie: doorbell_visit={}\r\n", phone.visit);
    let qr = &login.qr;
    let token_body = format!("page_token={}", phone.page_token);
    for evil in [
        "Origin: https://evil.example\r\n",
        "Origin: null\r\nSec-Fetch-Site: cross-site\r\n",
        "Sec-Fetch-Site: cross-site\r\n",
    ] {
        for (method, target, body) in [
            ("POST", "/v1/device_authorization".to_owned(), "client_id=shop"),
            ("POST", "/v1/token".to_owned(), "grant_type=x&client_id=shop"),
            ("DELETE", "/v1/login".to_owned(), ""),
            ("POST", "/v1/login/rotate".to_owned(), ""),
            ("POST", "/v1/login/number".to_owned(), "number=1"),
            ("GET", "/v1/login".to_owned(), ""),
            ("POST", "/s".to_owned(), "user_code=BBBBBBBB"),
            ("POST", format!("/s/{qr}/scan"), token_body.as_str()),
            ("POST", format!("/s/{qr}/approve"), token_body.as_str()),
            ("POST", format!("/s/{qr}/deny"), token_body.as_str()),
        ] {
            let answer = ask(address, method, &target, &format!("{FORM}{bearer}{visit}{evil}"), body);
            assert_eq!(answer.status, 403, "{method} {target} with {evil}: {answer:?}");
        }
    }
    let mut socket = connect(address);
    socket
        .write_all(format!("{UPGRADE}Origin: https://evil.example\r\n\r\n").as_bytes())
        .expect("the server reads");
    assert!(read_all(&mut socket).starts_with("HTTP/1.1 403 "));
    // Without the page's token, or without its cookie, also from the right origin.
    for (cookie, body) in [(visit.as_str(), ""), ("", token_body.as_str()), (visit.as_str(), "page_token=x")]
    {
        let own = format!("{FORM}{cookie}Origin: http://{address}\r\nSec-Fetch-Site: same-origin\r\n");
        assert_eq!(ask(address, "POST", &format!("/s/{qr}/scan"), &own, body).status, 403);
    }
    for action in ["scan", "approve", "deny"] {
        assert_eq!(ask(address, "GET", &format!("/s/{qr}/{action}?{token_body}"), &visit, "").status, 405);
    }
    assert_eq!(standing(&server, &login), before);
}

#[test]
fn t04_no_secret_is_in_a_log_an_address_or_a_referrer() {
    let log = Log::default();
    let writer = log.clone();
    tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
        .with_writer(move || writer.clone())
        .with_ansi(false)
        .init();
    let server = shop_server();
    let address = server.addresses().public;
    let own = format!("Origin: http://{address}\r\nSec-Fetch-Site: same-origin\r\n{JSON}");
    let begun = ask(address, "POST", "/v1/device_authorization", &own, &begin_body().to_string());
    let cookie = begun.cookie("doorbell_login").expect("a cookie");
    let login = Login::of(address, begun.json());
    let mut page = Page::upgrade(address, "Sec-WebSocket-Protocol: doorbell.v1\r\n");
    page.text(&json!({"type": "login.watch", "device_code": login.device_code}).to_string());
    let phone = Phone::open(&login);
    let mut answers: Vec<Answer> =
        vec![phone.page(), phone.post("scan", &[]), phone.post("approve", &[("name", "Ada")])];
    let mut code = None;
    while code.is_none() {
        let told: Value = serde_json::from_str(&page.message()).expect("an envelope");
        code = told["code"].as_str().map(str::to_owned);
    }
    let granted = login.token();
    let token = granted.json()["access_token"].as_str().expect("a token").to_owned();
    api(&server, "POST", "/v1/redeem", &json!({"code": code, "code_verifier": VERIFIER}).to_string());
    let mut listening = Page::upgrade(address, "");
    listening.text(&token);
    listening.frame();
    answers.push(granted);
    for answer in &answers {
        assert_eq!(answer.header("referrer-policy"), Some("no-referrer"), "{answer:?}");
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{answer:?}");
    }
    let log = log.take();
    assert!(log.contains(&login.id), "the flow is in the log: {log}");
    let secrets = [
        login.device_code.as_str(),
        code.as_deref().unwrap_or_default(),
        &token,
        VERIFIER,
        SECRET,
        KEY,
        &phone.visit,
        &phone.page_token,
        &cookie,
    ];
    for secret in secrets {
        assert!(secret.len() > 16 && !log.contains(secret), "{secret} is in the log");
        for answer in &answers {
            let located = answer.header("location").unwrap_or_default();
            assert!(!located.contains(secret), "{secret} is in {located}");
        }
        let complete = login.begun["verification_uri_complete"].as_str().expect("a text");
        assert!(!complete.contains(secret));
    }
    // Nothing asked of a page's address works with the private handle in it.
    let answer = ask(address, "GET", &format!("/v1/login?device_code={}", login.device_code), "", "");
    assert_eq!(answer.status, 401);
}

#[test]
fn t05_of_a_hundred_parallel_exchanges_one_succeeds_and_what_it_gave_is_ended() {
    let server = shop_server();
    let login = Login::begin(&server);
    Phone::approved(&login, "Ada");
    let (start, tokens) = (Barrier::new(100), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..100 {
            scope.spawn(|| {
                start.wait();
                let answer = login.token();
                match answer.status {
                    200 => tokens.lock().expect("no panic").push(answer.json()),
                    _ => assert_eq!(answer.error(), "invalid_grant"),
                }
            });
        }
    });
    let tokens = tokens.into_inner().expect("no panic");
    assert_eq!(tokens.len(), 1);
    let mut page = Page::upgrade(server.addresses().public, "");
    page.text(tokens[0]["access_token"].as_str().expect("a token"));
    assert_eq!(page.frame().close_code(), 3500);
    assert_eq!(inspect(&server, &login)["session"]["revoked"], true);
    // Whoever is not the client, or has no verifier, neither learns nor ends anything.
    let other = Login::begin(&server);
    Phone::approved(&other, "Ada");
    assert_eq!(other.token_with(&[("client_secret", SECRET)], "").error(), "invalid_grant");
    assert_eq!(other.token().status, 200);
    other.token_with(&[("client_secret", SECRET), ("code_verifier", "wrong")], "");
    assert_eq!(inspect(&server, &other)["session"]["revoked"], false);
}

#[test]
fn t06_typed_codes_cannot_be_guessed() {
    let server = start(behind_a_proxy(shop()));
    let login = Login::begin_with(&server, &from("192.0.2.1"), &begin_body());
    let right = login.begun["user_code"].as_str().expect("a code").to_owned();
    let typed = |from_address: &str, code: &str| {
        let headers = format!("{FORM}{}", from(from_address));
        ask(login.address, "POST", "/s", &headers, &format!("user_code={code}"))
    };
    for _ in 0..5 {
        assert_eq!(typed("203.0.113.1", "BBBB-BBBB").status, 404);
    }
    let sixth = typed("203.0.113.1", &right);
    assert_eq!(sixth.status, 429, "even if it is right");
    assert!(sixth.header("retry-after").is_some());
    assert_eq!(typed("203.0.113.2", &right).status, 303);

    let mut settings = behind_a_proxy(shop());
    settings.login.rules.wrong_codes = 3;
    let server = start(settings);
    let login = Login::begin_with(&server, &from("192.0.2.1"), &begin_body());
    let right = login.begun["user_code"].as_str().expect("a code").to_owned();
    for (number, code, status) in
        [(1, "BBBB-BBBB", 404), (2, "CCCC-CCCC", 404), (3, "x", 404), (4, &right, 429)]
    {
        let headers = format!("{FORM}{}", from(&format!("203.0.113.{number}")));
        let answer = ask(login.address, "POST", "/s", &headers, &format!("user_code={code}"));
        assert_eq!(answer.status, status, "{answer:?}");
    }
    Phone::scanned(&login);

    let mut settings = login_settings(shop());
    settings.login.rules.wrong_codes = 2_561;
    assert!(matches!(Server::start(settings), Err(StartError::Login(_))), "a config that breaks the bound");
}

#[test]
fn t07_a_thousand_rounds_of_parallel_answers_end_in_one_state_each() {
    let mut settings = login_settings(shop());
    settings.login.rules.scanned_ttl = Duration::from_millis(25);
    let server = start(settings);
    let rounds = AtomicUsize::new(0);
    let endings = Mutex::new(std::collections::BTreeMap::<String, u32>::new());
    std::thread::scope(|scope| {
        for worker in 0..8_u64 {
            let (server, rounds, endings) = (&server, &rounds, &endings);
            scope.spawn(move || {
                while rounds.fetch_add(1, Ordering::Relaxed) < 1_000 {
                    let login = Login::begin(server);
                    let call = |action: &str| {
                        api(server, "POST", &format!("/v1/logins/{}/{action}", login.qr), "{\"uid\":1}").0
                    };
                    call("scan");
                    let start = Barrier::new(4);
                    let (call, start) = (&call, &start);
                    let login_ref = &login;
                    let statuses = std::thread::scope(|scope| {
                        let together = [
                            scope.spawn(move || (start.wait(), call("approve")).1),
                            scope.spawn(move || (start.wait(), call("deny")).1),
                            scope.spawn(move || {
                                (start.wait(), login_ref.ask("DELETE", "/v1/login", "").status).1
                            }),
                            scope.spawn(move || (start.wait(), call("approve")).1),
                        ];
                        together.map(|one| one.join().expect("no panic"))
                    });
                    for status in statuses {
                        assert!([200, 409, 410].contains(&status), "{statuses:?}");
                    }
                    // Some rounds are left to the clock.
                    if worker % 2 == 0 {
                        login.get();
                    }
                    let inspected = inspect(server, &login);
                    let audit = inspected["audit"].as_array().expect("a list");
                    let finals = ["denied", "cancelled", "expired", "consumed"];
                    let is_final =
                        |record: &&Value| finals.contains(&record["to"].as_str().unwrap_or_default());
                    assert!(audit.iter().filter(is_final).count() <= 1, "{inspected}");
                    let versions: Vec<u64> =
                        audit.iter().filter_map(|record| record["version"].as_u64()).collect();
                    assert!(versions.windows(2).all(|pair| pair[1] == pair[0] + 1), "{versions:?}");
                    assert!(statuses[1] != 200 || statuses[2] != 200, "two endings: {inspected}");
                    let state = inspected["state"].as_str().expect("a state").to_owned();
                    *endings.lock().expect("no panic").entry(state).or_default() += 1;
                }
            });
        }
    });
    let endings = endings.into_inner().expect("no panic");
    assert_eq!(endings.values().sum::<u32>(), 1_000);
    assert!(endings.len() >= 2, "the rounds differ: {endings:?}");
}

#[test]
fn t08_a_photographed_code_is_taken_renewed_or_over() {
    let mut settings = login_settings(shop());
    settings.login.rules.rotate = Duration::from_millis(400);
    settings.login.rules.rotate_grace = Duration::from_millis(100);
    let server = start(settings);
    let login = Login::begin(&server);
    login.get();
    eventually("the code to be renewed", || {
        ask(login.address, "GET", &format!("/s/{}", login.qr), "", "").status == 410
    });
    let current = login.get();
    let complete = current["verification_uri_complete"].as_str().expect("a text");
    let now = Login { qr: complete.rsplit_once('/').expect("an address").1.to_owned(), ..login.clone() };
    let second = Phone::open(&now);
    let phone = Phone::scanned(&now);
    let taken = second.post("scan", &[]);
    assert_eq!((taken.status, taken.error().as_str()), (409, "already_scanned"));
    let version = standing(&server, &login).1;
    let since = Instant::now();
    // Longer than two rotations: a scan has stopped them.
    eventually("time to pass", || since.elapsed() > Duration::from_millis(900));
    assert_eq!(standing(&server, &login).1, version);
    assert_eq!(phone.post("approve", &[("name", "Ada")]).status, 200);
    assert_eq!(ask(login.address, "GET", &format!("/s/{}", login.qr), "", "").status, 410, "the recording");
}

#[test]
fn t09_callbacks_without_their_state_their_phone_or_their_provider_are_refused() {
    let server = shop_server();
    let address = server.addresses().public;
    let state = "A".repeat(43);
    let login = Login::begin(&server);
    let phone = Phone::scanned(&login);
    let visit = format!("Cookie: doorbell_visit={}\r\n", phone.visit);
    let before = standing(&server, &login);
    for (target, status) in [
        (format!("/v1/callback/demo?code=x&state={state}"), 400),
        ("/v1/callback/demo?code=x&state=".to_owned(), 403),
        ("/v1/callback/demo?code=x".to_owned(), 403),
        (format!("/v1/callback/other?code=x&state={state}"), 404),
        (format!("/v1/callback/demo?state={}", login.qr), 400),
        (format!("/v1/callback/demo?state={}", login.device_code), 400),
    ] {
        for cookies in ["", visit.as_str()] {
            assert_eq!(ask(address, "GET", &target, cookies, "").status, status, "{target}");
        }
    }
    let pushed = ask(address, "POST", "/v1/callback/demo", "Content-Type: text/xml\r\n", "<xml/>");
    assert_eq!(pushed.status, 403);
    assert_eq!(standing(&server, &login), before);
}

#[test]
fn t10_what_is_said_again_or_too_late_changes_nothing() {
    let mut settings = login_settings(shop());
    settings.login.rules.scanned_ttl = Duration::from_secs(2);
    let server = start(settings);
    let login = Login::begin(&server);
    let call = |login: &Login, action: &str| {
        api(&server, "POST", &format!("/v1/logins/{}/{action}", login.qr), "{\"uid\":1}").0
    };
    assert_eq!(call(&login, "approve"), 409, "before the scan");
    for _ in 0..3 {
        assert_eq!(call(&login, "scan"), 200);
    }
    assert_eq!(standing(&server, &login), ("scanned".into(), 2));
    for _ in 0..3 {
        assert_eq!(call(&login, "approve"), 200);
    }
    assert_eq!(call(&login, "scan"), 200);
    assert_eq!(standing(&server, &login), ("approved".into(), 3));
    let late = Login::begin(&server);
    assert_eq!(call(&late, "scan"), 200);
    eventually("it to expire", || standing(&server, &late).0 == "expired");
    let before = standing(&server, &late);
    for action in ["approve", "scan", "deny"] {
        assert_eq!(call(&late, action), 410, "{action}");
    }
    assert_eq!(standing(&server, &late), before);
}

#[test]
fn t11_nobody_listens_to_a_login_with_its_public_handle_or_from_elsewhere() {
    let server = shop_server();
    let address = server.addresses().public;
    let login = Login::begin(&server);
    let evil = "Origin: https://evil.example\r\n";
    let mut socket = connect(address);
    socket
        .write_all(format!("{UPGRADE}{evil}Sec-WebSocket-Protocol: doorbell.v1\r\n\r\n").as_bytes())
        .expect("read");
    assert!(read_all(&mut socket).starts_with("HTTP/1.1 403 "));
    for handle in [login.qr.as_str(), login.id.as_str(), ""] {
        let bearer = format!("Authorization: Bearer {handle}\r\n");
        for target in ["/v1/login", "/v1/login/events"] {
            let status = ask(address, "GET", target, &bearer, "").status;
            assert!([401, 404].contains(&status), "{target} with {handle}: {status}");
        }
        let mut page = Page::upgrade(address, "Sec-WebSocket-Protocol: doorbell.v1\r\n");
        page.text(&json!({"type": "login.watch", "device_code": handle}).to_string());
        let told = loop {
            let message: Value = serde_json::from_str(&page.message()).expect("an envelope");
            if message["type"] == "login" {
                break message;
            }
        };
        assert_eq!(told["error"], "not_found");
    }
    let bearer = format!("Authorization: Bearer {}\r\n{evil}", login.device_code);
    assert_eq!(ask(address, "GET", "/v1/login/events", &bearer, "").status, 403);
    // A login is no uid: nobody finds its page or its mail under any of its names.
    for name in [login.qr.as_str(), &login.id, &login.device_code] {
        let (_, user) = api(&server, "GET", &format!("/v1/users/{name}"), "");
        assert!(user.contains("\"online\":false"), "{user}");
    }
}

#[test]
fn t12_no_port_is_open_that_need_not_be_and_no_call_without_a_key() {
    let defaults = Settings::default();
    assert!(defaults.text.listen.ip().is_loopback() && defaults.api.listen.ip().is_loopback());
    let server = shop_server();
    let login = Login::begin(&server);
    let addresses = server.addresses();
    for (method, path) in [
        ("POST", "/v1/push".to_owned()),
        ("POST", "/v1/redeem".to_owned()),
        ("GET", format!("/v1/logins/{}", login.id)),
        ("DELETE", format!("/v1/logins/{}/session", login.id)),
        ("POST", format!("/v1/logins/{}/scan", login.qr)),
        ("POST", format!("/v1/logins/{}/approve", login.qr)),
        ("POST", format!("/v1/logins/{}/deny", login.qr)),
    ] {
        for headers in ["", "Authorization: Bearer wrong\r\n"] {
            assert_eq!(request(addresses.api, method, &path, headers, "{}").0, 401, "{path}");
            assert_eq!(ask(addresses.public, method, &path, headers, "{}").status, 404, "{path}");
        }
    }
    assert_eq!(standing(&server, &login), ("pending".into(), 1));
}

#[test]
fn t13_a_flood_of_attempts_is_bounded_and_a_newcomer_still_gets_in() {
    let mut settings = behind_a_proxy(shop());
    settings.login.rules.attempts = 300;
    settings.login.rules.attempts_per_ip = 20;
    let server = start(settings);
    let (made, refused) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for worker in 0..8_u8 {
            let (server, made, refused) = (&server, &made, &refused);
            scope.spawn(move || {
                for number in 0..500_u32 {
                    let headers = format!(
                        "{JSON}{}",
                        from(&IpAddr::from([10, worker, 0, (number % 40) as u8]).to_string())
                    );
                    let body = begin_body().to_string();
                    let answer =
                        ask(server.addresses().public, "POST", "/v1/device_authorization", &headers, &body);
                    match answer.status {
                        200 => drop(made.fetch_add(1, Ordering::Relaxed)),
                        429 | 503 => {
                            assert!(answer.header("retry-after").is_some());
                            refused.fetch_add(1, Ordering::Relaxed);
                        }
                        other => panic!("{other}"),
                    }
                }
            });
        }
    });
    let under_way = metric(&server, "doorbell_logins_under_way");
    assert!(under_way <= 300 && refused.into_inner() > 3_000, "{under_way} of {}", made.into_inner());

    let server = start({
        let mut settings = behind_a_proxy(shop());
        settings.login.rules.attempts_per_ip = 20;
        settings
    });
    let flood = from("10.0.0.1");
    let statuses: Vec<u16> = (0..100)
        .map(|_| {
            let headers = format!("{JSON}{flood}");
            ask(
                server.addresses().public,
                "POST",
                "/v1/device_authorization",
                &headers,
                &begin_body().to_string(),
            )
            .status
        })
        .collect();
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 20);
    let login = Login::begin_with(&server, &from("192.0.2.77"), &begin_body());
    Phone::approved(&login, "Ada");
    assert_eq!(login.token().status, 200);
}

#[test]
fn t14_codes_go_nowhere_but_to_registered_addresses() {
    let server = shop_server();
    let address = server.addresses().public;
    let registered = "https://shop.example/after";
    let mut tries: Vec<String> = [
        "https://evil.example/",
        "//evil.example",
        "https://shop.example/after/",
        "https://shop.example/after?x=1",
        "https://shop.example/after#x",
        "https://shop.example@evil.example/after",
        "HTTPS://shop.example/after",
        "https://shop.example/%61fter",
        "http://shop.example/after",
        "https://shop.example:443/after",
        " ",
        "javascript:alert(1)",
        "https://shop.example/after\u{0}",
        "https://shop.example/after\r\nX: y",
        "after",
    ]
    .map(str::to_owned)
    .to_vec();
    for at in 0..registered.len() {
        let mut changed = registered.as_bytes().to_vec();
        changed[at] ^= 1;
        tries.push(String::from_utf8(changed).expect("ASCII"));
        tries.push(registered[..at].to_owned() + "x" + &registered[at..]);
    }
    for uri in tries {
        let body = json!({"client_id": "shop", "code_challenge": CHALLENGE, "redirect_uri": uri});
        let answer = ask(address, "POST", "/v1/device_authorization", JSON, &body.to_string());
        assert_eq!((answer.status, answer.header("location")), (400, None), "{uri:?}: {answer:?}");
    }
    let body = json!({"client_id": "shop", "code_challenge": CHALLENGE, "redirect_uri": registered});
    let login = Login::begin_with(&server, "", &body);
    Phone::approved(&login, "Ada");
    let code = login.get()["code"].as_str().expect("a code").to_owned();
    let body = format!(
        "grant_type=authorization_code&client_id=shop&client_secret={SECRET}&code_verifier={VERIFIER}&code={code}"
    );
    assert_eq!(
        ask(address, "POST", "/v1/token", FORM, &body).error(),
        "invalid_grant",
        "for another address"
    );
}

#[test]
fn t15_previews_prefetches_and_frames_change_nothing() {
    let server = shop_server();
    let login = Login::begin(&server);
    let target = format!("/s/{}", login.qr);
    for (method, headers) in [
        ("HEAD", ""),
        ("GET", "User-Agent: facebookexternalhit/1.1\r\n"),
        ("GET", "Purpose: prefetch\r\nSec-Purpose: prefetch;prerender\r\n"),
        ("GET", "User-Agent: Mozilla/5.0 MicroMessenger/8.0.50\r\nAccept: text/html\r\n"),
        ("GET", "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Dest: iframe\r\n"),
        ("GET", "Accept: application/json\r\n"),
        ("OPTIONS", ""),
    ] {
        let answer = ask(login.address, method, &target, headers, "");
        assert!([200, 405].contains(&answer.status), "{method}: {answer:?}");
        assert_eq!(standing(&server, &login), ("pending".into(), 1), "{method} {headers}");
    }
    let page = ask(login.address, "GET", &target, "", "");
    let policy = page.header("content-security-policy").expect("a policy");
    assert!(policy.contains("frame-ancestors 'none'") && policy.contains("default-src 'none'"), "{policy}");
    for (name, value) in [
        ("referrer-policy", "no-referrer"),
        ("cache-control", "no-store"),
        ("x-content-type-options", "nosniff"),
    ] {
        assert_eq!(page.header(name), Some(value));
    }
    assert!(
        !page.body.contains("http://")
            || page.body.matches("http://").count() == page.body.matches("http://127.").count()
    );
}

#[test]
fn t16_times_are_counted_down_by_the_server_and_never_dated() {
    let mut settings = login_settings(shop());
    settings.login.rules.created_ttl = Duration::from_secs(2);
    let server = start(settings);
    let began = Instant::now();
    let login = Login::begin(&server);
    let mut last = 3;
    loop {
        let current = login.get();
        let left = current["expires_in"].as_u64().expect("seconds");
        assert!(left <= last, "deadlines never move later");
        last = left;
        // A moment in Unix seconds has ten digits; a page's clock is never asked.
        let digits = |value: &Value| value.as_u64().is_some_and(|number| number > 1_000_000_000);
        assert!(!current.as_object().expect("an object").values().any(digits), "{current}");
        if current["state"] == "expired" {
            break;
        }
        assert!(began.elapsed() < PATIENCE);
    }
    let passed = began.elapsed();
    assert!((Duration::from_millis(1_900)..PATIENCE).contains(&passed), "{passed:?}");
    assert_eq!(login.token().error(), "expired_token");
}

#[test]
fn t17_people_of_two_providers_or_applications_are_never_one() {
    let server = shop_server();
    let uid = |login: &Login| login.token().json()["access_token"].as_str().expect("a token").to_owned();
    let (by_demo, by_app) = (Login::begin(&server), Login::begin(&server));
    Phone::approved(&by_demo, "ada");
    for action in ["scan", "approve"] {
        api(&server, "POST", &format!("/v1/logins/{}/{action}", by_app.qr), "{\"uid\":\"ada\"}");
    }
    for (login, expected) in [(&by_demo, "demo:ada"), (&by_app, "app:ada")] {
        let mut page = Page::upgrade(server.addresses().public, "");
        page.text(&uid(login));
        page.sync();
        let (_, user) = api(&server, "GET", &format!("/v1/users/{expected}"), "");
        assert!(user.contains("\"online\":true"), "{expected}: {user}");
    }
    let only_app = LoginClient { providers: vec!["app".into()], ..shop() };
    let server = start(login_settings(only_app));
    let login = Login::begin(&server);
    // A phone's browser is offered no form, and cannot do without one.
    let page = ask(login.address, "GET", &format!("/s/{}", login.qr), "", "");
    assert!(!page.body.contains("<form") && !page.body.contains("page_token"), "{page:?}");
    let forms = "Content-Type: application/json\r\nAccept: application/json\r\n";
    let posted =
        ask(login.address, "POST", &format!("/s/{}/scan", login.qr), forms, "{\"provider\":\"demo\"}");
    assert_eq!(posted.status, 403, "{posted:?}");
    assert_eq!(standing(&server, &login).0, "pending");
}
