//! PID 1 of a distributed training job: rendezvous, supervision, logs.
