//! The supervisor core: what to do next, as plain functions.
