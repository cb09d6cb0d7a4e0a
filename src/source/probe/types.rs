//! The kinds of looks that a probe can be, and the schemes that name them.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::config::schema::{Kind, Setting};

/// The kinds of looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Type {
    /// http and https.
    Http,
    /// A port.
    Tcp,
    /// A name.
    Dns,
    /// A certificate.
    Tls,
    /// An echo (ping).
    Icmp,
    /// A command.
    Exec,
}

impl Type {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Type::Http => "http",
            Type::Tcp => "tcp",
            Type::Dns => "dns",
            Type::Tls => "tls",
            Type::Icmp => "icmp",
            Type::Exec => "exec",
        }
    }

    /// Schemes of its targets.
    pub fn schemes(self) -> &'static [&'static str] {
        match self {
            Type::Http => &["http", "https"],
            Type::Tcp => &["tcp"],
            Type::Dns => &["dns"],
            Type::Tls => &["tls"],
            Type::Icmp => &["icmp"],
            Type::Exec => &[],
        }
    }

    /// A target in the right form.
    pub fn example(self) -> &'static str {
        match self {
            Type::Http => "https://example.org/health",
            Type::Tcp => "tcp://db:5432",
            Type::Dns => "dns://example.org",
            Type::Tls => "tls://example.org:443",
            Type::Icmp => "icmp://192.0.2.1",
            Type::Exec => "",
        }
    }

    /// The type of a target with this scheme.
    pub fn of_scheme(scheme: &str) -> Option<Type> {
        [Type::Http, Type::Tcp, Type::Dns, Type::Tls, Type::Icmp].into_iter().find(|t| t.schemes().contains(&scheme))
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Setting for Type {
    const KIND: Kind = Kind::Choice(&["http", "tcp", "dns", "tls", "icmp", "exec"]);
}
