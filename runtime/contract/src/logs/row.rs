//! Lines as rows: which stream they are of, and what ended them.

use memchr::memchr2;

/// Which stream of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stream {
    /// Its standard output.
    Stdout,
    /// Its standard error.
    Stderr,
}

/// What ended a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LineEnd {
    /// `\n`.
    Newline,
    /// `\r`: what follows is to replace it, as progress bars do.
    Return,
    /// `\r\n`.
    ReturnNewline,
    /// Nothing: the line goes on in the next row, or the stream ended.
    Nothing,
}

// === impl Stream ===

impl Stream {
    /// Both, with the words for them.
    pub const ALL: [(&'static str, Self); 2] = [("stdout", Self::Stdout), ("stderr", Self::Stderr)];

    /// The word for it, as in the column `fd`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

// === impl LineEnd ===

impl LineEnd {
    /// The bytes that it stands for.
    pub fn bytes(self) -> &'static [u8] {
        match self {
            Self::Newline => b"\n",
            Self::Return => b"\r",
            Self::ReturnNewline => b"\r\n",
            Self::Nothing => b"",
        }
    }
}

/// The rows of what one read gave: their messages and what ended them.
pub fn rows(mut bytes: &[u8]) -> impl Iterator<Item = (&[u8], LineEnd)> {
    std::iter::from_fn(move || {
        let (message, end, rest) = first_row(bytes)?;
        bytes = rest;
        Some((message, end))
    })
}

/// The first row and what follows it; `None` where there is nothing.
pub fn first_row(bytes: &[u8]) -> Option<(&[u8], LineEnd, &[u8])> {
    if bytes.is_empty() {
        return None;
    }
    let Some(index) = memchr2(b'\n', b'\r', bytes) else { return Some((bytes, LineEnd::Nothing, &[])) };
    let end = match (bytes[index], bytes.get(index + 1)) {
        (b'\n', _) => LineEnd::Newline,
        (_, Some(b'\n')) => LineEnd::ReturnNewline,
        _ => LineEnd::Return,
    };
    Some((&bytes[..index], end, &bytes[index + end.bytes().len()..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_joined_are_what_they_were_cut_from() {
        let bytes = b"one\n\n 10%\r 20%\r\nlast";
        let found: Vec<_> = rows(bytes).collect();
        let expected: [(&[u8], LineEnd); 5] = [
            (b"one", LineEnd::Newline),
            (b"", LineEnd::Newline),
            (b" 10%", LineEnd::Return),
            (b" 20%", LineEnd::ReturnNewline),
            (b"last", LineEnd::Nothing),
        ];
        assert_eq!(found, expected);
        let joined: Vec<u8> =
            found.iter().flat_map(|(message, end)| [message, end.bytes()].concat()).collect();
        assert_eq!(joined, bytes);
        assert_eq!(first_row(b""), None);
    }
}
