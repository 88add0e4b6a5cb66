//! PID 1 of a distributed training job: rendezvous, supervision, logs.

pub mod control;
pub mod job;
pub mod output;
pub mod rendezvous;
pub mod supervisor;
