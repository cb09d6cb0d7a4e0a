//! Scripted peers: real sockets that assert what they are asked, and misbehave as told.

pub mod docker;
