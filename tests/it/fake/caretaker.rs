//! An executor that only tests know: a caretaker, who looks after what stands in a file: its state, and how often it
//! was opened.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

use watchdog::config::{Config, ConfigError};
use watchdog::core::recovery::procedure::{Again, Does, Goal, Guard, Procedure, States, Step};
use watchdog::core::recovery::subject::{Fence, Reply, Seen, State, Verb};
use watchdog::executor::{Entry, Machine, Machines, Outfit, Switch};

const NAME: &str = "caretaker";
const OPEN: Step =
    Step { verb: Verb::of("open"), does: Does::Restores, goal: Goal::Reaches(States::RUNNING), again: Again::Always };
const REOPEN: Step =
    Step { verb: Verb::of("reopen"), does: Does::Disrupts, goal: Goal::Anew(States::RUNNING), again: Again::Never };
const STEPS: &[Step] = &[REOPEN, OPEN];
const WAYS: &[Procedure] = &[Procedure {
    name: Cow::Borrowed("reopen"),
    says: Cow::Borrowed("close and open it"),
    steps: Cow::Borrowed(STEPS),
    guard: Guard::Local,
}];

pub const ENTRY: Entry =
    Entry { name: NAME, offers: WAYS, starts: None, sections: &[], build, is_here: |_: &Path| false };

#[allow(clippy::unnecessary_wraps, reason = "an executor may find problems")]
fn build(_: &Config, _: &Outfit, switches: &[&Switch]) -> Result<Machines, ConfigError> {
    let machine = |switch: &&Switch| {
        let caretaker: Box<dyn Machine> = Box::new(Caretaker { file: Arc::clone(&switch.instance_id) });
        (Arc::clone(&switch.key), caretaker)
    };
    Ok(switches.iter().map(machine).collect())
}

struct Caretaker {
    file: Arc<str>,
}

/// The state and the version that a file says: `open 3`.
pub fn read(file: &str) -> (String, u32) {
    let text = std::fs::read_to_string(file).unwrap();
    let (state, version) = text.trim().split_once(' ').unwrap();
    (state.to_string(), version.parse().unwrap())
}

impl Machine for Caretaker {
    fn executor(&self) -> &'static str {
        NAME
    }

    fn id(&self) -> Arc<str> {
        Arc::clone(&self.file)
    }

    fn look(&mut self) -> Result<Seen, String> {
        let (word, version) = read(&self.file);
        let state = if word == "open" { State::Running } else { State::Stopped };
        Ok(Seen { state, version: Some(version.to_string()), word })
    }

    fn ask(&mut self, verb: Verb, fence: &Fence) -> (Reply, String) {
        let (_, version) = read(&self.file);
        if fence.version != Some(version.to_string()) {
            return (Reply::Changed, "it was opened meanwhile".to_string());
        }
        // One that sticks is closed, and has to be opened.
        let state = if verb.as_str() == "reopen" && Path::new(&format!("{}.sticks", self.file)).exists() {
            "closed"
        } else {
            "open"
        };
        std::fs::write(&*self.file, format!("{state} {}", version + 1)).unwrap();
        (Reply::Accepted, String::new())
    }
}
