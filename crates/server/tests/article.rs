//! The article's step 3, over raw sockets.

mod support;

use std::io::Write as _;

use support::{Backend, Page, settings, start};

#[test]
fn a_pushed_line_reaches_exactly_its_page_byte_for_byte() {
    let server = start(settings());
    let mut page = Page::bind(server.addresses().public, "uid1");
    let mut other = Page::bind(server.addresses().public, "uid2");
    let mut backend = Backend::connect(server.addresses().text);
    let line = r#"{ "z":1 ,	"uid" : "uid1", "m":"\u5fae\u4fe1 \/ 微" }  "#;
    assert_eq!(backend.line(line), "ok");
    assert_eq!(page.message(), line);
    assert_eq!(backend.line(r#"{"uid":"uid2","percent":"88%"}"#), "ok");
    assert_eq!(other.message(), r#"{"uid":"uid2","percent":"88%"}"#);
    assert_eq!(backend.line(r#"{"uid":"nobody"}"#), "fail");
}

#[test]
fn lines_that_come_together_are_answered_one_by_one_wherever_they_are_cut() {
    let server = start(settings());
    let mut pages: Vec<_> =
        (0..5).map(|number| Page::bind(server.addresses().public, &format!("u{number}"))).collect();
    let mut backend = Backend::connect(server.addresses().text);
    let mut sent = String::new();
    let mut expected = Vec::new();
    for number in 0..200 {
        let (line, answer) = match number % 8 {
            5 => (r#"{"uid":"nobody"}"#.to_owned(), "fail"),
            6 => (r#"{"uid":"#.to_owned(), "fail"),
            7 => (r#"{"uid":["u0"]}"#.to_owned(), "fail"),
            uid => (format!(r#"{{"uid":"u{uid}","n":{number}}}"#), "ok"),
        };
        sent.push_str(&line);
        sent.push_str(if number % 3 == 0 { "\r\n" } else { "\n" });
        expected.push((line, answer));
    }
    // All at once, then with an end somewhere in a line, then a line's end by itself.
    for cut in [0, 1_234, sent.len() - 1] {
        let (first, rest) = sent.as_bytes().split_at(cut);
        backend.0.write_all(first).expect("the server reads");
        if cut > 0 {
            assert_eq!(backend.answer(), expected[0].1, "the first part has been read");
        }
        backend.0.write_all(rest).expect("the server reads");
        for (line, answer) in &expected[usize::from(cut > 0)..] {
            assert_eq!(backend.answer(), *answer, "{line}");
        }
        for (line, _) in expected.iter().filter(|(_, answer)| *answer == "ok") {
            let uid = usize::from(line.as_bytes()[9] - b'0');
            assert_eq!(pages[uid].message(), *line);
        }
    }
}
