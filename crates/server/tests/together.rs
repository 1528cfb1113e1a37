//! Messages that go to the kernel together: what pages and backends see is what they see where each goes by itself.

mod support;

use std::io::{BufRead as _, BufReader, Write as _};
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use doorbell_server::Server;
use doorbell_server::settings::Limits;
use doorbell_system::batch::Batch;
use serde_json::json;
use support::{Backend, Client, Events, Page, api, metric, settings, start};

const TOGETHER: &str = "doorbell_messages_sent_together_total";

/// A server that may send together, and one that may not.
fn servers() -> [Server; 2] {
    [true, false].map(|io_uring| {
        let mut settings = settings();
        settings.public.io_uring = io_uring;
        start(settings)
    })
}

/// Whether the kernel has io_uring and allows it. Asked in a thread of its own: the kernel interrupts one whose ring is closed.
fn has_io_uring() -> bool {
    let answer = std::thread::spawn(|| Batch::new().map(drop)).join().expect("it does not panic");
    if let Err(error) = &answer {
        eprintln!("no io_uring here, so nothing goes together: {error}");
    }
    answer.is_ok()
}

#[test]
fn a_broadcast_reaches_everyone_once_whatever_they_speak() {
    for (server, io_uring) in servers().into_iter().zip([true, false]) {
        let public = server.addresses().public;
        let mut pages: Vec<_> =
            (0..100).map(|number| Page::bind(public, &format!("plain{number}"))).collect();
        let mut tabs: Vec<_> = (0..3).map(|_| Page::bind(public, "tabs")).collect();
        let (mut enveloped, _) = Client::hello(&server, "enveloped", None);
        let (mut stream, ..) = Events::open(public, "stream", "");
        for number in 0..3 {
            let body = json!({"data": {"broadcast": number}}).to_string();
            let (status, answer) = api(&server, "POST", "/v1/broadcast", &body);
            assert_eq!((status, &*answer), (200, r#"{"connections":105,"written":105}"#));
        }
        for number in 0..3 {
            let data = json!({"broadcast": number});
            for page in pages.iter_mut().chain(&mut tabs) {
                assert_eq!(page.message(), data.to_string());
            }
            assert_eq!(enveloped.next()["data"], data);
            assert_eq!(stream.next().2["data"], data);
        }
        for page in pages.iter_mut().chain(&mut tabs) {
            page.sync();
        }
        enveloped.nothing_waits();
        // Tabs of one uid hear it in the uid's order, and so by themselves.
        let together = if io_uring && has_io_uring() { 3 * 102 } else { 0 };
        assert_eq!(metric(&server, TOGETHER), together);
    }
}

#[test]
fn lines_that_come_together_are_answered_in_order_and_reach_each_page_in_order() {
    for (server, io_uring) in servers().into_iter().zip([true, false]) {
        let public = server.addresses().public;
        let mut pages: Vec<_> = (0..10).map(|number| Page::bind(public, &format!("u{number}"))).collect();
        let (mut enveloped, _) = Client::hello(&server, "enveloped", None);
        let mut lines = String::new();
        let mut answers = Vec::new();
        for number in 0..20 {
            for uid in
                ["u0", "u1", "u2", "u3", "enveloped", "absent", "u4", "u5", "u0", "u6", "u7", "u8", "u9"]
            {
                lines.push_str(&format!("{{\"uid\":\"{uid}\",\"n\":{number}}}\n"));
                answers.push(if uid == "absent" { "fail" } else { "ok" });
            }
            lines.push_str("{\"no\":\"uid\"}\n\n");
            answers.extend(["fail", "fail"]);
        }
        let mut backend = Backend::connect(server.addresses().text);
        assert_eq!(backend.line(r#"{"uid":"u0","first":true}"#), "ok");
        backend.0.write_all(lines.as_bytes()).expect("a connection");
        let answered: Vec<_> = answers.iter().map(|_| backend.answer()).collect();
        assert_eq!(answered, answers);
        assert_eq!(pages[0].message(), r#"{"uid":"u0","first":true}"#);
        for number in 0..20 {
            for (place, page) in pages.iter_mut().enumerate() {
                for _ in 0..if place == 0 { 2 } else { 1 } {
                    assert_eq!(page.message(), format!(r#"{{"uid":"u{place}","n":{number}}}"#));
                }
            }
            assert_eq!(enveloped.next()["data"], json!({"uid": "enveloped", "n": number}));
        }
        pages.iter_mut().for_each(Page::sync);
        enveloped.nothing_waits();
        if io_uring && has_io_uring() {
            assert!(metric(&server, TOGETHER) > 100, "most of them");
        } else {
            assert_eq!(metric(&server, TOGETHER), 0);
        }
    }
}

#[test]
fn a_page_that_does_not_read_costs_those_it_is_sent_to_with_nothing() {
    const LINES: usize = 64_000;
    for server in servers() {
        let public = server.addresses().public;
        let mut quick: Vec<_> = (0..16).map(|number| Page::bind(public, &format!("quick{number}"))).collect();
        let mut slow = Page::bind(public, "slow");
        let padding = "x".repeat(1024);
        let lines = (0..LINES).map(|number| match number % 8 {
            0 => format!("{{\"uid\":\"slow\",\"n\":{number},\"p\":\"{padding}\"}}\n"),
            _ => format!("{{\"uid\":\"quick{}\",\"n\":{number}}}\n", number % 16),
        });
        let backend = Backend::connect(server.addresses().text);
        let mut answers = BufReader::new(backend.0.try_clone().expect("a descriptor")).lines();
        let mut told = Vec::new();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                lines.for_each(|line| (&backend.0).write_all(line.as_bytes()).expect("a connection"))
            });
            told.extend(
                answers.by_ref().take(LINES).map(|answer| answer.expect("an answer in time") == "ok"),
            );
        });
        let promised: Vec<_> = (0..LINES).step_by(8).take_while(|number| told[*number]).collect();
        assert!(promised.len() < LINES / 8, "the bound is reached");
        assert!((0..LINES).step_by(8).skip(promised.len()).all(|number| !told[number]), "once and for all");
        for number in (0..LINES).filter(|number| number % 8 > 0) {
            assert!(told[number], "line {number} was for a page that reads");
            assert_eq!(
                quick[number % 16].message(),
                format!(r#"{{"uid":"quick{}","n":{number}}}"#, number % 16)
            );
        }
        let mut received = 0;
        loop {
            let frame = slow.frame();
            if frame.first == 0x88 {
                assert_eq!(frame.close_code(), 3008);
                break;
            }
            let expected = format!(r#"{{"uid":"slow","n":{},"#, promised[received]);
            assert!(frame.payload.starts_with(expected.as_bytes()), "in order, whole and once");
            received += 1;
        }
        assert_eq!(slow.try_frame(), None, "then the connection ends");
        let dropped = metric(&server, "doorbell_messages_dropped_total{reason=\"too_slow\"}");
        assert_eq!(promised.len() - received, usize::try_from(dropped).expect("few"));
    }
}

#[test]
fn lines_that_come_together_for_one_page_do_not_make_it_slow() {
    let bounds: [fn(&mut Limits); 2] =
        [|limits| limits.queue_messages = 2, |limits| limits.queue_bytes = 100];
    for set in bounds {
        let mut settings = settings();
        set(&mut settings.limits);
        let server = start(settings);
        let mut page = Page::bind(server.addresses().public, "u");
        let mut backend = Backend::connect(server.addresses().text);
        assert_eq!(backend.line(r#"{"uid":"u","n":0}"#), "ok");
        // Every tenth is too long to go together with others.
        let padding = |number| "x".repeat(if number % 10 == 0 { 20_000 } else { 0 });
        let line = |number| format!(r#"{{"uid":"u","n":{number},"p":"{}"}}"#, padding(number));
        let lines: Vec<_> = (1..60).map(line).collect();
        backend.0.write_all(format!("{}\n", lines.join("\n")).as_bytes()).expect("a connection");
        for number in 1..60 {
            assert_eq!(backend.answer(), "ok", "line {number}");
        }
        assert_eq!(page.message(), r#"{"uid":"u","n":0}"#);
        for line in lines {
            assert_eq!(page.message(), line);
        }
        page.sync();
    }
}

#[test]
fn pages_that_leave_amid_broadcasts_take_nobody_along() {
    for server in servers() {
        let public = server.addresses().public;
        let mut staying = Page::bind(public, "staying");
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let comers: Vec<_> = (0..3)
                .map(|comer| {
                    let over = &over;
                    scope.spawn(move || {
                        while !over.load(Ordering::SeqCst) {
                            // Dropped with what was sent to it unread, so that it ends with a reset.
                            let _leaving: Vec<_> = (0..10)
                                .map(|number| Page::bind(public, &format!("{comer}-{number}")))
                                .collect();
                        }
                    })
                })
                .collect();
            for number in 0..300 {
                let (status, answer) =
                    api(&server, "POST", "/v1/broadcast", &json!({"data": number}).to_string());
                assert_eq!(status, 200, "{answer}");
                assert_eq!(staying.message(), number.to_string());
            }
            over.store(true, Ordering::SeqCst);
            comers.into_iter().for_each(|comer| comer.join().expect("pages come and go"));
        });
        support::eventually("everyone else to be gone", || {
            metric(&server, "doorbell_bound_connections") == 1
        });
        staying.sync();
    }
}

#[test]
fn pages_that_are_closed_amid_broadcasts_are_let_go_at_once() {
    for io_uring in [true, false] {
        let mut settings = settings();
        settings.public.io_uring = io_uring;
        // So that only the server's own end lets them go in time.
        settings.limits.close_timeout = Duration::from_secs(600);
        let server = start(settings);
        let public = server.addresses().public;
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let broadcaster = scope.spawn(|| {
                let mut listening: Vec<_> =
                    (0..20).map(|number| Page::bind(public, &format!("page{number}"))).collect();
                while !over.load(Ordering::SeqCst) {
                    assert_eq!(api(&server, "POST", "/v1/broadcast", r#"{"data":"all"}"#).0, 200);
                    listening.iter_mut().for_each(|page| assert_eq!(page.message(), "all"));
                }
            });
            let closed = std::panic::catch_unwind(AssertUnwindSafe(|| {
                for _ in 0..200 {
                    let (mut client, welcome) = Client::hello(&server, "closed", None);
                    let path = format!("/v1/connections/{}", welcome["connection"].as_str().expect("a name"));
                    assert_eq!(api(&server, "DELETE", &path, "").0, 200);
                    let farewell = loop {
                        let frame = client.0.frame();
                        if frame.first == 0x88 {
                            break frame;
                        }
                    };
                    assert_eq!(farewell.close_code(), 3501);
                    assert_eq!(client.0.try_frame(), None, "then the connection ends");
                }
            }));
            over.store(true, Ordering::SeqCst);
            broadcaster.join().expect("broadcasts go on");
            closed.expect("each is let go");
        });
    }
}
