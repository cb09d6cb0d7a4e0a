//! A scripted Oracle Cloud on loopback: compute instances with a life of their own, a ledger of
//! everything that was asked, and faults as told.
//!
//! It is stricter than the real one: each request must be signed as the reference says, or it gets a
//! 401 and the test fails at the end ([`Oci::violations`] takes them). A clock that is off gets a
//! plain 401. It also plays the metadata service and the federation endpoint of instance principals.
//! Without a script it does what it is asked.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

mod machine;
mod serve;
mod verify;

use std::collections::{BTreeMap, VecDeque};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use base64::Engine as _;
use serde_json::Value;
use watchdog::client::oci::config::Origin;
use watchdog::client::oci::principal::Where;

use self::machine::Machine;
pub use self::machine::{Durations, Lifecycle};
use super::listener::{Ended, Listener, wait_until};

/// The compartment that every instance is in.
pub const COMPARTMENT: &str = "ocid1.compartment.oc1..aaaatestcompartment";
/// Part of every token that is handed out; must never turn up in an output.
pub const CANARY: &str = "c2lnCANARY";

/// The OCID of a test's instance.
pub fn ocid(name: &str) -> String {
    format!("ocid1.instance.oc1.eu-frankfurt-1.test{name}")
}

/// The vectors of the reference: keys, certificates, names.
pub fn vectors() -> Value {
    serde_json::from_str(include_str!("../fixtures/oci-signing.json")).unwrap()
}

/// A text of the vectors.
pub fn vector(name: &str) -> String {
    vectors()[name].as_str().unwrap().to_string()
}

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Get,
    List,
    Start,
    Stop,
    SoftStop,
    Reset,
    SoftReset,
    /// A file of the metadata service.
    Metadata,
    /// A token request of a principal.
    Token,
    /// Anything else; always a violation.
    Other,
}

/// What happens to one request instead of what should.
#[derive(Debug, Clone, PartialEq)]
pub enum Fault {
    /// None: this request is served as usual. To reach a later one.
    Serve,
    /// This status, code and message; without effect.
    Refuse(u16, &'static str, &'static str),
    /// 429 with `Retry-After`; without effect.
    RateLimit(u64),
    /// A proxy's HTML page with this status; without effect.
    Page(u16),
    /// 401 with a `Date` that is this many seconds ahead of the true one; without effect.
    Skew(i64),
    /// Takes effect, and says this status and code.
    EffectThenRefuse(u16, &'static str),
    /// Takes effect; the connection ends without an answer.
    EffectThenClose,
    /// Takes effect; no answer ever comes.
    EffectThenHang,
    /// Takes effect; the answer ends within its body.
    EffectThenHalf,
    /// Takes effect; the answer never ends.
    EffectThenEndless,
    /// Takes effect; the answer is 200 with something that is not an instance.
    EffectThenNonsense,
    /// Read and lost: no effect, and the connection ends.
    Lose,
    /// Read and lost: no effect, and no answer ever comes.
    Hang,
    /// Served as usual, but after this long.
    Slow(Duration),
}

impl Fault {
    /// The answer of a cloud that is full.
    pub const NO_CAPACITY: Fault = Fault::Refuse(500, "InternalServerError", "Out of host capacity.");

    /// Whether what is asked happens.
    pub fn takes_effect(&self) -> bool {
        !matches!(
            self,
            Fault::Refuse(..) | Fault::RateLimit(_) | Fault::Page(_) | Fault::Skew(_) | Fault::Lose | Fault::Hang
        )
    }
}

/// What happens to a connection before anything is read from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// It stays open, and nothing is read.
    Hang,
    /// It is reset.
    Reset,
}

/// One request, as it was asked and answered.
#[derive(Debug, Clone)]
pub struct Entry {
    /// When it was read whole.
    pub at: Instant,
    pub kind: Kind,
    /// The verb of HTTP.
    pub verb: String,
    /// The path with its query, as on the wire.
    pub path: String,
    /// `STOP`, `START`, …
    pub action: Option<String>,
    /// The OCID of the instance, or empty.
    pub instance: String,
    pub if_match: Option<String>,
    pub retry_token: Option<String>,
    /// How it stood with the instance when it was read.
    pub before: Option<Lifecycle>,
    /// The status that was sent; `None` when there was no answer, or none yet.
    pub answered: Option<u16>,
    /// Whether it changed the instance. A repetition with the same retry token does not.
    pub effect: bool,
    /// Whether it was such a repetition.
    pub repeated: bool,
    /// Everything that was sent as a header, by lower-case name.
    pub headers: BTreeMap<String, String>,
}

/// Something to do beside a request.
pub type Hook = Box<dyn FnOnce() + Send>;

/// Is it this request? Told what was asked before it.
pub type Wanted = Box<dyn Fn(&Entry, &[Entry]) -> bool + Send>;

/// What is done to one request, and beside it, the first time that `wanted` says so.
pub struct Strike {
    /// The request that is meant, and all of the ledger with it.
    pub wanted: Wanted,
    /// Such requests that are let pass before.
    pub skip: usize,
    /// Instead of what is scripted for its kind.
    pub fault: Option<Fault>,
    /// When it has been read, before it has any effect.
    pub arrived: Option<Hook>,
    /// When it is over: answered, or lost.
    pub answered: Option<Hook>,
}

#[derive(Default)]
struct State {
    machines: BTreeMap<String, Machine>,
    durations: Durations,
    script: BTreeMap<Kind, VecDeque<Fault>>,
    doors: VecDeque<Door>,
    ledger: Vec<Entry>,
    violations: Vec<String>,
    arrivals: BTreeMap<Kind, usize>,
    answers: BTreeMap<Kind, usize>,
    on_arrival: Vec<(Kind, usize, Hook)>,
    on_answered: Vec<(Kind, usize, Hook)>,
    strikes: Vec<Strike>,
    /// Retry token to what it was used for.
    retries: BTreeMap<String, (String, Kind)>,
    /// Tokens of principals to their public keys.
    tokens: BTreeMap<String, Vec<u8>>,
    token_life: Option<Duration>,
    page_size: Option<usize>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

/// The peer. Ends when it is dropped, and panics then if there were violations that nobody took.
pub struct Oci {
    listener: Listener,
    shared: Arc<Shared>,
}

impl Oci {
    /// A cloud without instances.
    pub fn start() -> Oci {
        let shared = Arc::new(Shared::default());
        let serving = Arc::clone(&shared);
        let listener = Listener::start(move || {
            let door = serving.lock().doors.pop_front();
            let serving = Arc::clone(&serving);
            move |stream: TcpStream, ended: &Ended| serve::connection(&serving, stream, door, ended)
        });
        Oci { listener, shared }
    }

    /// For `oci.endpoint`.
    pub fn url(&self) -> String {
        self.listener.url()
    }

    /// Writes a configuration file with its key into `dir`, for `oci.config_file`.
    pub fn config_file(&self, dir: &Path) -> PathBuf {
        let key = dir.join("oci-key.pem");
        std::fs::write(&key, vector("private_key_pem_pkcs8")).unwrap();
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
        let text = format!(
            "# For the API at {}\n[DEFAULT]\nuser={}\nfingerprint={}\ntenancy={}\nregion=eu-frankfurt-1\nkey_file={}\n",
            self.url(),
            vector("user"),
            vector("fingerprint"),
            vector("tenancy"),
            key.display()
        );
        let file = dir.join("oci-config");
        std::fs::write(&file, text).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        file
    }

    /// The profile in [`Oci::config_file`].
    pub fn origin(&self, dir: &Path) -> Origin {
        let file = self.config_file(dir).display().to_string();
        Origin { file, profile: "DEFAULT".to_string(), home: None, region: None }
    }

    /// For a client that signs as an instance principal.
    pub fn principal(&self) -> Where {
        Where { metadata: Some(format!("{}/opc/v2", self.url())), federation: Some(self.url()), ..Where::default() }
    }

    /// An instance in this state.
    pub fn add_instance(&self, ocid: &str, lifecycle: Lifecycle) {
        self.shared.lock().machines.insert(ocid.to_string(), Machine::new(ocid, lifecycle));
    }

    /// How long each change of state takes, from now on.
    pub fn durations(&self, durations: Durations) {
        self.shared.lock().durations = durations;
    }

    /// What happens to the next requests of a kind, in order; after them all is well again.
    pub fn script(&self, kind: Kind, faults: impl IntoIterator<Item = Fault>) {
        self.shared.lock().script.entry(kind).or_default().extend(faults);
    }

    /// Ends the script of a kind.
    pub fn clear_script(&self, kind: Kind) {
        self.shared.lock().script.remove(&kind);
    }

    /// What happens to the next connections, whatever would be asked on them.
    pub fn doors(&self, doors: impl IntoIterator<Item = Door>) {
        self.shared.lock().doors.extend(doors);
    }

    /// Instances on one page of a list.
    pub fn page_size(&self, size: usize) {
        self.shared.lock().page_size = Some(size);
    }

    /// How long the tokens of principals live that are handed out from now on. An hour without.
    pub fn token_life(&self, life: Duration) {
        self.shared.lock().token_life = Some(life);
    }

    /// Lets in a session token whose key has this public key (base64 of its DER).
    pub fn accept_token(&self, token: &str, public: &str) {
        let public = base64::engine::general_purpose::STANDARD.decode(public).unwrap();
        self.shared.lock().tokens.insert(token.to_string(), public);
    }

    /// No token that was handed out is good any more.
    pub fn revoke_tokens(&self) {
        self.shared.lock().tokens.clear();
    }

    /// Runs `hook` when the `n`-th request of a kind (from 1) has been read, before it has any effect.
    pub fn on_arrival(&self, kind: Kind, n: usize, hook: Box<dyn FnOnce() + Send>) {
        self.shared.lock().on_arrival.push((kind, n, hook));
    }

    /// Runs `hook` when the `n`-th request of a kind (from 1) is over: answered, or lost as scripted.
    pub fn on_answered(&self, kind: Kind, n: usize, hook: Box<dyn FnOnce() + Send>) {
        self.shared.lock().on_answered.push((kind, n, hook));
    }

    /// Waits for a request to strike. Of several that want the same request the first gets it.
    pub fn strike(&self, strike: Strike) {
        self.shared.lock().strikes.push(strike);
    }

    /// No strike waits any more.
    pub fn clear_strikes(&self) {
        self.shared.lock().strikes.clear();
    }

    /// Everything that was asked, in order.
    pub fn ledger(&self) -> Vec<Entry> {
        self.shared.lock().ledger.clone()
    }

    /// Requests of a kind in the ledger.
    pub fn asked(&self, kind: Kind) -> Vec<Entry> {
        self.ledger().into_iter().filter(|entry| entry.kind == kind).collect()
    }

    /// Requests of a kind that changed an instance.
    pub fn effects(&self, kind: Kind) -> usize {
        self.asked(kind).iter().filter(|entry| entry.effect).count()
    }

    /// Connections so far, also those on which nothing was read.
    pub fn connections(&self) -> usize {
        self.listener.connections()
    }

    /// How it stands with an instance.
    pub fn lifecycle(&self, ocid: &str) -> Lifecycle {
        self.shared.machine(ocid, |machine, _| machine.lifecycle())
    }

    /// The version of an instance.
    pub fn etag(&self, ocid: &str) -> String {
        self.shared.machine(ocid, |machine, _| machine.etag())
    }

    /// When the instance last came to be `RUNNING`; tells a test when to bring the heartbeat back.
    pub fn running_since(&self, ocid: &str) -> Option<Instant> {
        self.shared.machine(ocid, |machine, _| machine.running_since())
    }

    /// An operator stops it in the console.
    pub fn stop_by_hand(&self, ocid: &str) {
        self.shared.machine(ocid, Machine::stop);
    }

    /// An operator starts it in the console.
    pub fn start_by_hand(&self, ocid: &str) {
        self.shared.machine(ocid, Machine::start);
    }

    /// It is deleted.
    pub fn terminate(&self, ocid: &str) {
        self.shared.machine(ocid, |machine, _| machine.become_at_once(Lifecycle::Terminated));
    }

    /// Puts it into a state at once, with a new etag.
    pub fn set(&self, ocid: &str, lifecycle: Lifecycle) {
        self.shared.machine(ocid, |machine, _| machine.become_at_once(lifecycle));
    }

    /// Oracle plans to reboot it then (RFC 3339).
    pub fn plan_maintenance(&self, ocid: &str, due: &str) {
        self.shared.machine(ocid, |machine, _| machine.maintenance = Some(due.to_string()));
    }

    /// Waits until `reached` holds for the ledger; panics after `deadline`.
    pub fn wait(&self, what: &str, deadline: Duration, reached: impl Fn(&[Entry]) -> bool) {
        let guarded = (&self.shared.state, &self.shared.changed);
        let context = |state: &State| format!("{what}; ledger: {:#?}", state.ledger);
        wait_until(guarded, deadline, |state| reached(&state.ledger), context);
    }

    /// What was asked wrongly so far; takes them, so that the end of the peer does not panic.
    pub fn violations(&self) -> Vec<String> {
        std::mem::take(&mut self.shared.lock().violations)
    }
}

impl Drop for Oci {
    fn drop(&mut self) {
        let violations = self.violations();
        if !thread::panicking() {
            assert!(violations.is_empty(), "OCI was asked wrong things: {violations:#?}");
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn machine<T>(&self, ocid: &str, act: impl FnOnce(&mut Machine, &Durations) -> T) -> T {
        let mut state = self.lock();
        let durations = state.durations;
        let machine = state.machines.get_mut(ocid).unwrap_or_else(|| panic!("no instance {ocid}"));
        machine.settle();
        act(machine, &durations)
    }
}

/// Now, moved by this many seconds, as the `Date` of an answer.
fn date(ahead: i64) -> String {
    let now = SystemTime::now();
    let span = Duration::from_secs(ahead.unsigned_abs());
    httpdate::fmt_http_date(if ahead < 0 { now - span } else { now + span })
}
