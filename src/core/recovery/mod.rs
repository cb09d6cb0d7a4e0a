//! Repairs: when a machine may be touched, what is done to it step by step, and why not.
//!
//! Pure, like all of the core: no I/O, no clock; what has to be done is given back as orders, what
//! came of them is handed in. Read in this order: `power` (the words for machines), `heartbeat`,
//! `target` (phases of one node), `gate` (named reasons not to act), `budget` (blast radius), `saga`
//! and `journal` (one repair and how it is kept), `pace` and `backoff` (when), `plan` (what goes in
//! and out), `fleet` (all of it together, one step per pass) with `member`, `consider` (new
//! repairs), `repairs` (those under way) and `left` (nodes that are configured no more), `story` (in words).

pub mod backoff;
pub mod budget;
mod consider;
pub mod fleet;
pub mod gate;
pub mod heartbeat;
pub mod journal;
mod left;
pub mod legacy;
mod member;
pub mod pace;
pub mod phrase;
pub mod plan;
pub mod procedure;
mod repairs;
mod rows;
pub mod saga;
pub mod story;
pub mod subject;
pub mod target;
