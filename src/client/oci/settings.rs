//! The section `[oci]`: how to get at Oracle's API. Builds an [`Access`] and names the key that is wrong.
//!
//! The environment that Oracle's tools know (`HOME`, `OCI_REGION`, `OCI_CONFIG_FILE`,
//! `OCI_METADATA_BASE_URL`) is read in [`Around::here`] and nowhere else. Asks nobody.

use std::env::VarError;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Access;
use super::config::{Origin, SetupError};
use super::principal::Where;
use crate::client::proxy::Proxies;
use crate::client::trust::Trust;
use crate::clock::Clock;
use crate::config::schema::{Kind, Setting};
use crate::config::value::{Secret, Span};
use crate::config::{Config, ConfigError, Problem};

/// The default of `config_file`.
const DEFAULT_FILE: &str = "~/.oci/config";

crate::settings! {
    /// Oracle Cloud Infrastructure, where nodes are stopped and started.
    pub struct Settings {
        /// The configuration file of Oracle's tools; ~ is the home directory.
        config_file: String = DEFAULT_FILE.to_string(),
        /// The profile in it.
        profile: String = "DEFAULT".to_string(),
        /// Base URL of the compute API in place of the region's own; https, or http on this machine.
        endpoint: String = String::new(),
        /// PEM file of the authorities that may sign the certificates of the API. Default: the bundled authorities.
        ca_file: Option<PathBuf> = None,
        /// HTTP proxy to ask through: http://host:port, or none. Default: HTTP_PROXY, HTTPS_PROXY and NO_PROXY.
        proxy: Option<Secret> = None,
        /// File that holds proxy.
        proxy_file: Option<PathBuf> = None,
        /// How requests are signed: api_key (the profile's key or session token) or instance_principal.
        auth: Auth = Auth::ApiKey,
        /// How often each node's instance is asked for, so that a wrong id or key is known before a repair; 0s for never.
        ask_every: Span = Span::seconds(600),
    }
}

/// How requests are signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Auth {
    /// By the key, or the session token, of a profile.
    #[default]
    ApiKey,
    /// As the OCI instance that this program runs on.
    InstancePrincipal,
}

impl Setting for Auth {
    const KIND: Kind = Kind::Choice(&["api_key", "instance_principal"]);
}

/// What Oracle's tools take from the environment.
#[derive(Debug, Clone, Default)]
pub struct Around {
    /// `HOME`.
    pub home: Option<PathBuf>,
    /// `OCI_REGION`: for profiles without a region.
    pub region: Option<String>,
    /// `OCI_CONFIG_FILE`: when the default file is meant and absent.
    pub config_file: Option<String>,
    /// `OCI_METADATA_BASE_URL`: the metadata service.
    pub metadata: Option<String>,
}

impl Around {
    /// The environment of this process.
    ///
    /// # Errors
    /// A variable that counts and is not text, by its name.
    pub fn here() -> Result<Around, Problem> {
        let read = |name: &str| match std::env::var(name) {
            Ok(value) => Ok(Some(value).filter(|value| !value.trim().is_empty())),
            Err(VarError::NotPresent) => Ok(None),
            Err(VarError::NotUnicode(_)) => {
                let what = "is not valid UTF-8; set it again, or unset it";
                Err(Problem::of_place(format!("environment variable {name}"), what))
            }
        };
        Ok(Around {
            home: std::env::var_os("HOME").filter(|home| !home.is_empty()).map(PathBuf::from),
            region: read("OCI_REGION")?,
            config_file: read("OCI_CONFIG_FILE")?,
            metadata: read("OCI_METADATA_BASE_URL")?,
        })
    }
}

impl Settings {
    /// The access that these settings describe, or the key that is wrong and why.
    pub fn access(
        &self,
        around: &Around,
        proxies: Arc<Proxies>,
        clock: Clock,
        timeout: Duration,
    ) -> Result<Access, (&'static str, String)> {
        let trust = Trust::by(self.ca_file.as_deref(), "oci.ca_file").map_err(|what| ("oci.ca_file", what))?;
        let endpoint = Some(self.endpoint.as_str()).filter(|endpoint| !endpoint.is_empty());
        let built = match self.auth {
            Auth::ApiKey => Access::profile(&self.origin(around), endpoint, clock, timeout),
            Auth::InstancePrincipal => {
                let metadata = around.metadata.clone();
                let (trust, proxies) = (Some(Arc::clone(&trust)), Arc::clone(&proxies));
                let place = Where { metadata, trust, proxies, ..Where::default() };
                Access::principal(place, endpoint, clock, timeout)
            }
        };
        built.map(|access| access.via(trust, proxies)).map_err(|error| {
            let key = match &error {
                SetupError::File { .. } | SetupError::Key { .. } => "oci.config_file",
                SetupError::Profile { .. } => "oci.profile",
                SetupError::Endpoint(_) => "oci.endpoint",
            };
            (key, error.to_string())
        })
    }

    fn origin(&self, around: &Around) -> Origin {
        let mut file = self.config_file.clone();
        if file == DEFAULT_FILE
            && let Some(other) = &around.config_file
            && !around.home.as_ref().is_some_and(|home| home.join(".oci/config").exists())
        {
            file.clone_from(other);
        }
        Origin { file, profile: self.profile.clone(), home: around.home.clone(), region: around.region.clone() }
    }
}

/// The access that `[oci]` of this configuration describes.
pub fn access(config: &Config, clock: Clock, timeout: Duration) -> Result<Access, ConfigError> {
    let settings: Settings = config.section("oci")?;
    let proxies = Proxies::of(config, "oci.proxy", settings.proxy.as_ref(), settings.proxy_file.as_deref())?;
    settings.access(&Around::here()?, proxies, clock, timeout).map_err(|(key, why)| config.error(key, why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_the_section_are_those_of_the_contract() {
        let values = serde_json::to_value(Settings::default()).unwrap();
        let expected = r#"{"ask_every":"10m","auth":"api_key","ca_file":null,"config_file":"~/.oci/config","endpoint":"","profile":"DEFAULT","proxy":null,"proxy_file":null}"#;
        assert_eq!(values, serde_json::from_str::<serde_json::Value>(expected).unwrap());
        assert_eq!(serde_json::from_str::<Auth>("\"instance_principal\"").unwrap(), Auth::InstancePrincipal);
    }

    #[test]
    fn the_file_of_the_environment_counts_only_where_the_default_is_absent() {
        let home = tempfile::tempdir().unwrap();
        let around = Around {
            home: Some(home.path().to_path_buf()),
            config_file: Some("/elsewhere".to_string()),
            ..Around::default()
        };
        assert_eq!(Settings::default().origin(&around).file, "/elsewhere");
        let named = Settings { config_file: "/mine".to_string(), ..Settings::default() };
        assert_eq!(named.origin(&around).file, "/mine");
        std::fs::create_dir(home.path().join(".oci")).unwrap();
        std::fs::write(home.path().join(".oci/config"), "").unwrap();
        assert_eq!(Settings::default().origin(&around).file, DEFAULT_FILE);
    }

    #[test]
    fn what_is_wrong_is_named_by_its_key() {
        let home = tempfile::tempdir().unwrap();
        let around = Around { home: Some(home.path().to_path_buf()), ..Around::default() };
        let wrong = |settings: Settings| {
            settings
                .access(&around, Proxies::direct(), Clock::system(), Duration::from_secs(1))
                .map(|_| ())
                .unwrap_err()
        };
        assert_eq!(wrong(Settings::default()).0, "oci.config_file");
        std::fs::create_dir(home.path().join(".oci")).unwrap();
        std::fs::write(home.path().join(".oci/config"), "[DEFAULT]\n").unwrap();
        let (key, why) = wrong(Settings { profile: "PROD".to_string(), ..Settings::default() });
        assert!(key == "oci.profile" && why.contains("[PROD]") && why.contains("[DEFAULT]"), "{why}");
        let endpoint = Settings {
            auth: Auth::InstancePrincipal,
            endpoint: "http://example.org".to_string(),
            ..Settings::default()
        };
        assert_eq!(wrong(endpoint).0, "oci.endpoint");
    }
}
