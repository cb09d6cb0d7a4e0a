//! Configuration files of OCI as people have them, and what is said about those that are wrong.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use watchdog::client::oci::config::{Origin, Profile};

use crate::peer::oci::{CANARY, vector};

/// A home directory with `.oci` in it.
pub struct Home(pub TempDir);

impl Home {
    pub fn new() -> Home {
        let home = Home(tempfile::tempdir().unwrap());
        fs::create_dir(home.path(".oci")).unwrap();
        home
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        path
    }

    pub fn read(&self, profile: &str, region: Option<&str>) -> Result<Profile, String> {
        let origin = Origin {
            file: "~/.oci/config".to_string(),
            profile: profile.to_string(),
            home: Some(self.0.path().to_path_buf()),
            region: region.map(str::to_string),
        };
        Profile::read(&origin).map_err(|error| error.to_string())
    }
}

fn ids() -> String {
    format!("user={}\ntenancy={}\nfingerprint={}\n", vector("user"), vector("tenancy"), vector("fingerprint"))
}

#[test]
fn a_configuration_is_taken_as_people_have_it() {
    let home = Home::new();
    home.write(".oci/key.pem", &vector("private_key_pem_with_console_label"));
    home.write(".oci/sealed.pem", &vector("private_key_pem_pkcs8_encrypted"));
    home.write(".oci/token", &format!("a.b.{CANARY}\n"));
    let phrase = vector("pass_phrase");
    home.write(
        ".oci/config",
        &format!(
            "; made by hand\n[DEFAULT]\n{}key_file = ~/.oci/key.pem\nregion=eu-frankfurt-1\n# more\n\
             [SHORT]\nregion=lhr\n[DOTTED]\nregion=xx-1.cloud.example\n\
             [SEALED]\nkey_file=~/.oci/sealed.pem\npass_phrase={phrase}\n\
             [SEALED2]\nkey_file=~/.oci/sealed.pem\npassphrase={phrase}\n\
             [SESSION]\nkey_file=~/.oci/key.pem\nsecurity_token_file=~/.oci/token\n",
            ids()
        ),
    );
    let key_id = format!("{}/{}/{}", vector("tenancy"), vector("user"), vector("fingerprint"));
    for (profile, base) in [
        ("DEFAULT", "https://iaas.eu-frankfurt-1.oraclecloud.com"),
        ("SHORT", "https://iaas.uk-london-1.oraclecloud.com"),
        ("DOTTED", "https://iaas.xx-1.cloud.example"),
        ("SEALED", "https://iaas.eu-frankfurt-1.oraclecloud.com"),
        ("SEALED2", "https://iaas.eu-frankfurt-1.oraclecloud.com"),
    ] {
        let read = home.read(profile, Some("iad")).unwrap();
        assert_eq!(read.key_id.as_deref(), Some(key_id.as_str()), "{profile}");
        assert_eq!(read.region.unwrap().service("iaas"), base, "{profile}");
    }
    let session = home.read("SESSION", None).unwrap();
    assert_eq!((session.key_id, session.token_file), (None, Some(home.path(".oci/token"))));
    home.write(".oci/config", &format!("[DEFAULT]\n{}key_file=~/.oci/key.pem\n", ids()));
    assert_eq!(home.read("DEFAULT", Some("phx")).unwrap().region.unwrap().name, "us-phoenix-1");
    assert!(home.read("DEFAULT", None).unwrap().region.is_none());
}

#[test]
fn what_is_wrong_in_a_configuration_is_named_with_file_profile_and_key() {
    let home = Home::new();
    assert!(home.read("DEFAULT", None).unwrap_err().contains(".oci/config: cannot be read"));
    home.write("key.pem", &vector("private_key_pem_pkcs1"));
    home.write("old.pem", &vector("private_key_pem_pkcs1_encrypted"));
    home.write("sealed.pem", &vector("private_key_pem_pkcs8_encrypted"));
    home.write("leaf.pem", &vector("leaf_private_key_pem_pkcs8"));
    home.write("empty", "\n");
    home.write("two", "a b\n");
    let base = format!("[DEFAULT]\n{}", ids());
    let session = format!("[DEFAULT]\ntenancy={}\nkey_file=~/key.pem\n", vector("tenancy"));
    let table = [
        ("[OTHER]\n".to_string(), "has no profile [DEFAULT]; it has [OTHER]"),
        ("[DEFAULT]\nnonsense-canary\n".to_string(), "line 2: is neither"),
        (base.clone(), "`key_file`: is missing"),
        (format!("{base}key_file=~/none.pem\n"), "none.pem: cannot be read"),
        (format!("{base}key_file=~/old.pem\n"), "openssl pkcs8 -topk8"),
        (format!("{base}key_file=~/sealed.pem\n"), "is encrypted; set pass_phrase"),
        (format!("{base}key_file=~/sealed.pem\npass_phrase=canary\n"), "is pass_phrase right?"),
        (format!("{base}key_file=~/empty\n"), "holds no private key in PEM form"),
        (format!("{base}key_file=~/leaf.pem\n"), "`fingerprint`: is ff:6b"),
        (format!("{base}key_file=~/key.pem\nfingerprint=ff:6b\n"), "`fingerprint`: is not 16 pairs"),
        (format!("{base}key_file=~/key.pem\nfingerprint=\n"), "`fingerprint`: is missing"),
        (format!("{base}key_file=~/key.pem\nuser=bob-canary\n"), "`user`: is not an OCID of a user"),
        (format!("{base}key_file=~/key.pem\nuser={}\n", vector("tenancy")), "`user`: is not an OCID of a user"),
        (format!("{base}key_file=~/key.pem\ntenancy=\n"), "`tenancy`: is missing"),
        (format!("{base}key_file=~/key.pem\nregion=a/b\n"), "`region`: is not a region"),
        (format!("{base}key_file=~/key.pem\nkey_content=canary\n"), "`key_content`: is not read here"),
        (session.clone(), "`user`: is missing; so is security_token_file"),
        (format!("{session}security_token_file=~/none\n"), "`security_token_file`: "),
        (format!("{session}security_token_file=~/empty\n"), "holds no token"),
        (format!("{session}security_token_file=~/two\n"), "holds no token"),
    ];
    for (text, words) in table {
        home.write(".oci/config", &text);
        let error = home.read("DEFAULT", None).unwrap_err();
        assert!(error.contains(words) && error.contains(".oci/config"), "{words}: {error}");
        assert!(!error.contains("canary"), "{error}");
    }
}

#[test]
fn files_that_everybody_may_write_are_refused() {
    let home = Home::new();
    let key = home.write("key.pem", &vector("private_key_pem_pkcs8"));
    let config = home.write(".oci/config", &format!("[DEFAULT]\n{}key_file=~/key.pem\n", ids()));
    let chmod = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    assert!(home.read("DEFAULT", None).is_ok());
    chmod(&key, 0o602);
    assert!(home.read("DEFAULT", None).unwrap_err().contains("`key_file`: "));
    chmod(&key, 0o644);
    assert!(home.read("DEFAULT", None).is_ok(), "readable by all is told, not refused");
    chmod(&config, 0o646);
    assert!(home.read("DEFAULT", None).unwrap_err().contains("may be written by every user"));
}
