//! The integration tests: one binary, one file per part. Peers that misbehave are in `peer`, what a
//! test needs of the machine is in `parts`.

mod deliver;
mod docker_wire;
mod docs;
mod docs_env;
mod exposition;
mod message;
mod parts;
mod peer;
mod probe;
mod serve;
mod store;
mod telegram;
