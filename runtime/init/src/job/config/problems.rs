//! What is wrong with a configuration, gathered to be said at once.

use std::fmt;

/// Everything that is wrong, in the order it was found.
#[derive(Debug, Default)]
pub(in crate::job) struct Problems(Vec<String>);

// === impl Problems ===

impl Problems {
    /// Nothing is wrong so far.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// This is: the name of a variable or field, and what there is to say of it.
    pub(super) fn add(&mut self, name: &str, what: &str) {
        // Hints of others would break the one line.
        let what = what.lines().next().unwrap_or_default();
        self.0.push(format!("{name}: {what}"));
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("; "))
    }
}
