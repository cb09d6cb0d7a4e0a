//! Which version of the API to speak: the newest that both sides know (F31).
//!
//! The engine says its newest in a header of `/_ping`, or its range in `/version`; both are asked
//! without a version in the path. Ours is a range too: what is read here has not changed since
//! [`OLDEST`], and [`NEWEST`] is the newest that it was tried against.

use std::fmt;

/// A version of the engine's API, such as 1.41.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ApiVersion {
    /// Before the dot.
    pub major: u16,
    /// After the dot.
    pub minor: u16,
}

/// The newest version spoken here.
pub const NEWEST: ApiVersion = ApiVersion { major: 1, minor: 52 };
/// The oldest version spoken here.
pub const OLDEST: ApiVersion = ApiVersion { major: 1, minor: 24 };

impl ApiVersion {
    /// Reads `1.41`.
    pub fn parse(text: &str) -> Option<ApiVersion> {
        let (major, minor) = text.trim().split_once('.')?;
        Some(ApiVersion { major: major.parse().ok()?, minor: minor.parse().ok()? })
    }

    /// The version to speak with an engine whose newest is `theirs`; `None` when it is too old.
    pub fn common(theirs: ApiVersion) -> Option<ApiVersion> {
        (theirs >= OLDEST).then(|| theirs.min(NEWEST))
    }
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// True for the engine's complaint that the version in the path is outside its range.
pub fn is_version_complaint(status: u16, message: &str) -> bool {
    status == 400 && message.contains("client version") && (message.contains("too old") || message.contains("too new"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smaller_of_the_two_newest_is_spoken() {
        let table = [("1.41", Some("1.41")), ("1.52", Some("1.52")), ("1.60", Some("1.52")), ("1.24", Some("1.24"))];
        for (theirs, spoken) in table {
            let common = ApiVersion::common(ApiVersion::parse(theirs).unwrap());
            assert_eq!(common.map(|v| v.to_string()).as_deref(), spoken, "{theirs}");
        }
        assert_eq!(ApiVersion::common(ApiVersion::parse("1.12").unwrap()), None);
        for text in ["", "1", "1.", ".41", "v1.41", "1.41.2", "1.-4", "99999.1"] {
            assert_eq!(ApiVersion::parse(text), None, "{text}");
        }
    }

    #[test]
    fn only_a_400_about_the_version_is_a_version_complaint() {
        let old = "client version 1.41 is too old. Minimum supported API version is 1.44";
        assert!(is_version_complaint(400, old));
        assert!(is_version_complaint(400, "client version 1.99 is too new. Maximum supported API version is 1.52"));
        assert!(!is_version_complaint(500, old));
        assert!(!is_version_complaint(400, "bad parameter"));
    }
}
