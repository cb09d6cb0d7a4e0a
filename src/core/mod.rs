//! The pure core: decides what is true, what to say, and why.
//!
//! No I/O, no clock, no logging, no environment, no threads, no hash-map order. Time is an
//! argument. The same state and the same inputs give the same outcome, byte for byte
//! (`adr/0003-pure-core.md`). Read in this order: `time`, `about`, `signal`, `policy`, `rule`, `memory`,
//! `decide`, `talk`, `tracked`, `group`, `gap`, `watch`, `edge`, `silence`, `maintenance`, `message`; `beacon`,
//! `name` and `reach` stand by themselves.

pub mod about;
pub mod beacon;
pub mod decide;
pub mod edge;
pub mod gap;
pub mod glob;
pub mod group;
pub mod maintenance;
pub mod memory;
pub mod message;
pub mod name;
pub mod policy;
pub mod quiet;
pub mod reach;
pub mod recovery;
pub mod rule;
pub mod signal;
pub mod silence;
pub mod talk;
pub mod time;
pub mod tracked;
pub mod watch;
pub mod words;
pub mod zone;
