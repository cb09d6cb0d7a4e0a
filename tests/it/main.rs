//! The integration tests: one binary, one file per part.

mod app;
mod deliver;
mod docker_wire;
mod docs;
mod exposition;
mod host;
mod message;
mod parts;
mod peer;
mod probe;
mod serve;
mod telegram;
