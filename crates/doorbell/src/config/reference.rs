//! The reference page, `docs/doorbell.toml`, written from the table of keys.

use std::fmt::Write;

use super::table::{API_KEY_FIELDS, CLIENT_FIELDS, KEYS, PROVIDER_FIELDS, Shown, sections};

const HEAD: &str = "\
Doorbell's configuration: every key, with its default. A key behind `#` has none, or one that its text explains.

A key set here is overridden by the environment variable DOORBELL_<SECTION>_<KEY> (public.listen is
DOORBELL_PUBLIC_LISTEN; lists are separated by commas), and that by a flag. DOORBELL_API_KEY or
DOORBELL_API_KEY_FILE adds one API key called \"env\". Durations are \"500ms\", \"30s\", \"2m\", \"1h\"; sizes are
\"64KiB\", \"1MiB\" or a number of bytes. Relative paths start where the server was started.

Check a file with `doorbell check-config`; this text is printed by `doorbell check-config --print-default`.";

/// Columns of a comment line, `# ` included.
const WIDTH: usize = 110;

/// The text of the reference page: valid TOML that configures the defaults.
pub fn text() -> String {
    let mut page = String::new();
    for paragraph in HEAD.split("\n\n") {
        comment(&mut page, paragraph);
        page.push_str("#\n");
    }
    page.truncate(page.len() - 2);
    for section in sections() {
        let _ = writeln!(page, "\n[{section}]");
        for key in KEYS {
            let Some((of, name)) = key.name.split_once('.') else { continue };
            if of == section {
                comment(&mut page, key.doc);
                let _ = match key.shown {
                    Shown::Default(value) => writeln!(page, "{name} = {value}"),
                    Shown::Example(value) => writeln!(page, "# {name} = {value}"),
                };
            }
        }
        if section == "api" {
            let doc = "As many of these as there are backends, so that each can be taken back alone:";
            tables(&mut page, doc, "[[api.keys]]", API_KEY_FIELDS);
        }
        if section == "login" {
            let doc = "As many of these as there are sites whose visitors log in:";
            tables(&mut page, doc, "[[login.clients]]", CLIENT_FIELDS);
            page.push('\n');
            let doc = "As many of these as there are ways to know who a phone's owner is. The name of the section is in the \
                       callback's address, /v1/callback/<name>, and in identities:";
            tables(&mut page, doc, "[providers.demo]", PROVIDER_FIELDS);
        }
    }
    page
}

fn tables(page: &mut String, doc: &str, heading: &str, fields: &[(&str, &str, &str)]) {
    comment(page, doc);
    let _ = writeln!(page, "# {heading}");
    for (name, example, doc) in fields {
        comment(page, doc);
        let _ = writeln!(page, "# {name} = {example}");
    }
}

fn comment(page: &mut String, text: &str) {
    let mut line = String::from("#");
    for word in text.split_whitespace() {
        if line.chars().count() + 1 + word.chars().count() > WIDTH {
            let _ = writeln!(page, "{line}");
            line.truncate(1);
        }
        line.push(' ');
        line.push_str(word);
    }
    let _ = writeln!(page, "{line}");
}
