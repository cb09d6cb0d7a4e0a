//! Watchdog: observes an application from outside, tells the truth about it, repairs with care.
//!
//! Two flows:
//!
//! ```text
//! observe   sources ──▶ core::rule ──▶ core::decide ──edges──▶ store (state + outbox, one commit) ──▶ deliver ──▶ notifiers
//! repair    signals + targets ──▶ core::recovery ──steps──▶ store (journal) ──▶ act ──▶ executors ──results──▶ next tick
//! ```
//!
//! Arrows point down only: `cli → tick → gather, deliver, repair → act → source, notifier, executor, store, serve → core, client`.
//! Only `source`, `notifier`, `executor`, `lease`, `store`, `serve`, `client`, `trace` and `cli` do I/O; only `clock`
//! reads time. A new source is one file and one line in [`source::SOURCES`]; a new channel one file and one line in
//! [`notifier::NOTIFIERS`]; a new executor one file and one line in [`executor::EXECUTORS`]; a new
//! kind of target one file and one line in [`assemble::KINDS`].

pub mod act;
pub mod assemble;
pub mod beacon;
pub mod cli;
pub mod client;
pub mod clock;
pub mod command;
pub mod config;
pub mod core;
pub mod deadman;
pub mod deliver;
pub mod doubts;
pub mod executor;
pub mod gather;
pub mod hush;
pub mod kind;
pub mod lease;
pub mod nodes;
pub mod notifier;
pub mod own;
pub mod pace;
pub mod past;
pub mod program;
pub mod repair;
pub mod serve;
pub mod source;
pub mod store;
pub mod tick;
pub mod trace;
pub mod view;
pub mod wake;
