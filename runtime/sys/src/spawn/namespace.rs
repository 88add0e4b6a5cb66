//! Namespaces and mounts of the child, planned before the fork.
