//! Repairs: when a machine may be touched, what is done to it step by step, and why not.
//!
//! Pure, like all of the core: no I/O, no clock; what has to be done is given back as orders, what
//! came of them is handed in. Read in this order:
//!
//! - what can be done: `subject` (states, looks, replies), `procedure` (steps as data), `legacy` (the four of old);
//! - one repair: `saga` (what may follow), `pace` and `backoff` (when), `journal` and `rows` (how it is kept);
//! - one target: `heartbeat`, `kind`, `target` (its phases), `gate` (named reasons not to act), `budget` (blast radius);
//! - all of them: `plan` (what goes in and out), `pool` (what they share), `pass` (what one pass lends), `member` with
//!   `sight` (what was seen), `check` (a new repair) and `repair` (the one under way), `fleet` (one step per pass) with
//!   `left` and `strangers` (who is not configured);
//! - in words: `phrase`, `story` (of one), `facts` (while it lasts).

pub mod backoff;
pub mod budget;
mod check;
mod closed;
mod confirm;
pub mod facts;
pub mod fleet;
pub mod gate;
pub mod heartbeat;
pub mod journal;
pub mod kind;
mod left;
pub mod legacy;
mod member;
pub mod pace;
mod pass;
pub mod phrase;
pub mod plan;
mod pool;
pub mod procedure;
mod repair;
mod rows;
pub mod saga;
mod sight;
pub mod story;
mod strangers;
pub mod subject;
pub mod target;
