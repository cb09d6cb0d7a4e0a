//! Instances in Oracle Cloud: looked at by GetInstance, switched by InstanceAction.
//!
//! One call for one order. What a failed call means for the machine is one written table
//! ([`reply`]): where a request may have counted without our knowing, that is what it says. 404 is never
//! taken for "it is gone" (F68). See `adr/0022-a-repair-is-a-saga.md`.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use super::{Entry, Machine, Machines, Outfit, Switch};
use crate::client::oci::settings::{self, Settings};
use crate::client::oci::{Class, ConflictKind, Oci, OciError};
use crate::config::{Config, ConfigError, Problems};
use crate::core::message::clean;
use crate::core::recovery::legacy::{RESET, SOFTRESET, START, STOP_START};
use crate::core::recovery::procedure::Procedure;
use crate::core::recovery::subject::{Fence, Reply, Seen, State, Verb};

/// The word in `[[node]] executor`.
const NAME: &str = "oci";
/// Oracle's words for states are kept to this length, in characters.
const WORD: usize = 40;

/// How the program knows this executor.
pub const ENTRY: Entry =
    Entry { name: NAME, offers: OFFERS, starts: Some(START), sections: &[Settings::section("oci")], build, is_here };

/// The ways to repair an instance.
const OFFERS: &[Procedure] = &[STOP_START, RESET, SOFTRESET];

/// What Oracle's word for the state of an instance means to a repair.
fn state(lifecycle: &str) -> State {
    match lifecycle.to_ascii_uppercase().as_str() {
        "RUNNING" => State::Running,
        "STOPPING" => State::Stopping,
        "STOPPED" => State::Stopped,
        "STARTING" => State::Starting,
        "TERMINATING" | "TERMINATED" => State::Terminated,
        // MOVING, PROVISIONING, CREATING_IMAGE, and whatever comes later: busy, nothing may be asked.
        _ => State::Other,
    }
}

/// Every machine of Oracle Cloud, virtual or not, says so in its DMI, which a container can read as well; cloud-init
/// knows them by the same words.
fn is_here(sys: &Path) -> bool {
    let mut tag = String::new();
    let read =
        File::open(sys.join("class/dmi/id/chassis_asset_tag")).and_then(|file| file.take(256).read_to_string(&mut tag));
    read.is_ok() && tag.trim() == "OracleCloud.com"
}

fn build(config: &Config, outfit: &Outfit, switches: &[&Switch]) -> Result<Machines, ConfigError> {
    let mut problems = Problems::new(config);
    let access = problems.take(settings::access(config, outfit.clock.clone(), outfit.timeout));
    let region = access.as_ref().and_then(|access| access.region().map(str::to_string));
    for switch in switches.iter().filter(|switch| !switch.instance_id.is_empty()) {
        let key = format!("node[{}].instance_id", switch.index);
        problems.check(&key, ocid(&switch.instance_id, region.as_deref()));
    }
    let mut machines = Machines::new();
    let Some(access) = problems.unless_any(access)? else { return Ok(machines) };
    let oci = Arc::new(Oci::new(access).map_err(|error| config.error("oci", error.to_string()))?);
    for switch in switches {
        let machine = Instance { oci: Arc::clone(&oci), id: Arc::clone(&switch.instance_id) };
        machines.insert(Arc::clone(&switch.key), Box::new(machine));
    }
    Ok(machines)
}

/// Is this an instance, and one that our credentials lead to?
fn ocid(id: &str, region: Option<&str>) -> Result<(), String> {
    let parts: Vec<&str> = id.split('.').collect();
    let ["ocid1", "instance", _, theirs, ..] = parts.as_slice() else {
        return Err(format!("\"{id}\" is not the OCID of an instance; it begins with ocid1.instance."));
    };
    match region {
        Some(ours) if !theirs.is_empty() && crate::client::oci::realm::full(theirs) != ours => Err(format!(
            "it is in region {theirs} and the credentials of [oci] are for {ours}: correct instance_id, or name a \
                 profile of {theirs} in oci.profile, or give this node a watchdog of its own"
        )),
        _ => Ok(()),
    }
}

/// One instance.
struct Instance {
    oci: Arc<Oci>,
    id: Arc<str>,
}

impl Machine for Instance {
    fn executor(&self) -> &'static str {
        NAME
    }

    fn id(&self) -> Arc<str> {
        Arc::clone(&self.id)
    }

    fn look(&mut self) -> Result<Seen, String> {
        let instance = self.oci.instance(&self.id).map_err(|error| error.to_string())?;
        let Some(etag) = instance.etag else {
            return Err(format!("the answer about {} has no etag, so nothing can be decided on it", self.id));
        };
        let word = clean(&instance.lifecycle.to_ascii_uppercase(), WORD);
        Ok(Seen { state: state(&instance.lifecycle), version: Some(etag), word })
    }

    fn ask(&mut self, verb: Verb, fence: &Fence) -> (Reply, String) {
        match self.oci.act(&self.id, verb.as_str(), fence.version.as_deref(), &fence.token) {
            Ok(_) => (Reply::Accepted, String::new()),
            Err(error) => (reply(&error), error.to_string()),
        }
    }
}

/// What a failed request means for the machine.
fn reply(error: &OciError) -> Reply {
    match error.class() {
        // A server error does not say what was done before it.
        Class::Transient | Class::Unknown => Reply::Unknown,
        Class::NotSent => Reply::NotSent,
        Class::RateLimited(_) | Class::Conflict(ConflictKind::IncorrectState | ConflictKind::Locked) => Reply::Busy,
        Class::Conflict(_) => Reply::Conflict,
        Class::Precondition => Reply::Changed,
        Class::NoCapacity => Reply::NoCapacity,
        Class::Auth | Class::NotFound | Class::Permanent => Reply::Refused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_of_oracle_cloud_is_known_by_its_asset_tag() {
        let sys = tempfile::tempdir().unwrap();
        assert!(!is_here(sys.path()), "no DMI at all");
        let id = sys.path().join("class/dmi/id");
        std::fs::create_dir_all(&id).unwrap();
        for (tag, here) in
            [("OracleCloud.com\n", true), ("", false), ("Not Specified\n", false), ("x".repeat(10_000).as_str(), false)]
        {
            std::fs::write(id.join("chassis_asset_tag"), tag).unwrap();
            assert_eq!(is_here(sys.path()), here, "{tag:.20}");
        }
    }

    #[test]
    fn every_word_of_oracle_has_its_meaning_and_an_unknown_one_has_none() {
        for (word, means) in [
            ("RUNNING", State::Running),
            ("running", State::Running),
            ("STOPPING", State::Stopping),
            ("STOPPED", State::Stopped),
            ("STARTING", State::Starting),
            ("TERMINATING", State::Terminated),
            ("TERMINATED", State::Terminated),
            ("MOVING", State::Other),
            ("PROVISIONING", State::Other),
            ("CREATING_IMAGE", State::Other),
            ("", State::Other),
            ("HIBERNATED", State::Other),
        ] {
            assert_eq!(state(word), means, "{word}");
        }
    }

    #[test]
    fn only_an_instance_of_our_region_is_taken() {
        let id = "ocid1.instance.oc1.eu-frankfurt-1.aaaa";
        assert_eq!(ocid(id, Some("eu-frankfurt-1")), Ok(()));
        assert_eq!(ocid(id, None), Ok(()));
        assert_eq!(ocid("ocid1.instance.oc1.fra.aaaa", Some("eu-frankfurt-1")), Ok(()));
        assert!(ocid(id, Some("us-ashburn-1")).unwrap_err().contains("us-ashburn-1"));
        for bad in ["", "n1", "ocid1.volume.oc1.fra.aaaa"] {
            assert!(ocid(bad, None).unwrap_err().contains("not the OCID"), "{bad}");
        }
    }
}
