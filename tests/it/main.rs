//! The integration tests, one binary.

mod docker_wire;
mod exposition;
mod parts;
mod peer;
mod serve;
