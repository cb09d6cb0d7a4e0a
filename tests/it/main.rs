//! The integration tests: one binary, one file per part.

mod architecture;
mod core_model;
mod core_props;
mod core_watch;
mod deliver;
mod docker_wire;
mod docs;
mod exposition;
mod message;
mod parts;
mod peer;
mod probe;
mod serve;
mod story;
mod telegram;
mod world;
