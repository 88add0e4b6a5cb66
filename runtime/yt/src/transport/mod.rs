//! How a command becomes HTTP requests, until one is answered.
//!
//! [`call`] says what to send, [`http`] sends it once and reads the answer, [`retry`] decides whether to send
//! it again, [`heavy`] knows which proxies move data, [`tls`] whom to trust, [`health`] knows whether anybody answers, [`exec`] puts it all together.

pub(crate) mod call;
pub(crate) mod exec;
pub(crate) mod health;
pub(crate) mod heavy;
pub(crate) mod http;
pub(crate) mod retry;
pub(crate) mod stream;
pub(crate) mod tls;
pub(crate) mod upload;
