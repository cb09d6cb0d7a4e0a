//! The configuration file of OCI's tools (`~/.oci/config`): one profile, read and checked.
//!
//! Every profile inherits from `[DEFAULT]`, as with Oracle's Python SDK. Reads files, and nothing from
//! the environment: home directory and region come as arguments. Files that every user may write to
//! are refused. Errors name file, profile and key, and never a value that may be secret.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::key::Key;
use super::realm::{Region, ocid};
use crate::config::exposed::{self, Exposed};
use crate::config::value::Secret;

/// The largest file that is read.
const LIMIT: u64 = 64 * 1024;
/// The section that all others inherit from.
const DEFAULT: &str = "DEFAULT";

/// Why the files cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SetupError {
    /// The file itself.
    #[error("{}: {why}", file.display())]
    File {
        /// Which.
        file: PathBuf,
        /// What is wrong and what would be right.
        why: String,
    },
    /// There is no such profile.
    #[error("{} has no profile [{profile}]; it has {known}", file.display())]
    Profile {
        /// The file.
        file: PathBuf,
        /// The profile that was asked for.
        profile: String,
        /// Those that are there, in words.
        known: String,
    },
    /// One key of the profile.
    #[error("{}, profile [{profile}], `{key}`: {why}", file.display())]
    Key {
        /// The file.
        file: PathBuf,
        /// The profile.
        profile: String,
        /// The key.
        key: &'static str,
        /// What is wrong and what would be right.
        why: String,
    },
    /// The explicit endpoint.
    #[error("{0}")]
    Endpoint(String),
}

/// Where a profile is and what it is completed with.
#[derive(Debug, Clone)]
pub struct Origin {
    /// The file; `~/` at its head is the home directory.
    pub file: String,
    /// The profile.
    pub profile: String,
    /// The home directory, for `~`.
    pub home: Option<PathBuf>,
    /// The region where the profile has none (`OCI_REGION`).
    pub region: Option<String>,
}

/// A checked profile.
#[derive(Debug, Clone)]
pub struct Profile {
    /// The private key.
    pub key: Key,
    /// What the key is called: `<tenancy>/<user>/<fingerprint>`; `None` with a session token.
    pub key_id: Option<String>,
    /// The file of the session token.
    pub token_file: Option<PathBuf>,
    /// The region; `None` when nothing names one.
    pub region: Option<Region>,
}

impl Profile {
    /// Reads and checks. Also that the key is the one that the fingerprint names.
    pub fn read(origin: &Origin) -> Result<Profile, SetupError> {
        let file = expand(&origin.file, origin.home.as_deref())
            .map_err(|why| SetupError::File { file: PathBuf::from(&origin.file), why })?;
        let failed = |why| SetupError::File { file: file.clone(), why };
        let text = read(&file).map_err(failed)?;
        let sections = sections(&text).map_err(failed)?;
        let values = profile(&sections, &origin.profile).ok_or_else(|| SetupError::Profile {
            file: file.clone(),
            profile: origin.profile.clone(),
            known: known(&sections),
        })?;
        let has_secret = values.contains_key("pass_phrase") || values.contains_key("passphrase");
        guard(&file, has_secret).map_err(failed)?;
        Checking { file: &file, origin, values }.check()
    }
}

struct Checking<'a> {
    file: &'a Path,
    origin: &'a Origin,
    values: BTreeMap<String, String>,
}

impl Checking<'_> {
    fn error(&self, key: &'static str, why: impl Into<String>) -> SetupError {
        let (file, profile) = (self.file.to_path_buf(), self.origin.profile.clone());
        SetupError::Key { file, profile, key, why: why.into() }
    }

    /// A value that is there and not empty.
    fn value(&self, key: &str) -> Option<&str> {
        self.values.get(key).map(String::as_str).filter(|value| !value.is_empty())
    }

    fn path(&self, key: &'static str) -> Result<Option<PathBuf>, SetupError> {
        let Some(value) = self.value(key) else { return Ok(None) };
        expand(value, self.origin.home.as_deref()).map(Some).map_err(|why| self.error(key, why))
    }

    /// An OCID of the kind that the key is named for.
    fn id(&self, key: &'static str) -> Result<Option<&str>, SetupError> {
        let Some(value) = self.value(key) else { return Ok(None) };
        let fits = ocid(value).is_some_and(|id| id.kind == key);
        fits.then_some(Some(value)).ok_or_else(|| self.error(key, format!("is not an OCID of a {key} (ocid1.{key}.…)")))
    }

    fn check(&self) -> Result<Profile, SetupError> {
        if self.value("key_content").is_some() {
            return Err(self.error("key_content", "is not read here; put the key into a file and name it in key_file"));
        }
        let missing = |key: &'static str| self.error(key, "is missing");
        let key = self.key()?;
        let tenancy = self.id("tenancy")?.ok_or_else(|| missing("tenancy"))?;
        let user = self.id("user")?;
        let token_file = self.path("security_token_file")?;
        let (key_id, token_file) = match (user, token_file) {
            (Some(user), _) => {
                self.value("fingerprint").ok_or_else(|| missing("fingerprint"))?;
                (Some(format!("{tenancy}/{user}/{}", key.fingerprint())), None)
            }
            (None, Some(file)) => {
                guard(&file, true).map_err(|why| self.error("security_token_file", why))?;
                token(&file).map_err(|why| self.error("security_token_file", why))?;
                (None, Some(file))
            }
            (None, None) => {
                return Err(self.error("user", "is missing; so is security_token_file, which could stand in"));
            }
        };
        Ok(Profile { key, key_id, token_file, region: self.region(tenancy)? })
    }

    fn key(&self) -> Result<Key, SetupError> {
        let named = self.path("key_file")?.ok_or_else(|| self.error("key_file", "is missing"))?;
        guard(&named, true).map_err(|why| self.error("key_file", why))?;
        let text = read(&named).map_err(|why| self.error("key_file", format!("{}: {why}", named.display())))?;
        let phrase = self.value("pass_phrase").or_else(|| self.value("passphrase")).map(Secret::new);
        let key = Key::from_pem(&text, phrase.as_ref())
            .map_err(|why| self.error("key_file", format!("{} {why}", named.display())))?;
        let Some(given) = self.value("fingerprint") else { return Ok(key) };
        let given = given.to_ascii_lowercase();
        let hex = |part: &str| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit());
        if given.split(':').count() != 16 || !given.split(':').all(hex) {
            return Err(self.error("fingerprint", "is not 16 pairs of hex digits joined by `:`"));
        }
        if given != key.fingerprint() {
            let why = format!(
                "is {given}, but the key in {} has {}; one of the two is wrong",
                named.display(),
                key.fingerprint()
            );
            return Err(self.error("fingerprint", why));
        }
        Ok(key)
    }

    fn region(&self, tenancy: &str) -> Result<Option<Region>, SetupError> {
        let Some(text) = self.value("region").or(self.origin.region.as_deref().filter(|text| !text.is_empty())) else {
            return Ok(None);
        };
        let realm = ocid(tenancy).map(|id| id.realm);
        Region::parse(text, realm)
            .map(Some)
            .ok_or_else(|| self.error("region", "is not a region; write for example eu-frankfurt-1"))
    }
}

/// The session token in `file`, trimmed.
pub(super) fn token(file: &Path) -> Result<Secret, String> {
    let text = read(file).map_err(|why| format!("{}: {why}", file.display()))?;
    let text = text.trim();
    // What is not a token must not be put into a header, and not be shown either.
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_graphic() && b != b'"') {
        return Err(format!("{} holds no token; `oci session authenticate` makes one", file.display()));
    }
    Ok(Secret::new(text))
}

fn read(file: &Path) -> Result<String, String> {
    crate::config::file::text(file, LIMIT)
}

/// Refuses what every user may write; tells of a secret that every user may read.
fn guard(file: &Path, secret: bool) -> Result<(), String> {
    match exposed::secret(file) {
        Some(Exposed::Refused(what)) => return Err(format!("{} {what}", file.display())),
        Some(Exposed::Told(what)) if secret => tracing::warn!("the secret in {} {what}", file.display()),
        _ => {}
    }
    Ok(())
}

/// `~/x` in the home directory.
fn expand(path: &str, home: Option<&Path>) -> Result<PathBuf, String> {
    let Some(rest) = path.strip_prefix('~') else { return Ok(PathBuf::from(path)) };
    let home = home.ok_or("begins with ~, and HOME is not set; write the whole path")?;
    match rest.strip_prefix('/') {
        Some(rest) => Ok(home.join(rest)),
        None if rest.is_empty() => Ok(home.to_path_buf()),
        None => Err("names the home of another user; write the whole path".to_string()),
    }
}

type Sections = BTreeMap<String, BTreeMap<String, String>>;

/// Sections with their keys in lower case. A later value of the same key wins.
fn sections(text: &str) -> Result<Sections, String> {
    let mut all = Sections::new();
    let mut current: Option<String> = None;
    for (number, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            all.entry(name.trim().to_string()).or_default();
            current = Some(name.trim().to_string());
            continue;
        }
        let wrong = |what: &str| format!("line {}: {what}", number + 1);
        let (key, value) = line.split_once(['=', ':']).ok_or_else(|| wrong("is neither [profile] nor key=value"))?;
        let section = current.as_ref().ok_or_else(|| wrong("stands before the first [profile]"))?;
        let values = all.entry(section.clone()).or_default();
        values.insert(key.trim().to_ascii_lowercase(), value.trim().to_string());
    }
    Ok(all)
}

/// The values of a profile on top of those of `[DEFAULT]`; `None` when there is no such profile.
fn profile(sections: &Sections, name: &str) -> Option<BTreeMap<String, String>> {
    let own = sections.get(name)?;
    let mut values = sections.get(DEFAULT).cloned().unwrap_or_default();
    if own.contains_key("security_token_file") && !own.contains_key("user") {
        // A session has a key of its own; with the user of [DEFAULT] it would be taken for an API key.
        values.remove("user");
        values.remove("fingerprint");
    }
    values.extend(own.clone());
    Some(values)
}

fn known(sections: &Sections) -> String {
    let names: Vec<String> = sections.keys().take(20).map(|name| format!("[{name}]")).collect();
    if names.is_empty() { "none".to_string() } else { names.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_inherit_and_values_keep_what_looks_like_syntax() {
        let text = "\u{feff}# head\n; too\n[DEFAULT]\r\nregion = fra\nUser=u\n\n[P]\nuser= a=b:c # not a comment\npass_phrase=%(x)s;\n[EMPTY]\n";
        let all = sections(text).unwrap();
        let p = profile(&all, "P").unwrap();
        assert_eq!((p["user"].as_str(), p["region"].as_str()), ("a=b:c # not a comment", "fra"));
        assert_eq!(p["pass_phrase"], "%(x)s;");
        assert_eq!(profile(&all, "EMPTY").unwrap()["user"], "u");
        assert_eq!(profile(&all, "default"), None);
        assert_eq!(known(&all), "[DEFAULT], [EMPTY], [P]");
    }

    #[test]
    fn a_session_does_not_take_the_user_of_the_default_profile() {
        let all = sections("[DEFAULT]\nuser=u\nfingerprint=f\nregion=fra\n[S]\nsecurity_token_file=/t\n").unwrap();
        let session = profile(&all, "S").unwrap();
        assert_eq!(session.keys().collect::<Vec<_>>(), ["region", "security_token_file"]);
    }

    #[test]
    fn a_line_that_means_nothing_is_named_by_its_number_and_not_by_its_content() {
        let error = sections("[DEFAULT]\nuser=x\nsecret-canary\n").unwrap_err();
        assert!(error.contains("line 3") && !error.contains("canary"), "{error}");
        assert!(sections("user=x\n").unwrap_err().contains("before the first"));
    }

    #[test]
    fn only_our_own_home_is_expanded() {
        let home = Path::new("/home/me");
        assert_eq!(expand("~/.oci/x", Some(home)), Ok(PathBuf::from("/home/me/.oci/x")));
        assert_eq!(expand("/a/~b", None), Ok(PathBuf::from("/a/~b")));
        assert!(expand("~/x", None).is_err() && expand("~other/x", Some(home)).is_err());
    }
}
