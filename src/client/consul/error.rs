//! What can go wrong with a call to Consul, in words for people and in classes for programs.
//!
//! Consul's errors are plain text under a handful of statuses, so classes are told by substrings; what
//! is not known is transient. A write without an answer is [`Class::Unknown`]: it may have been done.
//! No error shows a URL or a token (`adr/0019-beacon.md`).

use crate::client::http::HttpError;
use crate::core::beacon::Fault;

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// All keys under a prefix.
    ReadPrefix,
    /// One key.
    Read,
    /// Writing a key, plainly, by index, or with a lock.
    Write,
    /// Deleting a key.
    Delete,
    /// A new session.
    CreateSession,
    /// Renewing a session.
    RenewSession,
    /// Ending a session.
    DestroySession,
    /// Looking at a session.
    ReadSession,
    /// Who leads.
    ReadLeader,
}

impl Operation {
    /// True when doing it twice may differ from doing it once.
    pub fn is_write(self) -> bool {
        matches!(
            self,
            Operation::Write
                | Operation::Delete
                | Operation::CreateSession
                | Operation::RenewSession
                | Operation::DestroySession
        )
    }
}

impl std::fmt::Display for Operation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Operation::ReadPrefix => "reading the keys under",
            Operation::Read => "reading",
            Operation::Write => "writing",
            Operation::Delete => "deleting",
            Operation::CreateSession => "creating the session",
            Operation::RenewSession => "renewing the session",
            Operation::DestroySession => "ending the session",
            Operation::ReadSession => "reading the session",
            Operation::ReadLeader => "asking for",
        })
    }
}

/// What an error means for what is done next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// The servers have no leader at the moment; ask again.
    NoLeader,
    /// The token is missing, unknown, or may not do this.
    Denied,
    /// The session is gone; make a new one.
    InvalidSession,
    /// There is no such thing.
    NotFound,
    /// Too many requests; later.
    RateLimited,
    /// Nothing was done; ask again.
    Unavailable,
    /// No usable answer after a write was sent: it may have been done.
    Unknown,
    /// The request itself is wrong; asking again changes nothing.
    Refused,
}

/// Why a call gave no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConsulError {
    /// No whole answer came.
    #[error("{operation} {subject}: {error}")]
    Http {
        /// What was asked for.
        operation: Operation,
        /// The key, session or prefix.
        subject: String,
        /// Why there is no answer.
        error: HttpError,
    },
    /// Consul said no.
    #[error("{operation} {subject}: Consul answered {status} {words}{}", advice(*.status, .words))]
    Refused {
        /// What was asked for.
        operation: Operation,
        /// The key, session or prefix.
        subject: String,
        /// The status.
        status: u16,
        /// Its words, cleaned, capped, without the token.
        words: String,
    },
    /// The answer is not what Consul gives: cut, or from something in front of it.
    #[error("{operation} {subject}: status {status}, but this is not an answer of Consul: {why}")]
    Unreadable {
        /// What was asked for.
        operation: Operation,
        /// The key, session or prefix.
        subject: String,
        /// The status.
        status: u16,
        /// What is missing.
        why: &'static str,
    },
}

fn is_denial(status: u16, words: &str) -> bool {
    matches!(status, 401 | 403) || words.contains("Permission denied") || words.contains("ACL not found")
}

fn advice(status: u16, words: &str) -> &'static str {
    if words.contains("ACL not found") {
        "; this token is unknown there: put a valid one into consul.token or its file"
    } else if is_denial(status, words) {
        "; the token needs session:write for the agent's node and key:write for the prefix"
    } else {
        ""
    }
}

impl ConsulError {
    /// What it means for what is done next.
    pub fn class(&self) -> Class {
        match self {
            ConsulError::Http { operation, error, .. } => {
                // A failure of TLS, of whatever kind, comes before the session or key that matters here.
                let surely_unsent = error.is_unsent() || matches!(error, HttpError::Tls(_));
                if surely_unsent { Class::Unavailable } else { unanswered(*operation) }
            }
            ConsulError::Refused { operation, status, words, .. } => {
                if is_denial(*status, words) {
                    return Class::Denied;
                }
                match status {
                    404 => Class::NotFound,
                    429 => Class::RateLimited,
                    400..=499 => Class::Refused,
                    _ if words.contains("No cluster leader") => Class::NoLeader,
                    _ if words.to_ascii_lowercase().contains("invalid session \"") => Class::InvalidSession,
                    _ if words.contains("Invalid Session TTL") => Class::Refused,
                    _ => unanswered(*operation),
                }
            }
            ConsulError::Unreadable { operation, .. } => unanswered(*operation),
        }
    }

    /// The same for the beacon's machine.
    pub fn fault(&self) -> Fault {
        match self.class() {
            Class::InvalidSession => Fault::SessionGone,
            Class::Denied => Fault::Denied,
            Class::NoLeader => Fault::NoLeader,
            Class::NotFound | Class::RateLimited | Class::Unavailable | Class::Unknown | Class::Refused => {
                Fault::Unreachable
            }
        }
    }
}

fn unanswered(operation: Operation) -> Class {
    if operation.is_write() { Class::Unknown } else { Class::Unavailable }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn refused(operation: Operation, status: u16, words: &str) -> ConsulError {
        ConsulError::Refused { operation, subject: "watchdog/nodes/n1".into(), status, words: words.into() }
    }

    #[test]
    fn answers_are_put_into_classes() {
        use Operation::{Read, RenewSession, Write};
        for (operation, status, words, class) in [
            (Read, 500, "No cluster leader", Class::NoLeader),
            (Write, 500, "No cluster leader", Class::NoLeader),
            (Write, 403, "Permission denied", Class::Denied),
            (Read, 403, "ACL not found", Class::Denied),
            (Read, 500, "rpc error making call: ACL not found", Class::Denied),
            (Write, 500, "invalid session \"adf4\"", Class::InvalidSession),
            (RenewSession, 404, "Session id 'x' not found", Class::NotFound),
            (Write, 429, "", Class::RateLimited),
            (Write, 400, "Conflicting flags", Class::Refused),
            (Write, 500, "rpc error making call: EOF", Class::Unknown),
            (Read, 500, "rpc error making call: EOF", Class::Unavailable),
            (Read, 502, "Bad Gateway", Class::Unavailable),
        ] {
            assert_eq!(refused(operation, status, words).class(), class, "{operation} {status} {words}");
        }
    }

    #[test]
    fn only_a_write_that_may_have_left_is_unknown() {
        let failed = |operation, error| ConsulError::Http { operation, subject: String::new(), error }.class();
        let late = HttpError::Timeout(Duration::from_secs(1), "waiting for the answer");
        let early = HttpError::Timeout(Duration::from_secs(1), "connecting");
        assert_eq!(failed(Operation::Write, late.clone()), Class::Unknown);
        assert_eq!(failed(Operation::Read, late), Class::Unavailable);
        assert_eq!(failed(Operation::Write, early), Class::Unavailable);
        assert_eq!(failed(Operation::Write, HttpError::Broken("reset".into())), Class::Unknown);
        let nobody = HttpError::Refused("127.0.0.1:1".parse().unwrap());
        assert_eq!(failed(Operation::Write, nobody), Class::Unavailable);
    }

    #[test]
    fn a_denial_says_what_to_do() {
        let said = refused(Operation::Write, 403, "Permission denied").to_string();
        assert!(said.contains("watchdog/nodes/n1") && said.contains("session:write"), "{said}");
        assert!(refused(Operation::Write, 403, "ACL not found").to_string().contains("consul.token"));
    }
}
