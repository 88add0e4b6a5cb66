//! Breaks text into lines that fit, between words.
//!
//! What stands between backticks is a thing that somebody may want to copy: it is not broken unless it is longer than
//! a line by itself. Neither is a single word, such as a path: a terminal may do that, but the word stays one.

/// The text in lines of at most `width` characters. Line breaks that it has stay.
pub(crate) fn lines(text: &str, width: usize) -> Vec<String> {
    text.split('\n').flat_map(|line| wrap(line, width)).collect()
}

fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for piece in pieces(text, width) {
        let line = lines
            .last_mut()
            .filter(|line| line.is_empty() || line.chars().count() + 1 + piece.chars().count() <= width);
        match line {
            Some(line) if line.is_empty() => line.push_str(&piece),
            Some(line) => line.extend([" ", &piece]),
            None => lines.push(piece),
        }
    }
    lines
}

/// Words, and those between two backticks as one as long as they fit on a line together.
fn pieces(text: &str, width: usize) -> Vec<String> {
    let mut pieces: Vec<String> = Vec::new();
    let mut is_open = false;
    for word in text.split(' ') {
        let joined = pieces
            .last_mut()
            .filter(|last| is_open && last.chars().count() + 1 + word.chars().count() <= width);
        match joined {
            Some(last) => last.extend([" ", word]),
            None => pieces.push(word.to_owned()),
        }
        is_open ^= word.matches('`').count() % 2 == 1;
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn breaks_between_words_and_never_in_them() {
        assert_eq!(lines("one two three", 7), ["one two", "three"]);
        assert_eq!(lines("a //a/very/long/path b", 8), ["a", "//a/very/long/path", "b"]);
        assert_eq!(lines("first\n\nsecond line", 6), ["first", "", "second", "line"]);
        assert_eq!(lines("", 5), [""]);
        assert_eq!(lines("ä ö ü", 5), ["ä ö ü"]);
    }

    #[test]
    fn what_stands_in_backticks_stays_together_where_it_fits() {
        assert_eq!(lines("say `a b c` now", 9), ["say", "`a b c`", "now"]);
        assert_eq!(lines("say `a b c d e`, now", 9), ["say", "`a b c d", "e`, now"]);
        assert_eq!(lines("an open ` stays", 9), ["an open", "` stays"]);
    }
}
