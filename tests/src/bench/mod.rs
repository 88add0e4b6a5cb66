//! What the programs of `make bench` share: one form of their figures, what a command used, and the peers.
//!
//! Each figure is a line as soon as it is there; `scripts/bench_table.py` writes the same form.

#![allow(clippy::print_stdout, reason = "figures are what these programs are for")]
#![allow(clippy::cast_precision_loss, reason = "counts and bytes here are small")]

mod figure;
pub mod peers;
mod usage;

pub use figure::Figure;
pub use usage::{TIMED, Usage, timed};

/// A line of the table.
#[derive(Debug, Clone)]
pub struct Row<'a> {
    what: &'a str,
    goal: &'a str,
    ours: Figure,
}

/// Begins a part of the table.
pub fn heading(title: &str) {
    println!("\n{title}");
    println!("  {:<62} {:>12} {:>12}   {:<38} better", "", "goal", "tractorun", "beside it");
}

/// Says something about the part.
pub fn note(text: &str) {
    println!("  note: {text}");
}

impl<'a> Row<'a> {
    /// What was measured, and what came out.
    pub fn new(what: &'a str, ours: Figure) -> Self {
        Self { what, goal: "", ours }
    }

    /// What it should be.
    #[must_use]
    pub fn goal(self, goal: &'a str) -> Self {
        Self { goal, ..self }
    }

    /// Prints it alone.
    pub fn print(self) {
        println!("{}", self.line("", ""));
    }

    /// Prints it beside a peer's figure.
    pub fn beside(self, peer: &str, theirs: Figure) {
        let (ours, beside) = (self.ours, format!("{theirs} {peer}"));
        println!("{}", self.line(&beside, &ours.better_than(theirs)));
    }

    /// Prints it beside words: why a peer has no figure, or what is to be said of it.
    pub fn beside_words(self, words: &str) {
        println!("{}", self.line(words, ""));
    }

    fn line(&self, beside: &str, better: &str) -> String {
        let ours = self.ours.to_string();
        let line = format!("  {:<62} {:>12} {ours:>12}   {beside:<38} {better}", self.what, self.goal);
        line.trim_end().to_owned()
    }
}

/// The value that so many of a hundred are not above.
pub fn percentile(values: &mut [f64], hundredths: usize) -> f64 {
    values.sort_by(f64::total_cmp);
    let index = (values.len() * hundredths).div_ceil(100).saturating_sub(1);
    values.get(index).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_shows_its_goal_its_peer_and_the_ratio() {
        let row = Row::new("cold", Figure::Seconds(0.5)).goal("< 1 s");
        assert_eq!(
            row.line("10.0 s other", "20 x").split_whitespace().collect::<Vec<_>>().join(" "),
            "cold < 1 s 500 ms 10.0 s other 20 x"
        );
        assert!(!row.line("", "").ends_with(' '));
    }

    #[test]
    fn percentiles_are_values_that_occurred() {
        let mut values: Vec<f64> = (1..=200).rev().map(f64::from).collect();
        let found = [50, 99, 100].map(|hundredths| percentile(&mut values, hundredths));
        assert_eq!(found.map(|value| value.to_string()), ["100", "198", "200"]);
        assert!(percentile(&mut [], 50).is_nan());
    }
}
