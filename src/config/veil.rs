//! One rule for secrets, wherever a value that a person wrote is shown: what is masked, and how.
//!
//! Secrets have a type of their own ([`Secret`](super::value::Secret)) and never get here. This is for those that
//! people put where they do not belong: a password in a URL, a key in a header, a token in the wrong setting.

use std::borrow::Cow;

/// What is shown instead of a secret.
pub const MASK: &str = "********";

/// Characters of a written value that a complaint repeats at most.
const SHOWN: usize = 60;

/// True for the name of a header or of a parameter of a URL whose value is a secret.
pub fn is_secret_name(name: &str) -> bool {
    const PARTS: [&str; 11] = [
        "auth",
        "token",
        "secret",
        "passw",
        "passphrase",
        "pwd",
        "cookie",
        "credential",
        "apikey",
        "signature",
        "session",
    ];
    let name = name.to_ascii_lowercase();
    let ends = |end: &str| name == end || name.ends_with(&format!("-{end}")) || name.ends_with(&format!("_{end}"));
    PARTS.iter().any(|part| name.contains(part)) || ["key", "sig", "pass"].into_iter().any(ends)
}

/// `text` with everything masked in it that is a secret by its form: user and password of a URL, parameters with the
/// names of secrets, the token of a bot, the value of an Authorization header.
pub fn veil(text: &str) -> Cow<'_, str> {
    if !text.contains("://") && !looks_secret(text) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    for (index, word) in text.split(' ').enumerate() {
        if index > 0 {
            out.push(' ');
        }
        url(word, &mut out);
    }
    if is_credential(text) {
        out = text.split_once(' ').map_or_else(|| MASK.to_string(), |(scheme, _)| format!("{scheme} {MASK}"));
    }
    Cow::Owned(out)
}

/// `text`, a line of somebody else's log, with everything masked in it that [`veil`] masks, and the value of each
/// `name=value`, `name: value` and `"name":"value"` whose name is that of a secret. Rather too much than too little.
pub fn prose(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    // Whether the word to come is the value of a secret.
    let mut is_next = false;
    for piece in text.split_inclusive([' ', ',', ';', '&', '{', '}', '\t']) {
        let word = piece.trim_end_matches([' ', ',', ';', '&', '{', '}', '\t']);
        let (word, end) = piece.split_at(word.len());
        let bare = word.trim_matches(['"', '\'']);
        if is_next && !bare.is_empty() {
            // The name of a scheme stands before its secret.
            is_next = is_scheme(bare);
            out.push_str(if is_next { word } else { MASK });
        } else if let Some((name, value)) = word.split_once(['=', ':']).filter(|(name, _)| is_named(name)) {
            out.push_str(name);
            out.push_str(word.get(name.len()..=name.len()).unwrap_or_default());
            is_next = value.trim_matches(['"', '\'']).is_empty();
            out.push_str(if is_next { value } else { MASK });
        } else {
            is_next = is_scheme(bare) && !bare.eq_ignore_ascii_case("token") && !bare.eq_ignore_ascii_case("basic");
            out.push_str(word);
        }
        out.push_str(end);
    }
    veil(&out).into_owned()
}

/// True for what stands before `=` or `:` and names a secret.
fn is_named(name: &str) -> bool {
    is_secret_name(name.trim_matches(|c: char| !c.is_ascii_alphanumeric()))
}

/// True for the first word of an Authorization header.
fn is_scheme(word: &str) -> bool {
    ["bearer", "basic", "token", "digest", "apikey"].iter().any(|one| word.eq_ignore_ascii_case(one))
}

/// True for a text that is a secret by its form alone.
pub fn looks_secret(text: &str) -> bool {
    is_credential(text) || text.split(['/', ' ', '"', '=']).any(is_bot_token)
}

/// What was written, in quotes and in short; in words where it may be a secret.
pub fn quoted(text: &str) -> String {
    if looks_secret(text) || text.contains("://") && veil(text) != text {
        return "what is written there".to_string();
    }
    format!("\"{}\"", short(text))
}

/// The name of a key that nobody knows, where it can be one; a mark in its place where it may be anything.
pub fn key(name: &str) -> &str {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '[' | ']');
    if !name.is_empty() && name.len() <= SHOWN && name.chars().all(is_plain) && !looks_secret(name) {
        name
    } else {
        "…"
    }
}

/// The beginning of a text, safe to print.
pub fn short(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default().escape_debug()),
        None => text.escape_debug().to_string(),
    }
}

/// `Bearer abc`, `Basic abc`.
fn is_credential(text: &str) -> bool {
    let Some((scheme, rest)) = text.trim().split_once(' ') else { return false };
    is_scheme(scheme) && !rest.trim().is_empty() && !rest.trim().contains(' ')
}

/// `123456:ABC-DEF…`, also as a part of a path: `bot123456:ABC-DEF…`.
fn is_bot_token(text: &str) -> bool {
    let Some((number, secret)) = text.trim().trim_start_matches("bot").split_once(':') else { return false };
    let digits = number.len() >= 3 && number.bytes().all(|b| b.is_ascii_digit());
    digits && secret.len() >= 16 && secret.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
}

fn url(word: &str, out: &mut String) {
    let Some((scheme, rest)) = word.split_once("://") else {
        out.push_str(if is_bot_token(word) { MASK } else { word });
        return;
    };
    out.push_str(scheme);
    out.push_str("://");
    let end = rest.find(['/', '?', '#', '"', '\'']).unwrap_or(rest.len());
    // A password that holds one of these would end too early: what stands before the last @ is not a host.
    let end = rest.rfind('@').filter(|at| *at > end && !rest.contains(['?', '#'])).map_or(end, |at| at + 1);
    let (authority, tail) = rest.split_at(end);
    match authority.rsplit_once('@') {
        Some((_, host)) => out.extend([MASK, "@", host]),
        None => out.push_str(authority),
    }
    let (path, query) = tail.split_once('?').map_or((tail, None), |(path, query)| (path, Some(query)));
    for (index, part) in path.split('/').enumerate() {
        if index > 0 {
            out.push('/');
        }
        out.push_str(if is_bot_token(part) { MASK } else { part });
    }
    for (index, pair) in query.into_iter().flat_map(|query| query.split('&')).enumerate() {
        out.push(if index == 0 { '?' } else { '&' });
        match pair.split_once('=') {
            Some((name, value)) if is_secret_name(name) && !value.is_empty() => out.extend([name, "=", MASK]),
            _ => out.push_str(pair),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_masked_by_their_form_and_nothing_else_is() {
        for (text, shown) in [
            ("http://app:8080/metrics?x=1", "http://app:8080/metrics?x=1"),
            ("http://u:p@app:8080/metrics", "http://********@app:8080/metrics"),
            ("http://u:p/w@app:8080/metrics", "http://********@app:8080/metrics"),
            ("db=http://u@h/?api_key=abc&x=1", "db=http://********@h/?api_key=********&x=1"),
            ("https://h/a?token=abc&sig=x", "https://h/a?token=********&sig=********"),
            ("https://h/?redirect=a@b", "https://h/?redirect=a@b"),
            ("https://t/bot123456:AAaaaaaaaaaaaaaaaaaa/getMe", "https://t/********/getMe"),
            ("123456:AAaaaaaaaaaaaaaaaaaa", "********"),
            ("Bearer abc", "Bearer ********"),
            ("text/plain, Basic tea", "text/plain, Basic tea"),
            ("tcp://db:5432", "tcp://db:5432"),
            ("-1001234567890", "-1001234567890"),
        ] {
            assert_eq!(veil(text), shown);
        }
    }

    #[test]
    fn a_line_of_a_log_loses_what_is_named_like_a_secret() {
        for (text, shown) in [
            ("listening on 0.0.0.0:80", "listening on 0.0.0.0:80"),
            ("DB_PASSWORD=hunter2 is wrong", "DB_PASSWORD=******** is wrong"),
            ("password: hunter2, user: me", "password: ********, user: me"),
            (r#"{"user":"me","password":"hunter2"}"#, r#"{"user":"me","password":********}"#),
            (r#"{"token": "hunter2", "n": 1}"#, r#"{"token": ********, "n": 1}"#),
            ("Authorization: Bearer hunter2", "Authorization: Bearer ********"),
            ("sent Bearer hunter2 twice", "sent Bearer ******** twice"),
            ("postgres://u:hunter2@db/x refused", "postgres://********@db/x refused"),
            ("GET /?api_key=hunter2&x=1", "GET /?api_key=********&x=1"),
            ("can't open '/well': No such file", "can't open '/well': No such file"),
            ("", ""),
        ] {
            assert_eq!(prose(text), shown);
        }
    }

    #[test]
    fn names_of_secrets_are_known() {
        for name in
            ["Authorization", "Cookie", "X-Api-Key", "X-Auth-Token", "apikey", "access_token", "PRIVATE-KEY", "sig"]
        {
            assert!(is_secret_name(name), "{name}");
        }
        for name in ["Accept", "X-Tenant", "Host", "keyboard", "design", "User-Agent", "X-Monkey"] {
            assert!(!is_secret_name(name), "{name}");
        }
    }

    #[test]
    fn what_is_quoted_is_short_and_no_secret() {
        assert_eq!(quoted("5 parsecs"), "\"5 parsecs\"");
        assert_eq!(quoted("http://u:p@h/"), "what is written there");
        assert_eq!(quoted("123456:AAaaaaaaaaaaaaaaaaaa"), "what is written there");
        assert_eq!(quoted("a\nb"), "\"a\\nb\"");
        assert!(quoted(&"x".repeat(500)).chars().count() < 70);
    }
}
