//! What crosses crates: end to end, conformance, faults, images, benchmarks.
