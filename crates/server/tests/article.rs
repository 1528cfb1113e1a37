//! The article's step 3, over raw sockets.

mod support;

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
