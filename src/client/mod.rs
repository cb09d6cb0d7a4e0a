//! Thin typed wire wrappers. No retries, no policy: one call in, one answer or one error out.
//! Every call has a deadline and a limit on what it reads; no error shows a URL or a secret.

pub mod children;
mod coding;
pub mod command;
pub mod consul;
pub mod dial;
pub mod dns;
pub mod docker;
pub mod grpc;
pub mod http;
pub mod icmp;
pub mod oci;
pub mod proxy;
pub mod resolve;
pub mod roots;
pub mod shortage;
pub mod systemd;
pub mod telegram;
pub mod trust;
