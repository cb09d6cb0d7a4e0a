//! How a settings struct describes itself: one declaration gives the struct, its defaults, and
//! the list of fields that validation, `config explain`, `.env.example` and the README iterate.

use std::path::PathBuf;

use super::value::{Secret, Span};

/// One key of a settings struct.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// The key as written in TOML.
    pub name: &'static str,
    /// The doc comment: meaning, unit, range.
    pub doc: &'static str,
    /// What may stand there.
    pub kind: Kind,
}

/// What may stand in a field; drives parsing from the environment and the message for a bad value.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// Any text. A number or boolean is taken by its spelling.
    Text,
    /// `true` or `false`.
    Flag,
    /// A whole number from 0 to this.
    Count(u64),
    /// Any number.
    Number,
    /// A duration such as `15s`, `5m`, `1h30m`.
    Span,
    /// A value that is masked wherever it is shown.
    Secret,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A list of texts; in the environment a TOML list or comma-separated.
    List,
    /// A list of texts; one text alone is a list of it.
    Texts,
    /// A list of texts, or this one word.
    ListOr(&'static str),
    /// A list of tables with these keys.
    Tables(&'static [Field]),
    /// A table of text to text, keys free.
    Map,
}

/// A type that may be a field of a settings struct.
pub trait Setting {
    /// What may stand there.
    const KIND: Kind;
}

macro_rules! kinds {
    ($($ty:ty => $kind:expr),* $(,)?) => { $(impl Setting for $ty { const KIND: Kind = $kind; })* };
}

kinds! {
    String => Kind::Text,
    PathBuf => Kind::Text,
    bool => Kind::Flag,
    u16 => Kind::Count(u16::MAX as u64),
    u32 => Kind::Count(u32::MAX as u64),
    u64 => Kind::Count(u64::MAX),
    f64 => Kind::Number,
    Span => Kind::Span,
    Secret => Kind::Secret,
    Vec<String> => Kind::List,
    std::collections::BTreeMap<String, String> => Kind::Map,
    crate::core::signal::Severity => Kind::Choice(&["critical", "warning", "info"]),
}

impl<T: Setting> Setting for Option<T> {
    const KIND: Kind = T::KIND;
}

/// A part of the configuration that one file of the program owns.
#[derive(Clone, Copy)]
pub struct Section {
    /// Where it stands: `telegram`, or `probe` for `[[probe]]`; empty for the top level.
    pub path: &'static str,
    /// True for a list of tables (`[[probe]]`).
    pub list: bool,
    /// The doc comment of the struct.
    pub doc: &'static str,
    /// Its keys.
    pub fields: &'static [Field],
    /// Its defaults as data; secrets are absent.
    pub defaults: fn() -> serde_json::Value,
    /// What may be there once only.
    pub identities: &'static [Identity],
    /// One duration in place of the table stands for each of its keys: `cooldown = "1h"`.
    pub may_be_plain: bool,
}

impl Section {
    /// The same section, for which one duration may be written in place of its table.
    #[must_use]
    pub const fn or_plain(self) -> Section {
        Section { may_be_plain: true, ..self }
    }

    /// The same section, in which these may be there once only: of a list of tables the field's value among all
    /// tables, of a single table the entries of the field's list.
    #[must_use]
    pub const fn once(self, identities: &'static [Identity]) -> Section {
        Section { identities, ..self }
    }
}

/// What two entries must not have in common.
#[derive(Debug, Clone, Copy)]
pub struct Identity {
    /// The field.
    pub field: &'static str,
    /// When two spellings name the same thing.
    pub spelling: Spelling,
    /// Why there cannot be two, and what to do, for people.
    pub why: &'static str,
}

/// When two spellings name the same thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spelling {
    /// When they are the same.
    Exact,
    /// Whatever the case.
    AnyCase,
    /// As paths: a slash at the end changes nothing.
    Path,
}

impl Identity {
    /// The entries of a list, each once.
    pub const fn entries(field: &'static str) -> Identity {
        Identity { field, spelling: Spelling::Exact, why: "" }
    }

    /// The same in another spelling.
    #[must_use]
    pub const fn spelt(self, spelling: Spelling) -> Identity {
        Identity { spelling, ..self }
    }

    /// What `written` names, in one spelling.
    pub fn same(&self, written: &str) -> String {
        let written = written.trim();
        match self.spelling {
            Spelling::Exact => written.to_string(),
            Spelling::AnyCase => written.to_lowercase(),
            Spelling::Path => match written.trim_end_matches('/') {
                "" => "/".to_string(),
                path => path.to_string(),
            },
        }
    }
}

/// Declares a settings struct. Every field has a doc comment (meaning, unit, range) and a default.
///
/// ```text
/// crate::settings! {
///     /// The tea kitchen.
///     pub struct Settings {
///         /// Cups per pot, 1 to 12.
///         cups: u32 = 4,
///     }
/// }
/// ```
///
/// Gives the struct (serde, unknown fields denied), `Default`, `FIELDS`, `DOC`, `section(path)`
/// and `sections(path)` (for a list of tables).
#[macro_export]
macro_rules! settings {
    (
        $(#[doc = $doc:literal])+
        pub struct $name:ident {
            $( $(#[doc = $field_doc:literal])+ $field:ident : $ty:ty = $default:expr ),* $(,)?
        }
    ) => {
        $(#[doc = $doc])+
        #[derive(Debug, Clone, ::serde::Serialize, ::serde::Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name { $( $(#[doc = $field_doc])+ pub $field: $ty ),* }

        impl ::std::default::Default for $name {
            fn default() -> Self {
                Self { $( $field: $default ),* }
            }
        }

        impl $name {
            /// What these settings are about.
            pub const DOC: &'static str = concat!($($doc, "\n"),+);
            /// Every key, in the order of declaration.
            pub const FIELDS: &'static [$crate::config::schema::Field] = &[ $(
                $crate::config::schema::Field {
                    name: $crate::config::schema::plain(stringify!($field)),
                    doc: concat!($($field_doc, "\n"),+),
                    kind: <$ty as $crate::config::schema::Setting>::KIND,
                }
            ),* ];

            /// The section these settings make at `path`.
            #[allow(dead_code)]
            pub const fn section(path: &'static str) -> $crate::config::schema::Section {
                $crate::config::schema::Section {
                    path, list: false, doc: Self::DOC, fields: Self::FIELDS,
                    defaults: || ::serde_json::to_value(Self::default()).unwrap_or_default(),
                    identities: &[],
                    may_be_plain: false,
                }
            }

            /// The section these settings make as a list of tables at `path`.
            #[allow(dead_code)]
            pub const fn sections(path: &'static str) -> $crate::config::schema::Section {
                $crate::config::schema::Section { list: true, ..Self::section(path) }
            }
        }

        impl $crate::config::schema::Setting for ::std::vec::Vec<$name> {
            const KIND: $crate::config::schema::Kind = $crate::config::schema::Kind::Tables($name::FIELDS);
        }
    };
}

/// A field's name without the `r#` that Rust keywords need.
pub const fn plain(name: &'static str) -> &'static str {
    match name.as_bytes() {
        [b'r', b'#', ..] => match name.split_at_checked(2) {
            Some((_, rest)) => rest,
            None => name,
        },
        _ => name,
    }
}
