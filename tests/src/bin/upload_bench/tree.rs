//! A folder as people have them: many files, some that shrink when packed and some that do not.

use std::fs;
use std::path::Path;

/// Files in it.
pub(crate) const FILES: usize = 20_000;

const FILE_BYTES: usize = 50_000;
const FILES_A_FOLDER: usize = 20;
const POOL_BYTES: usize = 1 << 20;

/// Makes the folder, the same each time; gives its size in bytes.
pub(crate) fn plant(tree: &Path) -> usize {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let noise: Vec<u8> = (0..POOL_BYTES).map(|_| random.next().to_le_bytes()[0]).collect();
    let words: Vec<String> =
        (0..2000).map(|_| format!("{:x} ", random.next() >> (16 + random.below(40)))).collect();
    let text: String =
        std::iter::repeat_with(|| words[random.below(words.len())].as_str()).take(POOL_BYTES / 4).collect();
    let text = text.as_bytes();
    assert!(text.len() > FILE_BYTES * 2, "there is enough text");
    let mut bytes = 0;
    for number in 0..FILES {
        let folder = tree.join(format!("{:03}/{:02}", number / 400, number / FILES_A_FOLDER % 20));
        if number % FILES_A_FOLDER == 0 {
            fs::create_dir_all(&folder).expect("cannot make a folder");
        }
        let source = if number % 2 == 0 { text } else { &noise };
        let begin = random.below(source.len() - FILE_BYTES);
        // Its number makes each differ from all others.
        let content = [format!("{number}\n").as_bytes(), &source[begin..begin + FILE_BYTES]].concat();
        bytes += content.len();
        fs::write(folder.join(format!("{number}.bin")), content).expect("cannot write a file");
    }
    bytes
}

/// Changes one byte of one file in the middle.
pub(crate) fn change_a_byte(tree: &Path) {
    let path = tree.join("025/10/10200.bin");
    let mut content = fs::read(&path).expect("the file is there");
    content[100] ^= 1;
    fs::write(path, content).expect("cannot write a file");
}

/// Numbers that look random (xorshift), the same on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        let limit = u64::try_from(limit).expect("a size fits");
        usize::try_from(self.next() % limit).expect("it is below a size")
    }
}
