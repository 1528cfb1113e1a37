//! Scan-to-login over the wire: a page, a phone, a backend.

mod support;

use std::io::Write as _;

use doorbell_server::settings::{LoginClient, NumberMatch};
use serde_json::{Value, json};
use support::login::{
    Answer, CHALLENGE, FORM, JSON, Login, Phone, SECRET, VERIFIER, ask, login_settings, shop, shop_server,
};
use support::{Events, Page, api, connect, eventually, metric, read_head, start};

/// A WebSocket that watches a login.
fn watch(login: &Login) -> Page {
    let mut page = Page::upgrade(login.address, "Sec-WebSocket-Protocol: doorbell.v1\r\n");
    page.text(&json!({"type": "login.watch", "device_code": login.device_code}).to_string());
    page
}

/// What a page that watches is told next of its login.
fn told(page: &mut Page) -> Value {
    loop {
        let message: Value = serde_json::from_str(&page.message()).expect("an envelope");
        if message["type"] == "login" {
            return message;
        }
    }
}

#[test]
fn a_page_a_phone_and_a_backend_go_the_whole_way() {
    let server = shop_server();
    let login = Login::begin(&server);
    assert_eq!(login.begun["state"], "pending");
    assert_eq!((&login.begun["expires_in"], &login.begun["interval"]), (&json!(120), &json!(5)));
    let complete = login.begun["verification_uri_complete"].as_str().expect("a text");
    assert_eq!(complete, format!("http://{}/s/{}", login.address, login.qr));
    assert_eq!(login.token().error(), "authorization_pending");

    let phone = Phone::open(&login);
    assert!(phone.html.contains("Example Shop"), "{}", phone.html);
    assert_eq!(login.state(), "pending");
    let scanned = phone.post("scan", &[]).json();
    assert_eq!((&scanned["state"], &scanned["site"]["name"]), (&json!("scanned"), &json!("Example Shop")));
    assert_eq!(login.state(), "scanned");
    assert_eq!(phone.post("approve", &[("name", "Ada")]).json()["state"], "approved");
    let current = login.get();
    assert_eq!((&current["state"], &current["name"]), (&json!("approved"), &json!("A**")));
    let code = current["code"].as_str().expect("a code").to_owned();
    assert!(phone.page().body.contains("Agreed"));

    let granted = login.token().json();
    assert_eq!(granted["identity"], json!({"provider": "demo", "id": "ada", "name": "Ada"}));
    assert_eq!((&granted["token_type"], &granted["expires_in"]), (&json!("Bearer"), &json!(3600)));
    let mut page = Page::upgrade(server.addresses().public, "");
    page.text(granted["access_token"].as_str().expect("a token"));
    page.sync();
    let (_, user) = api(&server, "GET", "/v1/users/demo:ada", "");
    assert!(user.contains("\"online\":true"), "{user}");
    assert_eq!(login.state(), "consumed");

    let (status, _) =
        api(&server, "POST", "/v1/redeem", &json!({"code": code, "code_verifier": VERIFIER}).to_string());
    assert_eq!(status, 409, "fetched before");
    assert_eq!(page.frame().close_code(), 3500, "what the first gave is ended");
    for (step, count) in [("created", 1), ("scanned", 1), ("approved", 1), ("consumed", 1), ("revoked", 1)] {
        assert_eq!(metric(&server, &format!("doorbell_logins_total{{step=\"{step}\"}}")), count, "{step}");
    }
}

#[test]
fn a_page_is_told_of_every_step_by_websocket_event_stream_and_long_poll() {
    let server = shop_server();
    let login = Login::begin(&server);
    let mut page = watch(&login);
    let mut told = move || told(&mut page);
    let first = told();
    assert_eq!(
        (&first["state"], &first["version"], &first["login"]),
        (&json!("pending"), &json!(1), &json!(login.id))
    );
    assert_eq!(first["verification_uri_complete"], login.begun["verification_uri_complete"]);

    let mut socket = connect(login.address);
    let ask_for = format!(
        "GET /v1/login/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\r\n",
        login.device_code
    );
    socket.write_all(ask_for.as_bytes()).expect("the server reads");
    assert!(read_head(&mut socket).starts_with("HTTP/1.1 200 "));
    let mut events = Events(socket);
    let (name, _, shown) = events.next();
    assert_eq!((name.as_str(), &shown["state"]), ("login", &json!("pending")));

    let waiting = {
        let login = login.clone();
        std::thread::spawn(move || login.ask("GET", "/v1/login?since=1&wait=25", "").json())
    };
    let phone = Phone::scanned(&login);
    for shown in [told(), events.next().2, waiting.join().expect("no panic")] {
        assert_eq!((&shown["state"], &shown["version"]), (&json!("scanned"), &json!(2)));
        assert!(shown["expires_in"].as_u64().is_some_and(|seconds| (55..=60).contains(&seconds)));
    }
    phone.post("deny", &[]);
    for shown in [told(), events.next().2] {
        assert_eq!((&shown["state"], &shown["version"]), (&json!("denied"), &json!(3)));
    }
    assert_eq!(login.token().error(), "access_denied");
}

#[test]
fn an_unknown_device_code_is_told_so_on_every_way() {
    let server = shop_server();
    let address = server.addresses().public;
    let unknown = "A".repeat(43);
    let bearer = format!("Authorization: Bearer {unknown}\r\n");
    assert_eq!(ask(address, "GET", "/v1/login", &bearer, "").status, 404);
    assert_eq!(ask(address, "GET", "/v1/login", "", "").status, 401);
    assert_eq!(ask(address, "GET", "/v1/login/events", &bearer, "").status, 404);
    let told = told(&mut watch(&Login { device_code: unknown, ..Login::begin(&server) }));
    assert_eq!(told, json!({"type": "login", "state": null, "error": "not_found"}));
}

#[test]
fn the_sites_own_app_scans_approves_and_refuses_by_the_api() {
    let server = shop_server();
    let login = Login::begin(&server);
    let call = |action: &str, body: Value| {
        let (status, body) =
            api(&server, "POST", &format!("/v1/logins/{}/{action}", login.qr), &body.to_string());
        (status, serde_json::from_str::<Value>(&body).expect("JSON"))
    };
    let (status, shown) = call("scan", json!({"uid": 7, "name": "Grace", "ip": "127.0.0.9"}));
    assert_eq!(
        (status, &shown["state"], &shown["same_network"]),
        (200, &json!("scanned"), &json!(true)),
        "{shown}"
    );
    assert_eq!(login.get()["name"], "G***");
    assert_eq!(call("scan", json!({"uid": 8})).0, 409, "another person's phone");
    assert_eq!(call("approve", json!({"uid": 8})).0, 409);
    assert_eq!(call("approve", json!({"uid": "7", "name": "Grace"})).0, 200);
    let (status, redeemed) = api(
        &server,
        "POST",
        "/v1/redeem",
        &json!({"device_code": login.device_code, "code_verifier": VERIFIER, "client_id": "shop"})
            .to_string(),
    );
    let redeemed: Value = serde_json::from_str(&redeemed).expect("JSON");
    assert_eq!((status, &redeemed["identity"]["id"], &redeemed["uid"]), (200, &json!("7"), &json!("app:7")));
    assert_eq!(redeemed["ip"], "127.0.0.1");
    let (_, inspected) = api(&server, "GET", &format!("/v1/logins/{}", login.id), "");
    let inspected: Value = serde_json::from_str(&inspected).expect("JSON");
    let steps: Vec<&str> = inspected["audit"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|record| record["step"].as_str())
        .collect();
    assert_eq!(steps, ["created", "scanned", "approved", "consumed"]);

    let other = Login::begin(&server);
    let (status, _) = api(&server, "POST", &format!("/v1/logins/{}/deny", other.qr), "{\"uid\":7}");
    assert_eq!((status, other.state().as_str()), (200, "denied"));
}

#[test]
fn forms_work_without_a_script() {
    let server = shop_server();
    let login = Login::begin(&server);
    let phone = Phone::open(&login);
    let post = |action: &str, fields: &str| {
        let headers = format!(
            "{FORM}Cookie: doorbell_visit={}\r\nOrigin: null\r\nSec-Fetch-Site: same-origin\r\n",
            phone.visit
        );
        let body = format!("page_token={}{fields}", phone.page_token);
        ask(login.address, "POST", &format!("/s/{}/{action}", login.qr), &headers, &body)
    };
    let scanned = post("scan", "");
    assert_eq!(
        (scanned.status, scanned.header("location")),
        (303, Some(format!("/s/{}", login.qr).as_str()))
    );
    assert!(phone.page().body.contains("Refuse"));
    assert_eq!(post("approve", "&provider=demo&name=Ada+Lovelace").status, 303);
    assert_eq!(login.token().json()["identity"]["name"], "Ada Lovelace");

    let typed = Login::begin(&server);
    let code = typed.begun["user_code"].as_str().expect("a code").to_lowercase().replace('-', "+");
    let answer = ask(login.address, "POST", "/s", FORM, &format!("user_code={code}"));
    assert_eq!((answer.status, answer.header("location")), (303, Some(format!("/s/{}", typed.qr).as_str())));
}

#[test]
fn the_computer_types_the_digits_of_the_phone_before_it_gets_its_code() {
    let server = start(login_settings(LoginClient { number_match: NumberMatch::ToBrowser, ..shop() }));
    let login = Login::begin(&server);
    let phone = Phone::approved(&login, "Ada");
    let digits = phone.post("approve", &[]).json()["digits"].as_str().expect("digits").to_owned();
    let current = login.get();
    assert_eq!((&current["asks_number"], current.get("code")), (&json!(true), None));
    assert_eq!(login.token().error(), "authorization_pending");
    let wrong = login.ask("POST", "/v1/login/number", r#"{"number":"x"}"#);
    assert_eq!((wrong.status, &wrong.json()["tries_left"]), (400, &json!(2)));
    let right = login.ask("POST", "/v1/login/number", &json!({"number": digits}).to_string());
    assert!(right.json()["code"].is_string(), "{right:?}");
    assert_eq!(login.token().status, 200);
}

#[test]
fn a_page_that_is_gone_ends_its_login_and_renewing_and_cancelling_work() {
    let mut settings = login_settings(shop());
    settings.login.rules.abandoned = std::time::Duration::from_millis(300);
    let server = start(settings);
    let login = Login::begin(&server);
    let mut page = watch(&login);
    told(&mut page);
    drop(page);
    eventually("the login to be cancelled", || {
        api(&server, "GET", &format!("/v1/logins/{}", login.id), "").1.contains("\"state\":\"cancelled\"")
    });

    let login = Login::begin(&server);
    eventually("the QR code to change", || login.ask("POST", "/v1/login/rotate", "").status == 200);
    assert_ne!(login.get()["verification_uri_complete"], login.begun["verification_uri_complete"]);
    assert_eq!(login.ask("DELETE", "/v1/login", "").json()["state"], "cancelled");
    assert_eq!(login.token().error(), "access_denied");
}

#[test]
fn the_one_time_code_is_exchanged_once_with_basic_authentication() {
    use base64::Engine as _;
    let server = shop_server();
    let begin = json!({"client_id": "shop", "redirect_uri": "https://shop.example/after", "code_challenge": CHALLENGE, "code_challenge_method": "S256"});
    let login = Login::begin_with(&server, "", &begin);
    Phone::approved(&login, "Ada");
    let code = login.get()["code"].as_str().expect("a code").to_owned();
    let basic = base64::engine::general_purpose::STANDARD.encode(format!("shop:{SECRET}"));
    let exchange = |redirect_uri: &str, verifier: &str| {
        let body = format!(
            "grant_type=authorization_code&code={code}&code_verifier={verifier}&redirect_uri={redirect_uri}"
        );
        ask(login.address, "POST", "/v1/token", &format!("{FORM}Authorization: Basic {basic}\r\n"), &body)
    };
    assert_eq!(exchange("https://shop.example/other", VERIFIER).error(), "invalid_grant");
    assert_eq!(exchange("https://shop.example/after", "wrong").error(), "invalid_grant");
    assert_eq!(exchange("https://shop.example/after", VERIFIER).status, 200);
    assert_eq!(exchange("https://shop.example/after", VERIFIER).error(), "invalid_grant");
}

#[test]
fn a_client_is_told_what_is_wrong_with_its_request() {
    let server = shop_server();
    let address = server.addresses().public;
    let begin = |body: Value| ask(address, "POST", "/v1/device_authorization", JSON, &body.to_string());
    for (body, status, error) in [
        (json!({}), 401, "invalid_client"),
        (json!({"client_id": "other"}), 401, "invalid_client"),
        (json!({"client_id": "shop", "client_secret": "wrong"}), 401, "invalid_client"),
        (json!({"client_id": "shop", "code_challenge": "x"}), 400, "invalid_request"),
        (
            json!({"client_id": "shop", "code_challenge": CHALLENGE, "code_challenge_method": "plain"}),
            400,
            "invalid_request",
        ),
    ] {
        let answer = begin(body);
        assert_eq!((answer.status, answer.error().as_str()), (status, error));
    }
    let login = Login::begin(&server);
    assert_eq!(login.token_with(&[("code_verifier", VERIFIER)], "").status, 401, "no secret");
    assert_eq!(login.token().error(), "authorization_pending");
    assert_eq!(login.token().error(), "slow_down", "twice in five seconds");
    let metadata = ask(address, "GET", "/.well-known/oauth-authorization-server", "", "").json();
    assert_eq!(metadata["issuer"], format!("http://{address}"));
}

#[test]
fn a_page_that_begins_to_watch_while_steps_are_taken_is_told_each_once_and_in_order() {
    let server = shop_server();
    for round in 0..150 {
        let login = Login::begin(&server);
        let phone = Phone::open(&login);
        let steps = std::thread::spawn(move || {
            for step in ["scan", "deny"] {
                let answer = phone.post(step, &[]);
                assert_eq!(answer.status, 200, "{answer:?}");
            }
        });
        let mut pages: Vec<_> = (0..4).map(|_| watch(&login)).collect();
        steps.join().expect("no panic");
        for page in &mut pages {
            let mut versions = Vec::new();
            while versions.last() != Some(&3) {
                versions.push(told(page)["version"].as_u64().expect("a version"));
            }
            assert!(versions.is_sorted_by(|before, after| before < after), "{versions:?} in round {round}");
        }
    }
}

#[test]
fn a_page_that_asks_again_is_told_again() {
    let server = shop_server();
    let login = Login::begin(&server);
    let mut page = watch(&login);
    assert_eq!(told(&mut page)["version"], 1);
    page.text(&json!({"type": "login.watch", "device_code": login.device_code}).to_string());
    assert_eq!(told(&mut page)["version"], 1);
    Phone::scanned(&login);
    assert_eq!(told(&mut page)["version"], 2);
}

#[test]
fn a_page_for_which_there_is_no_room_is_told_when_to_come_back() {
    let mut settings = login_settings(shop());
    settings.login.opening = 0;
    let mut server = start(settings.clone());
    let login = Login::begin(&server);
    let mut page = watch(&login);
    let busy =
        json!({"type": "login", "state": null, "error": "temporarily_unavailable", "retry_after_ms": 1_000});
    assert_eq!(told(&mut page), busy);
    let events = login.ask("GET", "/v1/login/events", "");
    assert_eq!((events.status, events.header("retry-after")), (503, Some("1")), "{events:?}");
    assert_eq!(metric(&server, "doorbell_logins_refused_total{reason=\"opening\"}"), 2);

    settings.login.opening = 1;
    server.reload(settings).expect("good settings");
    page.text(&json!({"type": "login.watch", "device_code": login.device_code}).to_string());
    assert_eq!(told(&mut page)["state"], "pending");
}

/// Asks for a login's next step, which may take 55 seconds.
fn wait(login: &Login) -> std::net::TcpStream {
    let mut socket = connect(login.address);
    let ask_for = format!(
        "GET /v1/login?since=1&wait=55 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\r\n",
        login.device_code
    );
    socket.write_all(ask_for.as_bytes()).expect("the server reads");
    socket
}

#[test]
fn those_who_wait_leave_room_for_phones_and_the_rest_is_told_when_to_ask_again() {
    let mut settings = login_settings(shop());
    settings.login.long_polls = 4;
    let server = start(settings);
    let login = Login::begin(&server);
    let mut waiting: Vec<_> = (0..4).map(|_| wait(&login)).collect();
    eventually("the places to be taken", || metric(&server, "doorbell_login_long_polls") == 4);
    let turned_away = login.ask("GET", "/v1/login?since=1&wait=1", "");
    assert_eq!((turned_away.status, turned_away.header("retry-after")), (503, Some("5")), "{turned_away:?}");
    assert_eq!(turned_away.error(), "temporarily_unavailable");
    assert_eq!(metric(&server, "doorbell_logins_refused_total{reason=\"long_polls\"}"), 1);
    // A poll of the token that asks to wait is answered at once.
    let polled =
        login.token_with(&[("client_secret", SECRET), ("code_verifier", VERIFIER)], "Prefer: wait=55\r\n");
    assert_eq!(polled.error(), "authorization_pending");

    Phone::scanned(&login);
    for answer in waiting.iter_mut().map(support::read_all) {
        assert!(answer.contains("\"state\":\"scanned\""), "{answer}");
    }
    eventually("the places to be free", || metric(&server, "doorbell_login_long_polls") == 0);
}

#[test]
fn a_server_that_stops_answers_those_who_wait() {
    let server = shop_server();
    let mut waiting = wait(&Login::begin(&server));
    eventually("it to wait", || metric(&server, "doorbell_login_long_polls") == 1);
    let _ = server.drain();
    let answer = support::read_all(&mut waiting);
    assert!(answer.contains("\"state\":\"pending\""), "{answer:?}");
}

/// Signs out by a token.
fn revoke(address: std::net::SocketAddr, client: &str, token: &str) -> Answer {
    ask(address, "POST", "/v1/revoke", FORM, &format!("{client}&token={token}"))
}

#[test]
fn whoever_has_the_token_of_a_login_signs_it_out() {
    let mut settings = login_settings(shop());
    settings.login.rules.clients.push(LoginClient::new("other", "Another site"));
    let server = start(settings);
    let address = server.addresses().public;
    let login = Login::begin(&server);
    let phone = Phone::approved(&login, "Ada");
    let token = login.token().json()["access_token"].as_str().expect("a token").to_owned();
    let mut page = Page::upgrade(address, "");
    page.text(&token);
    page.sync();

    let shop = format!("client_id=shop&client_secret={SECRET}");
    assert_eq!(revoke(address, "client_id=shop", &token).error(), "invalid_client");
    assert_eq!(revoke(address, "client_id=other", &token).error(), "invalid_grant");
    assert_eq!(ask(address, "POST", "/v1/revoke", FORM, &shop).error(), "invalid_request");
    page.sync();
    assert_eq!(revoke(address, &shop, &token).status, 200);
    assert_eq!(page.frame().close_code(), 3500);
    let mut again = Page::upgrade(address, "");
    again.text(&token);
    assert_eq!(again.frame().close_code(), 3500);
    let html = phone.page().body;
    assert!(html.contains("Signed out"), "the phone is told: {html}");
    assert_eq!(metric(&server, "doorbell_logins_total{step=\"revoked\"}"), 1);

    // There is nothing more to end (RFC 7009 section 2.2).
    assert_eq!(revoke(address, &shop, &token).status, 200);
    assert_eq!(revoke(address, &shop, "no-token").status, 200);
    // The backend's own tokens are the backend's.
    let (_, minted) = api(&server, "POST", "/v1/tokens", "{\"uid\":\"ada\"}");
    let minted: Value = serde_json::from_str(&minted).expect("JSON");
    let minted = minted["token"].as_str().expect("a token");
    assert_eq!(revoke(address, &shop, minted).error(), "unsupported_token_type");
    let metadata = ask(address, "GET", "/.well-known/oauth-authorization-server", "", "").json();
    assert_eq!(metadata["revocation_endpoint"], format!("http://{address}/v1/revoke"));
}
