//! What the parent makes ready before the fork.
