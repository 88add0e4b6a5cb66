//! The launcher: what runs on the laptop when a user types `tractorun`.
//!
//! The way of one invocation: [`cli`] reads the command line, [`settings`] merges it with the YAML file and
//! the environment and checks everything, [`commands`] acts on the result, [`report`] prints what a person
//! should know and names the exit status. Nothing here knows about processes inside a job; that is
//! `tractorun-init`.

pub mod binds;
pub mod cli;
pub mod commands;
pub mod completions;
pub mod doctor;
pub mod dry_run;
pub mod follow;
pub mod local;
pub mod logs;
pub mod operation;
pub mod pack;
pub mod patience;
pub mod report;
pub mod runs;
pub mod settings;
pub mod tensorproxy;
pub mod upload;
mod wrap;
