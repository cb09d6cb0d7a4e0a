//! Scripted peers on loopback: real sockets that assert what they are asked, and misbehave as told.

#![allow(dead_code, reason = "each peer serves several tests; not every test uses every verb")]

pub mod app;
pub mod consul;
pub mod dns;
pub mod docker;
pub mod forward;
pub mod html;
pub mod http;
pub mod kv;
pub mod listener;
pub mod oci;
pub mod otlp;
pub mod proxy;
pub mod small_app;
pub mod telegram;
pub mod tls;
