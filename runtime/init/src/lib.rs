//! PID 1 of a distributed training job: rendezvous, supervision, logs.
//!
//! Two ways to run ([`cli`]): as a node of a job, or as the init of any container ([`driver::run_plain`]). In a
//! job, [`job`] makes everything ready and [`rendezvous`] finds the other nodes; [`supervisor`] decides what
//! happens from then on, told by [`driver`], which does it; [`output`] carries what the workers write to stderr and
//! [`logs`] to their tables, and [`control`] what the nodes say to each other; [`metrics`] shows all of it to who
//! asks. [`check`] only looks at the machine, and [`image_env`] carries an image's
//! environment from its build to its jobs.

pub mod check;
pub mod cli;
pub mod control;
pub mod driver;
pub mod image_env;
pub mod job;
pub mod logging;
pub mod logs;
pub mod metrics;
pub mod oom;
pub mod output;
pub mod rendezvous;
pub mod supervisor;
