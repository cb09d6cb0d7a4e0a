//! The status server: page, JSON, metrics and health, all of them views over a published snapshot.
//!
//! The tick builds a [`Snapshot`], publishes it and goes on; the server renders it in a thread of
//! its own and never holds a lock while it does, so that no reader, however slow or numerous, can
//! delay a look at the world (F44). Read-only: there is nothing here that changes anything.
//! Who may ask is in [`access`], what is answered in [`route`], how many may ask in [`server`].
//! See `adr/0016-status-server.md`.

pub mod access;
pub mod escape;
pub mod health;
pub mod json;
pub mod label;
pub mod metrics;
pub mod muted;
pub mod page;
pub mod pieces;
pub mod route;
#[cfg(test)]
mod sample;
pub mod server;
pub mod snapshot;
pub mod strip;
mod wall;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use self::access::Access;
use self::server::{ServeError, Server};
pub use self::snapshot::{Published, Snapshot};
use crate::clock::Clock;
use crate::config::schema::{Identity, Spelling};
use crate::config::value::Secret;
use crate::config::{Config, ConfigError, Problems, form};

crate::settings! {
    /// Who may read the status page, JSON and metrics. Where they are served is the top-level key listen.
    pub struct Settings {
        /// Host names by which the server may be asked, besides localhost and literal addresses: the
        /// name of a compose service, of a reverse proxy. Without ports.
        allowed_hosts: Vec<String> = Vec::new(),
        /// Where people reach the page from outside, http or https: https://status.example.org. Messages then end with a
        /// link to the signal that they are about. Empty = no link.
        public_url: String = String::new(),
        /// When set, every path but /healthz and /readyz wants it: as a bearer token, or as the
        /// password of a browser's login with any user name. At least 8 characters.
        token: Option<Secret> = None,
        /// File that holds token.
        token_file: Option<PathBuf> = None,
    }
}

/// The parts of the configuration that this folder owns.
pub const SECTIONS: &[crate::config::schema::Section] =
    &[Settings::section("serve").once(&[Identity::entries("allowed_hosts").spelt(Spelling::AnyCase)])];

/// Starts the server as the configuration says; `None` when `listen` is empty.
///
/// Errors: a token that cannot be used, or an address that cannot be listened on; the text names the key.
pub fn start(config: &Config, published: &Arc<Published>, clock: &Clock) -> Result<Option<Server>, ServeError> {
    let listen = &config.root().listen;
    if listen.is_empty() {
        return Ok(None);
    }
    let address: SocketAddr =
        listen.parse().map_err(|_| config.error("listen", "is not an address and port such as 127.0.0.1:9106"))?;
    let access = access(config, address)?;
    Server::start(address, access, Arc::clone(published), clock.clone()).map(Some)
}

/// Checks the settings without listening. Errors: as in [`start`].
pub fn check(config: &Config) -> Result<(), ConfigError> {
    // The address was checked with the top-level keys; any stands for it where none is listened on.
    let address = config.root().listen.parse().unwrap_or(SocketAddr::from(([127, 0, 0, 1], 0)));
    access(config, address).map(drop)
}

/// Who may ask a server that listens there, by `[serve]`. Errors: a token or a name that cannot be used.
pub fn access(config: &Config, listen: SocketAddr) -> Result<Access, ConfigError> {
    let settings: Settings = config.section("serve")?;
    let mut problems = Problems::new(config);
    let token = config.secret("serve.token", settings.token.as_ref(), settings.token_file.as_deref());
    let token = problems.take(token).flatten();
    if let Some(token) = &token {
        problems.check("serve.token", access::usable_token(token));
    }
    problems.check("serve.public_url", usable_url(&settings.public_url));
    for name in &settings.allowed_hosts {
        problems.check("serve.allowed_hosts", access::usable_host(name));
    }
    problems.unless_any(Access::new(listen, &settings.allowed_hosts, token))
}

/// Where people reach the page, as messages link to it; `None` when nobody said.
pub fn public_url(config: &Config) -> Option<String> {
    let settings: Settings = config.section("serve").ok()?;
    Some(settings.public_url).filter(|url| !url.is_empty())
}

/// A link that is sent to people, to which the name of a signal is added.
fn usable_url(url: &str) -> Result<(), String> {
    if url.is_empty() {
        return Ok(());
    }
    form::url(url)?;
    if url.contains('?') {
        return Err(
            "holds a query, after which no page can be named; write for example \"https://status.example.org\"".into(),
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configured(text: &str) -> Result<Option<Server>, ServeError> {
        let config = Config::from_toml(text).unwrap();
        start(&config, &Arc::new(Published::default()), &Clock::system())
    }

    #[test]
    fn an_empty_address_means_no_server() {
        assert!(configured("listen = \"\"").unwrap().is_none());
    }

    #[test]
    fn a_token_or_host_that_could_never_match_is_refused_by_name() {
        for (text, key) in [
            ("listen = \"127.0.0.1:0\"\n[serve]\ntoken = \"short\"", "serve.token"),
            ("listen = \"127.0.0.1:0\"\n[serve]\ntoken = \"has a space in it\"", "serve.token"),
            ("listen = \"127.0.0.1:0\"\n[serve]\npublic_url = \"ftp://x\"", "serve.public_url"),
            ("listen = \"127.0.0.1:0\"\n[serve]\npublic_url = \"https://\"", "serve.public_url"),
            ("listen = \"127.0.0.1:0\"\n[serve]\npublic_url = \"https://u:p@x\"", "serve.public_url"),
            ("listen = \"127.0.0.1:0\"\n[serve]\npublic_url = \"https://x/?a=b\"", "serve.public_url"),
            ("listen = \"127.0.0.1:0\"\n[serve]\npublic_url = \"javascript:alert(1)\"", "serve.public_url"),
            ("listen = \"127.0.0.1:0\"\n[serve]\nallowed_hosts = [\"http://x\"]", "serve.allowed_hosts"),
            ("listen = \"127.0.0.1:0\"\n[serve]\nallowed_hosts = [\"x:9106\"]", "serve.allowed_hosts"),
        ] {
            let error = configured(text).err().unwrap().to_string();
            assert!(error.contains(key), "{error}");
            assert!(!error.contains("has a space in it"), "a secret is never shown: {error}");
        }
    }
}
