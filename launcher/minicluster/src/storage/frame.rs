//! Frames: how pieces of bytes lie in a file so that damage is seen. Each is a head of 16 bytes (length, checksum
//! of the length, checksum of the content), then the content.

use flate2::Crc;

/// Bytes before the content of a frame.
const HEAD: usize = 16;

fn checksum(bytes: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(bytes);
    crc.sum()
}

/// The head of a frame with this content.
pub(super) fn head(content: &[u8]) -> [u8; HEAD] {
    let length = (content.len() as u64).to_le_bytes();
    let mut head = [0; HEAD];
    head[..8].copy_from_slice(&length);
    // Not the checksum alone: a piece of zeros must not look like an empty frame.
    head[8..12].copy_from_slice(&(!checksum(&length)).to_le_bytes());
    head[12..].copy_from_slice(&checksum(content).to_le_bytes());
    head
}

/// The content of the frame at the start of these bytes, if there is a whole and sound one.
fn first(bytes: &[u8]) -> Option<&[u8]> {
    let head_bytes = bytes.get(..HEAD)?;
    let length = head_bytes[..8].try_into().map(u64::from_le_bytes).ok()?;
    if head_bytes[8..12] != (!checksum(&head_bytes[..8])).to_le_bytes() {
        return None;
    }
    let content = bytes.get(HEAD..HEAD.checked_add(usize::try_from(length).ok()?)?)?;
    (head_bytes[12..] == checksum(content).to_le_bytes()).then_some(content)
}

/// What stands at a place in a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next<'a> {
    /// A frame, and the offset behind it.
    Frame(&'a [u8], usize),
    /// The end of the file.
    End,
    /// A frame that was not written to its end, and nothing behind it.
    Torn,
    /// Something that is no frame, and frames behind it.
    Damaged,
}

/// Looks at an offset.
pub(super) fn next(bytes: &[u8], offset: usize) -> Next<'_> {
    let rest = bytes.get(offset..).unwrap_or_default();
    if rest.is_empty() {
        return Next::End;
    }
    if let Some(content) = first(rest) {
        return Next::Frame(content, offset + HEAD + content.len());
    }
    if (1..rest.len()).any(|skipped| first(&rest[skipped..]).is_some()) { Next::Damaged } else { Next::Torn }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(content: &[u8]) -> Vec<u8> {
        [&head(content), content].concat()
    }

    #[test]
    fn every_cut_is_torn_and_every_flip_in_the_middle_is_damage() {
        let (one, two) = (frame(b"the first"), frame(b"another"));
        let both = [one.clone(), two.clone()].concat();
        assert_eq!(next(&both, 0), Next::Frame(b"the first", one.len()));
        assert_eq!(next(&both, one.len()), Next::Frame(b"another", both.len()));
        assert_eq!(next(&both, both.len()), Next::End);
        for cut in 1..two.len() {
            assert_eq!(next(&both[..one.len() + cut], one.len()), Next::Torn, "cut at {cut}");
        }
        for place in 0..one.len() {
            let mut flipped = both.clone();
            flipped[place] ^= 0x10;
            assert_eq!(next(&flipped, 0), Next::Damaged, "flipped at {place}");
        }
        for place in one.len()..both.len() {
            let mut flipped = both.clone();
            flipped[place] ^= 0x10;
            assert_eq!(next(&flipped, one.len()), Next::Torn, "flipped at {place}");
        }
        assert_eq!(next(&[0; 64], 0), Next::Torn, "a file that grew without its bytes");
    }
}
