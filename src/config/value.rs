//! Types of configuration values: [`Span`] (a duration as people write it) and [`Secret`].

use std::fmt;
use std::path::Path;
use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::exposed::{self, Exposed};
use super::file;
use super::veil::quoted;

pub use super::veil::MASK;

/// A duration written as `15s`, `5m`, `1h30m` or `250ms`; a bare `0` is zero. Up to 10 years.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Span(pub Duration);

impl Span {
    /// A span of whole seconds.
    pub const fn seconds(seconds: u64) -> Span {
        Span(Duration::from_secs(seconds))
    }

    /// Reads the written form.
    pub fn parse(text: &str) -> Result<Span, String> {
        let text = text.trim();
        if text == "0" {
            return Ok(Span::default());
        }
        let span = humantime::parse_duration(text).map_err(|_| {
            format!("{} is not a duration; write for example \"15s\", \"5m\" or \"1h30m\"", quoted(text))
        })?;
        if span > Duration::from_hours(10 * 366 * 24) {
            return Err(format!("{} is longer than ten years", quoted(text)));
        }
        Ok(Span(span))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = humantime::format_duration(self.0).to_string();
        f.write_str(&text.replace(' ', ""))
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Span::parse(&text).map_err(D::Error::custom)
    }
}

/// A text that must not leave by any channel but its own request. `Debug`, `Display` and
/// `Serialize` show a mask; [`Secret::expose`] is the only way to the value.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a value.
    pub fn new(value: impl Into<String>) -> Secret {
        Secret(value.into())
    }

    /// True when it holds nothing but white space, which counts as not set.
    pub fn is_empty(&self) -> bool {
        self.0.trim().is_empty()
    }

    /// The value itself. Never format it into an error, a log or a label.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The value given directly or by file (`x` and its twin `x_file`); both at once is an error.
    /// An empty value or path counts as not set, as everywhere: compose files pass on variables that
    /// nobody gave a value. One trailing line end of the file is dropped; a file over 64 KiB, an empty
    /// one and one that every user may write to are refused.
    pub fn resolve(name: &str, direct: Option<&Secret>, file: Option<&Path>) -> Result<Option<Secret>, String> {
        let direct = direct.filter(|value| !value.is_empty());
        match (direct, file.filter(|path| !path.as_os_str().is_empty())) {
            (Some(_), Some(_)) => Err(format!("both `{name}` and `{name}_file` are set; keep one")),
            (Some(value), None) => Ok(Some(value.clone())),
            (None, None) => Ok(None),
            (None, Some(path)) => read_secret(path, true).map(Some),
        }
    }

    /// Reads a secret's file again, as [`resolve`](Self::resolve) does, without saying again what is odd about it.
    pub fn again(path: &Path) -> Result<Secret, String> {
        read_secret(path, false)
    }
}

fn read_secret(path: &Path, tell: bool) -> Result<Secret, String> {
    const LIMIT: u64 = 64 * 1024;
    let shown = path.display();
    let text = file::text(path, LIMIT).map_err(|what| format!("{shown} {what}"))?;
    match exposed::secret(path) {
        Some(Exposed::Refused(what)) => return Err(format!("{shown} {what}")),
        Some(Exposed::Told(what)) if tell => tracing::warn!("the secret in {shown} {what}"),
        _ => {}
    }
    let value = text.strip_suffix('\n').unwrap_or(&text);
    let value = value.strip_suffix('\r').unwrap_or(value);
    if value.is_empty() {
        return Err(format!("{shown} is empty; write the secret into it"));
    }
    Ok(Secret(value.to_string()))
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(MASK)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Secret)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_back_as_they_are_written() {
        for text in ["15s", "5m", "1h30m", "250ms", "0", "0s"] {
            let span = Span::parse(text).unwrap();
            assert_eq!(Span::parse(&span.to_string()).unwrap(), span, "{text}");
        }
        assert_eq!(Span::parse("1h30m").unwrap(), Span::seconds(5400));
        for text in ["", "15", "-5s", "5 parsecs", "999999999y"] {
            assert!(Span::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_secret_never_shows_itself() {
        let secret = Secret::new("canary-81723");
        let shown = format!("{secret} {secret:?} {}", serde_json::to_string(&secret).unwrap());
        assert!(!shown.contains("canary"), "{shown}");
    }

    #[test]
    fn a_secret_file_loses_one_line_end_and_excludes_its_twin() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        std::fs::write(&file, "abc\n").unwrap();
        let secret = Secret::resolve("token", None, Some(&file)).unwrap().unwrap();
        assert_eq!(secret.expose(), "abc");
        assert!(Secret::resolve("token", Some(&secret), Some(&file)).unwrap_err().contains("both"));
        std::fs::write(&file, "\n").unwrap();
        assert!(Secret::resolve("token", None, Some(&file)).is_err());
        let empty = Secret::new("");
        assert_eq!(Secret::resolve("token", Some(&empty), Some(Path::new(""))), Ok(None), "empty is not set");
    }
}
