use std::net::SocketAddr;
use std::time::Duration;

use doorbell_server::settings::{IdentityMode, TokenAlgorithm};
use secrecy::ExposeSecret;

use super::table::{API_KEY_FIELDS, KEYS, Shown};
use super::*;

/// The errors of a file, as they are printed.
fn errors(text: &str) -> Vec<String> {
    parse(text).map_or_else(|errors| errors.iter().map(ToString::to_string).collect(), |_| Vec::new())
}

/// A file in a directory of its own, and what it is loaded with.
struct Case {
    sources: Sources,
    directory: tempfile::TempDir,
}

impl Case {
    fn new(text: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("d.toml");
        std::fs::write(&path, text).expect("writes");
        Self { sources: Sources { file: Some(path), ..Sources::default() }, directory }
    }

    fn env(mut self, variables: &[(&str, &str)]) -> Self {
        self.sources.environment = variables.iter().copied().collect();
        self
    }

    fn flag(mut self, key: &'static str, text: &str) -> Self {
        self.sources.overrides.set(key, "--flag", text);
        self
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        std::fs::write(&path, text).expect("writes");
        path
    }

    fn config(&self) -> Config {
        load(&self.sources).unwrap_or_else(|errors| panic!("{errors:?}"))
    }

    /// The errors, without the directory's name.
    fn errors(&self) -> Vec<String> {
        let prefix = format!("{}/", self.directory.path().display());
        let errors = load(&self.sources).err().unwrap_or_default();
        errors.iter().map(|error| error.to_string().replace(&prefix, "")).collect()
    }
}

#[test]
fn nothing_configured_is_the_default() {
    let config = parse("").expect("valid");
    assert_eq!(format!("{:?}", config.settings), format!("{:?}", Settings::default()));
    assert_eq!(config.log, Log::default());
}

#[test]
fn the_reference_page_is_the_table_and_configures_the_defaults() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/doorbell.toml");
    let page = std::fs::read_to_string(page).expect("docs/doorbell.toml");
    let fresh = reference_text();
    assert!(page == fresh, "write `doorbell check-config --print-default` to docs/doorbell.toml");
    let config = parse(&page).unwrap_or_else(|errors| panic!("{errors:?}"));
    assert_eq!(format!("{:?}", config.settings), format!("{:?}", Settings::default()));
    assert_eq!(config.log, Log::default());
}

#[test]
fn every_example_of_the_reference_is_accepted() {
    for key in KEYS {
        let (Shown::Default(value) | Shown::Example(value)) = key.shown;
        let long_enough = value.replace('…', "0123456789abcdef0123456789abcdef");
        let (section, name) = key.name.split_once('.').expect("a section");
        let rest =
            if name == "listen" && section == "public" { "" } else { "public.listen = \"127.0.0.1:0\"\n" };
        let text = format!("{rest}{} = {long_enough}\n", key.name);
        let mut wrong = errors(&text);
        // The only file that is opened when it is named; it is not on every machine.
        wrong.retain(|error| key.name != "login.places_file" || !error.contains("no database of places"));
        // Neither half of a certificate is any use alone.
        wrong.retain(|error| !key.name.starts_with("public.tls_") || !error.contains("belong together"));
        assert_eq!(wrong, Vec::<String>::new(), "{text}");
    }
    let field = |name: &str| API_KEY_FIELDS.iter().find(|(known, ..)| *known == name).expect("a field").1;
    let text = format!(
        "[[api.keys]]\nname = {}\nsecret_file = {}\nexpires = {}\n",
        field("name"),
        field("secret_file"),
        field("expires")
    );
    assert_eq!(errors(&text), Vec::<String>::new());
}

#[test]
fn all_errors_come_at_once_each_with_its_place() {
    let text = "\
[public]
listn = \"0.0.0.0:1\"
listen = \"localhost:19999\"
identity = \"opne\"
origins = [\"https://a.example/\", \"https://b.example\", \"wss://c.example\"]
trusted_proxies = [\"10.0.0.0/8\", \"10.0.0.0/33\"]
tls_cert = \"c.pem\"

[limits]
queue_bytes = \"1MB\"
head = 10
accept_rate = 0
ping_interval = 25
drain = \"2h\"
  message = 1.5

[lgo]
level = \"info\"
[login]
attempts = 99
";
    let errors = errors(text);
    let expected = [
        "doorbell.toml:2:1: unknown key `public.listn`; did you mean `public.listen`?",
        "doorbell.toml:3:10: expected an IP address and a port, such as \"127.0.0.1:19999\" or \"[::]:19999\"",
        "doorbell.toml:4:12: expected \"token\" or \"open\"",
        "doorbell.toml:5:12: an origin ends after the host or the port: remove the path",
        "doorbell.toml:5:55: an origin is the page's: write https instead of wss",
        "doorbell.toml:6:34: expected a network such as \"10.0.0.0/8\" or an address such as \"::1\"",
        "doorbell.toml:7:12: public.tls_cert and public.tls_key belong together: set both or neither",
        "doorbell.toml:10:15: expected a size such as \"64KiB\", \"1MiB\" or a number of bytes",
        "doorbell.toml:11:8: must be from 1KiB to 1MiB",
        "doorbell.toml:12:15: expected a whole number from 1 to 1000000",
        "doorbell.toml:13:17: expected a duration such as \"30s\", \"500ms\", \"2m\" or \"1h\"",
        "doorbell.toml:14:9: must be from 0s to 1h",
        "doorbell.toml:15:13: expected a size such as \"64KiB\", \"1MiB\" or a number of bytes, found a number with a \
         fraction",
        "doorbell.toml:17:2: unknown section `[lgo]`; did you mean `[log]`?",
        "doorbell.toml:20:12: expected a whole number from 100 to 10000000",
    ];
    assert_eq!(errors, expected);
}

#[test]
fn syntax_errors_have_places_and_quote_nothing() {
    let secret = "hunter2hunter2hunter2";
    let errors = errors(&format!("[text]\nkey = \"{secret}\nlisten = \n"));
    assert!(errors[0].starts_with("doorbell.toml:2:"), "{errors:?}");
    assert!(!errors.concat().contains("hunter2"), "{errors:?}");
}

#[test]
fn every_other_message_names_what_would_be_right() {
    for (text, expected) in [
        ("listen = \"1\"", "1:1: unknown key `listen`; did you mean `public.listen`?"),
        ("public = 1", "1:1: `public` is a section: write [public] on a line of its own"),
        (
            "[zzzzzzzzz]",
            "1:2: unknown section `[zzzzzzzzz]`; there are: public, text, api, tokens, mailbox, webhooks, trail, login, limits, log",
        ),
        ("login.wrong_codes = 2561", "their product may be 2560000"),
        ("login.clients = [{id = \"a\"}]", "`name` is missing"),
        ("login.clients = [{id = \"a b\", name = \"A\"}]", "an id has 1 to 64"),
        ("login.clients = [{id=\"a\",name=\"A\"},{id=\"a\",name=\"B\"}]", "two clients are called \"a\""),
        ("login.clients = [{id=\"a\",name=\"A\",secret_hash=\"12\"}]", "64 hexadecimal digits"),
        ("login.clients = [{id=\"a\",name=\"A\",uid=\"{provider}\"}]", "all people would share one uid"),
        ("login.clients = [{id=\"a\",name=\"A\",redirect_uris=[\"/x\"]}]", "not an absolute address"),
        ("login.clients = [{id=\"a\",name=\"A\",nubmer_match=\"off\"}]", "did you mean `number_match`?"),
        ("providers.x.kind = \"wechta\"", "expected \"demo\""),
        ("providers.app.kind = \"demo\"", "is not \"app\""),
        ("providers.x.kind = \"demo\"", "only on loopback"),
        ("providers.x.kind = \"wechat-web\"", "`appid` is missing"),
        (
            "[providers.x]\nkind = \"wechat-mp\"\nappid = \"wx1\"\nsecret = \"s\"",
            "`encoding_aes_key` is missing",
        ),
        (
            "[providers.x]\nkind = \"wechat-mp\"\nappid = \"wx1\"\nsecret = \"s\"\ntoken = \"t\"\nencoding_aes_key = \"short\"",
            "`encoding_aes_key`: an EncodingAESKey has 43 letters and digits",
        ),
        (
            "[providers.x]\nkind = \"feishu\"\nappid = \"cli_1\"\nsecret = \"s\"\napi_base = \"http://open.feishu.cn\"",
            "`api_base`: expected https",
        ),
        ("[providers.x]\nkind = \"wechat-web\"\nscope = \"all\"", "expected \"base\" or \"userinfo\""),
        ("limits.origins = []", "1:8: unknown key `limits.origins`; did you mean `public.origins`?"),
        ("text.key = \"\"", "1:12: a secret has at least one byte, and should have 16"),
        (
            "text.key = \"with spaces in between\"",
            "1:12: a secret is visible ASCII without spaces, such as base64",
        ),
        ("log.level = \"inof\"", "expected \"error\""),
        ("log.level = \"info,x=loud\"", "expected \"error\""),
        ("public.open_identity_acknowledged = \"yes\"", "expected true or false"),
        ("tokens.issuer = \"\"", "expected a text in quotes, not empty"),
        ("tokens.key = \"short\"", "1:14: 5 bytes are too few for an HS256 key"),
        ("tokens.algorithm = \"ES256\"", "1:20: this algorithm needs tokens.key or tokens.key_file"),
        ("tokens.algorithm = \"none\"", "1:20: expected \"HS256\" or \"ES256\" or \"EdDSA\""),
        ("tokens.algorithm = \"ES256\"\ntokens.key = \"x\"", "2:14: not a PEM EC (P-256) key"),
        (
            "text.listen = \"0.0.0.0:10002\"",
            "1:15: the text port beyond loopback needs text.key or text.key_file",
        ),
        ("text.listen = \"127.0.0.1:10003\"", "127.0.0.1:10003 is already text.listen"),
        (
            "text.key = \"0123456789abcdef\"\ntext.key_file = \"f\"",
            "2:17: text.key is given as well, at doorbell.toml:1:12; keep one",
        ),
        ("public.origins = \"https://a.example\"", "expected a list"),
        ("api.keys = 1", "1:5: `api.keys` is a list of tables"),
        ("api.keys = [1]", "1:13: `api.keys` is a list of tables"),
        ("[[api.keys]]\nname = \"a\"", "needs a `secret` or a `secret_file`"),
        ("[[api.keys]]\nsecret = \"0123456789abcdef\"", "1:1: an API key needs a `name`"),
        ("[[api.keys]]\nname = \"env\"\nsecret = \"0123456789abcdef\"", "2:8: the name \"env\" is taken"),
        ("[[api.keys]]\nnmae = \"a\"", "2:1: unknown key `nmae` in [[api.keys]]; did you mean `name`?"),
        ("api.keys = [{name = \"a b\", secret = \"0123456789abcdef\"}]", "a name has 1 to 64"),
        (
            "api.keys = [{name = \"a\", secret = \"0123456789abcdef\", expires = \"soon\"}]",
            "expected a date such as 2030-01-01",
        ),
        (
            "api.keys = [{name=\"a\",secret=\"0123456789abcdef\"},{name=\"a\",secret=\"0123456789abcdef\"}]",
            "two API keys are called \"a\"",
        ),
        ("public.listen = 99999999999999999999", "found a number out of range"),
        ("public.listen = {}", "such as \"127.0.0.1:19999\", found a table"),
    ] {
        let errors = errors(text);
        assert!(errors.iter().any(|error| error.contains(expected)), "{text}\n{errors:?}");
    }
}

#[test]
fn one_slip_is_one_error() {
    for text in [
        "public.identity = \"open\"\npublic.listen = \"nowhere\"",
        "text.listen = \"0.0.0.0:1\"\ntext.key = \"\"",
        "tokens.algorithm = \"ES256\"\ntokens.key = 1",
    ] {
        assert_eq!(errors(text).len(), 1, "{:?}", errors(text));
    }
}

#[test]
fn open_identity_stays_on_loopback_unless_acknowledged() {
    let config = parse("public.identity = \"open\"").expect("valid");
    assert_eq!(config.settings.public.listen, "127.0.0.1:19999".parse::<SocketAddr>().expect("an address"));
    assert_eq!(config.settings.public.identity, IdentityMode::Open);
    for (listen, refused) in [
        ("127.0.0.1:1", false),
        ("127.1.2.3:1", false),
        ("[::1]:1", false),
        ("0.0.0.0:1", true),
        ("[::]:1", true),
        ("192.168.0.1:1", true),
    ] {
        let text = format!("public.identity = \"open\"\npublic.listen = \"{listen}\"\n");
        let errors = errors(&text);
        assert_eq!(errors.len(), usize::from(refused), "{listen}");
        assert!(!refused || errors[0].contains(":2:17: open identity lets anyone"), "{errors:?}");
        let acknowledged = format!("{text}public.open_identity_acknowledged = true\n");
        assert!(parse(&acknowledged).is_ok(), "{listen}");
    }
}

#[test]
fn the_environment_overrides_the_file_and_flags_override_both() {
    let case = Case::new(
        "public.listen = \"127.0.0.1:1\"\ntext.listen = \"127.0.0.1:2\"\napi.listen = \"127.0.0.1:3\"",
    )
    .env(&[("DOORBELL_TEXT_LISTEN", "127.0.0.1:20"), ("DOORBELL_API_LISTEN", "127.0.0.1:30")])
    .flag("api.listen", "127.0.0.1:300");
    let settings = case.config().settings;
    let ports =
        [settings.public.listen, settings.text.listen, settings.api.listen].map(|address| address.port());
    assert_eq!(ports, [1, 20, 300]);
}

#[test]
fn every_kind_of_value_can_come_from_the_environment() {
    let case = Case::new("").env(&[
        ("DOORBELL_PUBLIC_ORIGINS", "https://a.example, https://b.example:8443"),
        ("DOORBELL_PUBLIC_TRUSTED_PROXIES", "10.0.0.0/8,192.0.2.7"),
        ("DOORBELL_LIMITS_EXEMPT", ""),
        ("DOORBELL_LIMITS_QUEUE_BYTES", "64KiB"),
        ("DOORBELL_LIMITS_QUEUE_MESSAGES", "10"),
        ("DOORBELL_LIMITS_PING_INTERVAL", "500ms"),
        ("DOORBELL_PUBLIC_OPEN_IDENTITY_ACKNOWLEDGED", "true"),
        ("DOORBELL_TOKENS_ALGORITHM", "HS256"),
        ("DOORBELL_TOKENS_KEY", "0123456789abcdef0123456789abcdef"),
        ("DOORBELL_LOG_FORMAT", "json"),
        ("DOORBELL_API_KEY", "an-api-key-of-some-length"),
        ("DOORBELL_DATA_DIR", "/elsewhere"),
        ("DOORBELL_SERVICE_HOST", "10.1.2.3"),
        ("UNRELATED", "x"),
    ]);
    let config = case.config();
    let settings = &config.settings;
    assert_eq!(settings.public.origins, ["https://a.example", "https://b.example:8443"]);
    let proxies: Vec<String> = settings.public.trusted_proxies.iter().map(ToString::to_string).collect();
    assert_eq!(proxies, ["10.0.0.0/8", "192.0.2.7/32"]);
    assert_eq!(settings.limits.exempt, []);
    assert_eq!((settings.limits.queue_bytes, settings.limits.queue_messages), (65_536, 10));
    assert_eq!(settings.limits.ping_interval, Duration::from_millis(500));
    assert!(settings.public.open_identity_acknowledged && !config.uses_made_token_key());
    assert_eq!(settings.tokens.algorithm, TokenAlgorithm::Hs256);
    assert_eq!(config.log.format, LogFormat::Json);
    assert_eq!(settings.api.keys.len(), 1);
    assert_eq!(settings.api.keys[0].name, "env");
}

#[test]
fn wrong_variables_and_flags_are_refused_like_wrong_keys() {
    let case = Case::new("public.listen = 1")
        .env(&[
            ("DOORBELL_PUBLIC_LISTN", "127.0.0.1:1"),
            ("DOORBELL_TEXT_LISTEN", "nowhere"),
            ("DOORBELL_LOGIN_ROTATE", "30"),
            ("DOORBELL_API_KEY", "two words"),
        ])
        .flag("limits.message", "much");
    let expected = [
        "d.toml:1:17: expected an address such as \"127.0.0.1:19999\"",
        "DOORBELL_API_KEY: a secret is visible ASCII without spaces, such as base64",
        "DOORBELL_LOGIN_ROTATE: expected a duration such as \"30s\", \"500ms\", \"2m\" or \"1h\"",
        "DOORBELL_PUBLIC_LISTN: unknown variable; did you mean DOORBELL_PUBLIC_LISTEN?",
        "DOORBELL_TEXT_LISTEN: expected an IP address and a port, such as \"127.0.0.1:19999\" or \"[::]:19999\"",
        "--flag: expected a size such as \"64KiB\", \"1MiB\" or a number of bytes",
    ];
    assert_eq!(case.errors(), expected);
}

#[test]
fn secrets_come_from_files_without_their_newline() {
    let case = Case::new("");
    let key = case.file("k", "0123456789abcdef0123456789abcdef\n");
    let key = key.display();
    let text = format!(
        "text.key_file = \"{key}\"\ntokens.key_file = \"{key}\"\n\
         api.keys = [{{name = \"shop\", secret_file = \"{key}\", expires = 2030-01-01}}]\n"
    );
    case.file("d.toml", &text);
    let settings = case.config().settings;
    let text_key = settings.text.key.expect("a key");
    assert_eq!(text_key.expose_secret(), "0123456789abcdef0123456789abcdef");
    assert_eq!(settings.api.keys[0].secret.expose_secret(), text_key.expose_secret());
    assert_eq!(settings.api.keys[0].expires, Some(1_893_456_000));
    assert!(settings.tokens.key.is_some());
}

#[test]
fn a_later_layer_replaces_a_secret_however_it_is_given() {
    let case =
        Case::new("text.key_file = \"/nonexistent\"").env(&[("DOORBELL_TEXT_KEY", "0123456789abcdef")]);
    assert_eq!(case.config().settings.text.key.expect("a key").expose_secret(), "0123456789abcdef");
}

#[test]
fn files_that_cannot_serve_are_refused_with_their_key_s_place() {
    let case = Case::new("");
    case.file("empty", "\n");
    let dir = case.directory.path().display();
    let text = format!("text.key_file = \"{dir}/empty\"\ntokens.key_file = \"{dir}/none\"\n");
    case.file("d.toml", &text);
    let expected = [
        "d.toml:1:17: empty: a secret has at least one byte, and should have 16",
        "d.toml:2:19: cannot read none: No such file or directory (os error 2)",
    ];
    assert_eq!(case.errors(), expected);
}

#[test]
fn a_named_file_must_be_there_and_a_file_must_be_text_of_bounded_size() {
    let mut case = Case::new("");
    case.sources.file = Some(case.directory.path().join("none.toml"));
    assert_eq!(case.errors(), ["cannot read none.toml: No such file or directory (os error 2)"]);
    case.sources.file = Some("/dev/zero".into());
    assert_eq!(case.errors(), ["cannot read /dev/zero: longer than 1048576 bytes"]);
}

#[test]
fn webhooks_need_web_addresses_known_events_and_a_secret() {
    let urls = "webhooks.urls = [\"https://www.example.com/hook\"]\n";
    let settings = parse(&format!("{urls}webhooks.secret = \"c2VjcmV0\"")).expect("valid").settings;
    assert_eq!(settings.webhooks.urls, ["https://www.example.com/hook"]);
    for (text, expected) in [
        (urls.to_owned(), "webhooks are signed: set webhooks.secret or webhooks.secret_file"),
        (
            format!("{urls}webhooks.secret = \"whsec_%%%\""),
            "a webhooks.secret that starts with whsec_ goes on in base64",
        ),
        ("webhooks.urls = [\"www.example.com\"]".to_owned(), "expected a URL such as"),
        ("webhooks.urls = [\"ftp://www.example.com/\"]".to_owned(), "expected a URL such as"),
        ("webhooks.events = [\"user.gone\"]".to_owned(), "expected \"user.online\" or"),
    ] {
        let errors = errors(&text);
        assert!(matches!(&*errors, [error] if error.contains(expected)), "{text}: {errors:?}");
    }
    let case = Case::new(urls);
    let secret = case.file("webhooks.key", "whsec_c2VjcmV0\n");
    let case = case.env(&[("DOORBELL_WEBHOOKS_SECRET_FILE", secret.to_str().expect("text"))]);
    let secret = case.config().settings.webhooks.secret.expect("a secret");
    assert_eq!(secret.expose_secret(), "whsec_c2VjcmV0");
}

#[test]
fn no_secret_is_printed() {
    let secret = "hunter2hunter2hunter2hunter2hunter2";
    let text = format!(
        "text.key = \"{secret}\"\ntokens.key = \"{secret}\"\napi.keys = [{{name = \"a\", secret = \"{secret}\"}}]\n"
    );
    let config = parse(&text).expect("valid");
    assert!(!format!("{config:?}").contains("hunter2"));
    // Each broken in another way, none quoted.
    for text in [
        format!("text.key = \"{secret} é\""),
        format!("tokens.key = [\"{secret}\"]"),
        format!("tokens.algorithm = \"ES256\"\ntokens.key = \"{secret}\""),
        format!("api.keys = [{{name = \"a\", secret = [\"{secret}\"]}}]"),
        format!("text = \"{secret}\""),
        format!("text.key = {secret}"),
    ] {
        let errors = errors(&text).concat();
        assert!(!errors.is_empty() && !errors.contains("hunter2"), "{errors}");
    }
}

#[test]
fn no_text_makes_the_parser_panic() {
    // The reference page with bytes cut, doubled and changed, by a generator with a fixed seed.
    let page = reference_text().into_bytes();
    let mut state = 0x5eed_u64;
    let mut next = |bound: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).expect("31 bits") % bound
    };
    for _ in 0..2_000 {
        let mut text = page.clone();
        for _ in 0..=next(8) {
            let at = next(text.len());
            match next(4) {
                0 => text[at] = b"\"'[]{}=#,.\n\\\0\x7f0-"[next(16)],
                1 => drop(text.drain(at..(at + next(200)).min(text.len()))),
                2 => text.insert(at, b"[[\"=\n"[next(5)]),
                _ => text.extend_from_within(at..),
            }
            text.truncate(20_000);
            if text.is_empty() {
                text.push(b'=');
            }
        }
        let text = String::from_utf8_lossy(&text);
        if let Err(errors) = parse(&text) {
            assert!(!errors.is_empty(), "{text}");
        }
    }
}
