//! The commands, one file per family.

pub mod access;
pub mod batch;
pub mod cypress;
pub mod files;
pub mod operations;
pub mod rows;
pub mod tables;
