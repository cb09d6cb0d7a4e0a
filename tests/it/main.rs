//! The integration tests: one binary, one file per part. Peers that misbehave are in `peer`, what a
//! test needs of the machine is in `parts`, the real binary is in `daemon`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod act;
mod app;
mod architecture;
mod beacon;
mod canary;
mod cli;
mod consul;
mod core_model;
mod core_props;
mod core_removed;
mod core_watch;
mod daemon;
mod deadman;
mod deliver;
mod docker;
mod docker_wire;
mod docs;
mod docs_env;
mod e2e;
mod e2e_docker;
mod e2e_reload;
mod e2e_removed;
mod ending;
mod engine;
mod exposition;
mod hard;
mod heartbeats;
mod host;
mod host_mounts;
mod message;
mod model;
mod names;
mod oci;
mod parts;
mod peer;
mod probe;
mod recovery;
mod recovery_table;
mod repair;
mod repair_consul;
mod repair_kill;
mod serve;
mod settings;
mod setup;
mod shortage;
mod sole;
mod store;
mod story;
mod telegram;
mod trace;
mod wire;
mod world;
