//! `.env.example` says every key with its true default and nothing else: it is compared with what the
//! settings themselves declare. To write it anew: `WATCHDOG_TEST_WRITE=1 cargo test env_example`.

use std::fmt::Write as _;

use serde_json::Value;
use watchdog::assemble::schema as sections;
use watchdog::config::schema::{Field, Kind, Section};

const HEAD: &str = "\
# Every setting of the watchdog with its default. Compose: copy it to .env and uncomment what you change. Without
# compose the program reads no .env: export the variables, or write watchdog.toml.
# The same keys stand in watchdog.toml: WATCHDOG_TELEGRAM__CHAT_ID is chat_id in [telegram].
# Lists may be written [\"a\",\"b\"] or a,b. `watchdog config explain KEY` says where a value comes from.
";

#[test]
fn env_example_lists_every_key_with_its_true_default() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/.env.example");
    let expected = render();
    if std::env::var_os("WATCHDOG_TEST_WRITE").is_some() {
        std::fs::write(path, &expected).unwrap();
    }
    let found = std::fs::read_to_string(path).unwrap_or_default();
    for (number, (found, expected)) in found.lines().zip(expected.lines()).enumerate() {
        assert_eq!(found, expected, ".env.example line {}", number + 1);
    }
    assert_eq!(found.lines().count(), expected.lines().count(), ".env.example has too few or too many lines");
}

#[test]
fn compose_uses_only_keys_that_exist() {
    let compose = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/compose.yaml")).unwrap();
    let known: Vec<String> = watchdog::config::all_keys(&sections()).iter().map(|key| variable(key)).collect();
    let mut used = 0;
    for word in compose.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|w| w.starts_with("WATCHDOG_")) {
        used += 1;
        assert!(known.iter().any(|key| key == word), "compose.yaml uses {word}, which no setting has");
    }
    assert!(used > 0, "compose.yaml sets nothing");
}

fn render() -> String {
    let mut out = HEAD.to_string();
    for section in sections() {
        let _ = writeln!(out, "\n# ---- {} ----", title(&section));
        comment(&mut out, section.doc);
        let defaults = (section.defaults)();
        for field in section.fields {
            if section.list {
                table_key(&mut out, field, &defaults);
            } else if let Kind::Tables(fields) = field.kind {
                let _ = writeln!(out, "#\n# [[{}.{}]] in watchdog.toml:", section.path, field.name);
                comment(&mut out, field.doc);
                fields.iter().for_each(|inner| table_key(&mut out, inner, &Value::Null));
            } else {
                out.push_str("#\n");
                comment(&mut out, field.doc);
                let key = if section.path.is_empty() {
                    field.name.to_string()
                } else {
                    format!("{}.{}", section.path, field.name)
                };
                let _ = writeln!(out, "# {}={}", variable(&key), default(field, &defaults));
            }
        }
    }
    out
}

fn title(section: &Section) -> String {
    match (section.path, section.list) {
        ("", _) => "the program".to_string(),
        (path, false) => format!("[{path}]"),
        (path, true) => format!("[[{path}]] in watchdog.toml"),
    }
}

fn table_key(out: &mut String, field: &Field, defaults: &Value) {
    let default = default(field, defaults);
    let shown = if default.is_empty() { String::new() } else { format!(" (default {default})") };
    let doc = field.doc.lines().map(str::trim).collect::<Vec<_>>().join(" ");
    let _ = writeln!(out, "#   {}{shown}: {}", field.name, doc.trim());
}

fn comment(out: &mut String, doc: &str) {
    for line in doc.lines() {
        let _ = writeln!(out, "# {}", line.trim());
    }
}

fn variable(key: &str) -> String {
    format!("WATCHDOG_{}", key.to_uppercase().replace('.', "__"))
}

fn default(field: &Field, defaults: &Value) -> String {
    if field.name == "instance" {
        return "the host name".to_string();
    }
    match defaults.get(field.name) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(items)) if items.is_empty() => String::new(),
        Some(other) => other.to_string(),
    }
}
