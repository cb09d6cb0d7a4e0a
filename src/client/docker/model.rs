//! What the engine answers, as far as anybody here needs it.
//!
//! Every field may be missing or `null`: a proxy may have cut it out, an older engine may not know
//! it. Unknown fields are ignored. `Config.Env` is deliberately not here: the environment of other
//! programs holds their secrets, so it is never even read into memory of ours (T2).

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

/// `null` and a missing field are the default.
fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

/// True for a table with something in it.
fn is_filled<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    let table = Option::<serde_json::Map<String, serde_json::Value>>::deserialize(deserializer)?;
    Ok(table.is_some_and(|table| !table.is_empty()))
}

/// One container of `GET /containers/json`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Listed {
    /// The full id, 64 hexadecimal digits.
    #[serde(deserialize_with = "or_default")]
    pub id: String,
    /// Its names, each with a leading `/`; links of other containers have a second one.
    #[serde(deserialize_with = "or_default")]
    pub names: Vec<String>,
    /// When it was created, seconds since 1970.
    #[serde(deserialize_with = "or_default")]
    pub created: i64,
    /// `created running paused restarting exited removing dead`.
    #[serde(deserialize_with = "or_default")]
    pub state: String,
    /// Labels.
    #[serde(deserialize_with = "or_default")]
    pub labels: BTreeMap<String, String>,
}

/// The answer of `GET /containers/{id}/json`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Inspected {
    /// The full id.
    #[serde(deserialize_with = "or_default")]
    pub id: String,
    /// The name with its leading `/`.
    #[serde(deserialize_with = "or_default")]
    pub name: String,
    /// Automatic restarts since the last start by hand.
    #[serde(deserialize_with = "or_default")]
    pub restart_count: u32,
    /// How it stands.
    #[serde(deserialize_with = "or_default")]
    pub state: ContainerState,
    /// What it was made from.
    #[serde(deserialize_with = "or_default")]
    pub config: ContainerConfig,
    /// What the engine shall do with it.
    #[serde(deserialize_with = "or_default")]
    pub host_config: HostConfig,
}

/// `State` of an inspected container.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerState {
    /// As [`Listed::state`].
    #[serde(deserialize_with = "or_default")]
    pub status: String,
    /// A process in it was killed for memory since the last start.
    #[serde(rename = "OOMKilled", deserialize_with = "or_default")]
    pub oom_killed: bool,
    /// Exit code of its last end; 0 while it runs.
    #[serde(deserialize_with = "or_default")]
    pub exit_code: i64,
    /// Why it could not be started.
    #[serde(deserialize_with = "or_default")]
    pub error: String,
    /// RFC 3339; the year 1 when it never started.
    #[serde(deserialize_with = "or_default")]
    pub started_at: String,
    /// RFC 3339; the year 1 when it never ended.
    #[serde(deserialize_with = "or_default")]
    pub finished_at: String,
    /// The health check, if it has one.
    #[serde(deserialize_with = "or_default")]
    pub health: Option<Health>,
}

/// `State.Health` of an inspected container.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Health {
    /// `none starting healthy unhealthy`.
    #[serde(deserialize_with = "or_default")]
    pub status: String,
    /// Failed checks in a row.
    #[serde(deserialize_with = "or_default")]
    pub failing_streak: u32,
    /// The last results, oldest first.
    #[serde(deserialize_with = "or_default")]
    pub log: Vec<HealthResult>,
}

/// One result of a health check.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HealthResult {
    /// When the check began, RFC 3339.
    #[serde(deserialize_with = "or_default")]
    pub start: String,
    /// 0 is healthy.
    #[serde(deserialize_with = "or_default")]
    pub exit_code: i64,
    /// What it wrote, written by the container: not to be trusted.
    #[serde(deserialize_with = "or_default")]
    pub output: String,
}

/// `Config` of an inspected container, without its environment.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerConfig {
    /// The image as it was asked for.
    #[serde(deserialize_with = "or_default")]
    pub image: String,
    /// It has a terminal.
    #[serde(deserialize_with = "or_default")]
    pub tty: bool,
    /// Whoever started it is connected to its input.
    #[serde(deserialize_with = "or_default")]
    pub attach_stdin: bool,
    /// How the engine checks its health.
    #[serde(deserialize_with = "or_default")]
    pub healthcheck: Healthcheck,
}

/// `Config.Healthcheck` of an inspected container.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Healthcheck {
    /// `["CMD", …]`, `["CMD-SHELL", "…"]` or `["NONE"]`.
    #[serde(deserialize_with = "or_default")]
    pub test: Vec<String>,
    /// Failed checks in a row that make it unhealthy; 0 for the engine's default, which is 3.
    #[serde(deserialize_with = "or_default")]
    pub retries: u32,
}

/// `HostConfig` of an inspected container.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HostConfig {
    /// When the engine starts it again.
    #[serde(deserialize_with = "or_default")]
    pub restart_policy: RestartPolicy,
    /// The engine removes it when it ends (`--rm`).
    #[serde(deserialize_with = "or_default")]
    pub auto_remove: bool,
    /// Bytes of memory that it may use; 0 for no limit.
    #[serde(deserialize_with = "or_default")]
    pub memory: i64,
    /// Some port of it is published on the host (`PortBindings`).
    #[serde(rename = "PortBindings", deserialize_with = "is_filled")]
    pub publishes: bool,
}

/// `HostConfig.RestartPolicy` of an inspected container.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RestartPolicy {
    /// `no on-failure always unless-stopped`, or empty for `no`.
    #[serde(deserialize_with = "or_default")]
    pub name: String,
}

/// One object of `GET /events`. A line that is not JSON is an event with nothing in it: still news.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct Event {
    /// `die`, `start`, `health_status: unhealthy` …
    #[serde(rename = "Action", deserialize_with = "or_default")]
    pub action: String,
    /// What it happened to.
    #[serde(rename = "Actor", deserialize_with = "or_default")]
    pub actor: Actor,
    /// When, in nanoseconds since 1970 by the engine's clock.
    #[serde(rename = "timeNano", deserialize_with = "or_default")]
    pub time_nano: i64,
}

/// `Actor` of an event.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct Actor {
    /// The container's full id.
    #[serde(rename = "ID", deserialize_with = "or_default")]
    pub id: String,
    /// `name`, `image`, `exitCode`, `signal` and the labels.
    #[serde(rename = "Attributes", deserialize_with = "or_default")]
    pub attributes: BTreeMap<String, String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_and_missing_are_the_same_and_the_environment_is_not_kept() {
        let listed: Vec<Listed> =
            serde_json::from_str(r#"[{"Id":"ab","Names":null,"Labels":null,"State":"running","Health":null}]"#)
                .unwrap();
        assert_eq!(listed[0].id, "ab");
        assert!(listed[0].names.is_empty() && listed[0].labels.is_empty());
        let inspected: Inspected = serde_json::from_str(
            r#"{"Id":"ab","State":{"Status":"running","Health":null,"OOMKilled":true},"RestartCount":null,
                "Config":{"Image":"nginx","Env":["TOKEN=canary-81723"],"Labels":null,"Tty":true},"HostConfig":null}"#,
        )
        .unwrap();
        assert!(inspected.config.tty && !inspected.config.attach_stdin && !inspected.host_config.publishes);
        for (ports, publishes) in [("null", false), ("{}", false), ("{\"80/tcp\":[{\"HostPort\":\"80\"}]}", true)] {
            let host: HostConfig = serde_json::from_str(&format!("{{\"PortBindings\":{ports}}}")).unwrap();
            assert_eq!(host.publishes, publishes, "{ports}");
        }
        assert!(inspected.state.oom_killed && inspected.state.health.is_none());
        assert!(!format!("{inspected:?}").contains("canary"));
    }
}
