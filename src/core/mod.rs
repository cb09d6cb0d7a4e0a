//! The pure core: decides what is true, what to say, and why.
//!
//! No I/O, no clock, no logging, no environment, no threads, no hash-map order. Time is an
//! argument. The same state and the same inputs give the same outcome, byte for byte
//! (`adr/0003-pure-core.md`). Read in this order: `time`, `signal`, `rule`, `decide`, `watch`, `message`.

pub mod decide;
pub mod edge;
pub mod message;
pub mod rule;
pub mod signal;
pub mod time;
pub mod tracked;
pub mod watch;
