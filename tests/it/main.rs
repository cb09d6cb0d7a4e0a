//! The integration tests, one binary.

mod docker;
mod docker_wire;
mod engine;
mod exposition;
mod parts;
mod peer;
mod serve;
