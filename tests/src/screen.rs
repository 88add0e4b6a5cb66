//! What a person sees: the screen that a program leaves behind, with its colours, from the bytes it wrote.
//!
//! A status line that was redrawn a hundred times is one line here, as it is for a person. A line that the terminal
//! had to break, because it was longer than the screen is wide, ends with [`BROKEN`].

use std::fmt::Write as _;
use std::num::NonZeroU16;

use vt100::{Cell, Color, Parser, Screen};

/// Columns of a terminal.
pub const COLUMNS: u16 = 80;
/// Rows of a terminal.
pub const ROWS: u16 = 24;
/// What the programs may believe in.
pub const TERM: &str = "xterm-256color";
/// Stands where the terminal had to break a line.
pub const BROKEN: &str = "↩";

/// More than anything here writes, so that nothing is scrolled away.
const KEPT_ROWS: NonZeroU16 = NonZeroU16::new(1000).expect("not zero");
const WIDTH: NonZeroU16 = NonZeroU16::new(COLUMNS).expect("not zero");

/// Whether colours and such are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Styles {
    /// As escape sequences that a reader can see: `\e[1m`.
    Shown,
    /// Left out.
    Hidden,
}

/// The lines on the screen after a program wrote `bytes`.
pub fn seen(bytes: &str, styles: Styles) -> String {
    let mut parser = Parser::new(KEPT_ROWS, WIDTH, 0);
    parser.process(bytes.as_bytes());
    let screen = parser.screen();
    let mut text = String::new();
    for row in 0..KEPT_ROWS.get() {
        let line = line(screen, row, styles);
        if screen.row_wrapped(row) {
            text.extend([&line, BROKEN]);
        } else {
            text.push_str(line.trim_end());
        }
        text.push('\n');
    }
    text.truncate(text.trim_end_matches('\n').len());
    text.push('\n');
    text
}

fn line(screen: &Screen, row: u16, styles: Styles) -> String {
    let cells: Vec<&Cell> = (0..COLUMNS).filter_map(|column| screen.cell(row, column)).collect();
    let used = cells.iter().rposition(|cell| cell.has_contents()).map_or(0, |last| last + 1);
    let mut text = String::new();
    let mut current = String::new();
    for cell in &cells[..used] {
        let style = style(cell);
        if styles == Styles::Shown && style != current {
            let reset = if current.is_empty() { "" } else { "\\e[0m" };
            let _ = write!(text, "{reset}{style}");
            current = style;
        }
        match cell.contents() {
            "" if cell.is_wide_continuation() => {}
            "" => text.push(' '),
            contents => text.push_str(contents),
        }
    }
    if !current.is_empty() {
        text.push_str("\\e[0m");
    }
    text
}

/// The escape sequence, to be read, that makes a cell look as it does; empty for plain text.
fn style(cell: &Cell) -> String {
    let mut codes = Vec::new();
    for (is_on, code) in [(cell.bold(), 1), (cell.dim(), 2), (cell.italic(), 3), (cell.underline(), 4)] {
        codes.extend(is_on.then(|| code.to_string()));
    }
    for (colour, base) in [(cell.fgcolor(), 30), (cell.bgcolor(), 40)] {
        match colour {
            Color::Default => {}
            Color::Idx(index @ 0..8) => codes.push((base + u16::from(index)).to_string()),
            Color::Idx(index) => codes.push(format!("{};5;{index}", base + 8)),
            Color::Rgb(red, green, blue) => codes.push(format!("{};2;{red};{green};{blue}", base + 8)),
        }
    }
    if codes.is_empty() { String::new() } else { format!("\\e[{}m", codes.join(";")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_redrawn_is_seen_once_and_colours_can_be_read() {
        let bytes = "50%\r\x1b[2K100%\r\n\x1b[1;31merror: \x1b[0mno\r\n";
        assert_eq!(seen(bytes, Styles::Shown), "100%\n\\e[1;31merror: \\e[0mno\n");
        assert_eq!(seen(bytes, Styles::Hidden), "100%\nerror: no\n");
    }

    #[test]
    fn lines_that_are_too_long_are_marked() {
        let exact = "x".repeat(80);
        assert_eq!(seen(&format!("{exact}\r\ny"), Styles::Shown), format!("{exact}\ny\n"));
        assert_eq!(seen(&format!("{exact}y"), Styles::Shown), format!("{exact}{BROKEN}\ny\n"));
    }
}
