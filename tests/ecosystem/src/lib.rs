#![doc = include_str!("../../../docs/ecosystem.md")]
#![deny(unsafe_code)]

pub mod http;
pub mod peers;
pub mod redis;
pub mod scratch;
pub mod tls;
