//! The integration tests, one binary.

mod docker_wire;
//! The integration tests: one binary, one file per part.

mod docs;
mod exposition;
mod parts;
mod peer;
mod peer {
    pub mod http;
}
mod probe;
mod serve;
fn main() {}
//! The integration tests: one binary, one file per part.

mod deliver;
mod message;
mod peer;
mod telegram;
