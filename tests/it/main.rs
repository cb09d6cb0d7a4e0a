//! The integration tests: one binary, one file per part.

mod docs;
mod exposition;
mod serve;
