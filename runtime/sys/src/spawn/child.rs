//! The child's side, between fork and exec.
