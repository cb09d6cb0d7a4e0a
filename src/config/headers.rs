//! Headers that a person wrote, as they are sent: `X-Api-Key = "…"`, or `X-Api-Key_file` for a file that holds the
//! value. What comes from a file is a secret like any other, and shown nowhere.

use std::collections::BTreeMap;
use std::path::Path;

use super::value::Secret;

/// Ends the name of a header whose value is in a file.
pub const FILE: &str = "_file";

/// A header that cannot be sent: its key in the table, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    /// As it was written.
    pub key: String,
    /// In words, without a value.
    pub what: String,
}

/// Names and values, read from their files where they are given so; all that is wrong with them otherwise.
///
/// # Errors
/// A header that is given in both ways, and a file that cannot be used.
pub fn read(written: &BTreeMap<String, String>) -> Result<Vec<(String, Secret)>, Vec<Wrong>> {
    let (mut headers, mut wrong) = (Vec::new(), Vec::new());
    for (key, value) in written {
        let Some(name) = key.strip_suffix(FILE).filter(|name| !name.is_empty()) else {
            headers.push((key.clone(), Secret::new(value.as_str())));
            continue;
        };
        let twin = written.keys().find(|other| other.eq_ignore_ascii_case(name));
        let secret = match twin {
            Some(twin) => Err(format!("both `{twin}` and `{key}` are set; keep one")),
            None => Secret::resolve(name, None, Some(Path::new(value))),
        };
        match secret {
            Ok(Some(secret)) => headers.push((name.to_string(), secret)),
            Ok(None) => {}
            Err(what) => wrong.push(Wrong { key: key.clone(), what }),
        }
    }
    if wrong.is_empty() { Ok(headers) } else { Err(wrong) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_string(), (*value).to_string())).collect()
    }

    #[test]
    fn a_value_is_what_stands_there_or_in_its_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "canary\n").unwrap();
        let path = file.path().to_str().unwrap();
        let headers = read(&written(&[("X-Tenant", "a"), ("X-Api-Key_file", path), ("X-Unset_file", "")])).unwrap();
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (name.as_str(), value.expose())).collect();
        assert_eq!(headers, [("X-Api-Key", "canary"), ("X-Tenant", "a")]);
    }

    #[test]
    fn what_is_given_twice_or_cannot_be_read_is_named_by_its_key() {
        let wrong = read(&written(&[("x-api-key", "canary"), ("X-Api-Key_file", "/k"), ("A_file", "/nonexistent")]));
        let wrong = wrong.unwrap_err();
        assert_eq!(wrong.iter().map(|one| one.key.as_str()).collect::<Vec<_>>(), ["A_file", "X-Api-Key_file"]);
        assert!(wrong[0].what.contains("/nonexistent"), "{wrong:?}");
        assert_eq!(wrong[1].what, "both `x-api-key` and `X-Api-Key_file` are set; keep one");
    }
}
