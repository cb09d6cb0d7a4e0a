//! Why a call to the engine gave no answer, in words that say what to do next.
//!
//! Nothing from an inspect answer ever gets in here, only the engine's own complaint, cut short
//! and with control characters and markup taken out: a proxy may answer with a page (T15).

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::super::shortage;
use super::version::{ApiVersion, NEWEST, OLDEST};
use crate::core::time::people;

/// A failed call: the operation, its subject, the socket, and the cause.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} at {}: {cause}", socket.display())]
pub struct DockerError {
    /// What was tried, on what: `inspect container 8dfafdbc3a40`.
    pub operation: String,
    /// Where.
    pub socket: PathBuf,
    /// Why it failed.
    pub cause: Cause,
}

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    /// Nobody could be reached through the socket.
    #[error("{}", connect_words(.0))]
    Connect(io::Error),
    /// The connection broke, or what came is not HTTP.
    #[error("{0}")]
    Broken(String),
    /// No whole answer in time.
    #[error("no answer within {}; the Docker daemon hangs or is overloaded", people(*.0))]
    Timeout(Duration),
    /// The engine, or a proxy before it, said no.
    #[error("HTTP {status}{}{message}", if .message.is_empty() { "" } else { ": " })]
    Refused {
        /// The status code.
        status: u16,
        /// Its words, cleaned.
        message: String,
    },
    /// The body is over the limit.
    #[error("the answer is larger than {0} bytes")]
    TooLarge(usize),
    /// The body is not the JSON that was expected.
    #[error("the answer is not what the Docker API promises: {0}")]
    Malformed(String),
    /// The engine is too old, or says no version at all.
    #[error("{}", version_words(.0.as_ref()))]
    Version(Option<ApiVersion>),
    /// The id cannot be put into a path.
    #[error("not a container id")]
    BadId,
    /// The limit of the whole look was reached before this call was made.
    #[error("no time was left for it; other calls hang")]
    NotAsked,
}

impl DockerError {
    pub(super) fn new(operation: &str, socket: &Path, cause: Cause) -> DockerError {
        DockerError { operation: operation.to_string(), socket: socket.to_path_buf(), cause }
    }

    /// True when the engine answered that there is no such container.
    pub fn is_not_found(&self) -> bool {
        matches!(self.cause, Cause::Refused { status: 404, .. })
    }
}

fn connect_words(error: &io::Error) -> String {
    if let Some(shortage) = shortage::seen(error) {
        return shortage.to_string();
    }
    match error.kind() {
        io::ErrorKind::PermissionDenied => "permission denied; add the docker group: in compose.yaml `group_add` with \
                                            the group id of the socket, otherwise `usermod -aG docker`"
            .to_string(),
        io::ErrorKind::NotFound => {
            "there is no such socket; is Docker running, and is the socket mounted into this container?".to_string()
        }
        io::ErrorKind::ConnectionRefused => "connection refused; the Docker daemon is not running".to_string(),
        _ => format!("cannot connect: {error}"),
    }
}

fn version_words(theirs: Option<&ApiVersion>) -> String {
    match theirs {
        Some(version) => format!(
            "the engine speaks API {version} and this watchdog {OLDEST} to {NEWEST}; upgrade the older of the two"
        ),
        None => {
            "neither /_ping nor /version said which API version the engine speaks; is this a Docker socket?".to_string()
        }
    }
}

/// The engine's complaint from an error body: the `message` of its JSON, else the text of a page.
/// At most 200 characters, one line.
pub fn complaint(body: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Said {
        message: String,
    }
    let text = match serde_json::from_slice::<Said>(body) {
        Ok(said) => said.message,
        Err(_) => without_tags(&String::from_utf8_lossy(body)),
    };
    let words: Vec<&str> =
        text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|w| !w.is_empty()).collect();
    words.join(" ").chars().take(200).collect()
}

fn without_tags(page: &str) -> String {
    let mut text = String::new();
    let mut inside = false;
    for c in page.chars() {
        match c {
            '<' => inside = true,
            '>' => {
                inside = false;
                text.push(' ');
            }
            _ if !inside => text.push(c),
            _ => {}
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complaint_is_one_short_clean_line_whatever_the_body() {
        let table: [(&[u8], &str); 5] = [
            (br#"{"message":"No such container: web"}"#, "No such container: web"),
            (
                b"<html><body><h1>403 Forbidden</h1>\r\nRequest <b>forbidden</b>.\n</body></html>",
                "403 Forbidden Request forbidden .",
            ),
            (b"", ""),
            (b"\x1b[31mred\x07\xff", "[31mred \u{fffd}"),
            (br#"{"other":1}"#, r#"{"other":1}"#),
        ];
        for (body, expected) in table {
            assert_eq!(complaint(body), expected);
        }
        assert_eq!(complaint(&[b'x'; 5000]).len(), 200);
    }

    #[test]
    fn a_connect_error_says_what_to_do() {
        let table = [
            (io::ErrorKind::PermissionDenied, "add the docker group"),
            (io::ErrorKind::NotFound, "is Docker running"),
            (io::ErrorKind::ConnectionRefused, "not running"),
        ];
        for (kind, words) in table {
            let error =
                DockerError::new("list containers", Path::new("/d.sock"), Cause::Connect(io::Error::from(kind)));
            let text = error.to_string();
            assert!(text.starts_with("cannot list containers at /d.sock: ") && text.contains(words), "{text}");
        }
    }
}
