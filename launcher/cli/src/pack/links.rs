//! What becomes of a symbolic link inside a packed folder.

use std::fs;
use std::path::{Component, Path, PathBuf};

use super::walk::LinkPlan;
use super::{PackError, read_error};

/// Decides about the link at `path`, which lies somewhere below the canonical folder `root`.
///
/// | target | becomes |
/// | --- | --- |
/// | inside `root`, relative, never above it on the way | the same link |
/// | inside `root` by another way (absolute, `../root/x`) | a relative link to the same place |
/// | outside | its content |
/// | missing, but by its text inside `root` | the same link: editors leave such (`.#file`) |
/// | missing, outside | an error |
pub(super) fn plan(root: &Path, path: &Path) -> Result<LinkPlan, PackError> {
    let text = fs::read_link(path).map_err(|error| read_error(path, error))?;
    let parent = path.parent().unwrap_or(root);
    let depth = parent.strip_prefix(root).map_or(0, |below| below.components().count());
    let stays = stays_inside(&text, depth);
    match fs::canonicalize(path) {
        Ok(target) if target.starts_with(root) => {
            if stays {
                return Ok(LinkPlan::Keep(text));
            }
            let parent = fs::canonicalize(parent).map_err(|error| read_error(parent, error))?;
            Ok(LinkPlan::Keep(relative(&parent, &target)))
        }
        Ok(target) => Ok(LinkPlan::Follow(target)),
        Err(_) if stays => Ok(LinkPlan::Keep(text)),
        Err(_) => Err(PackError::DanglingLink { path: path.to_owned(), target: text }),
    }
}

/// Whether a link text, read `depth` folders below the root, never climbs above the root.
fn stays_inside(text: &Path, mut depth: usize) -> bool {
    for component in text.components() {
        match component {
            Component::Normal(_) => depth += 1,
            Component::ParentDir if depth == 0 => return false,
            Component::ParentDir => depth -= 1,
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => return false,
        }
    }
    true
}

/// The way from one absolute folder to another absolute path.
fn relative(from: &Path, to: &Path) -> PathBuf {
    let common = from.components().zip(to.components()).take_while(|(left, right)| left == right).count();
    let up = from.components().skip(common).map(|_| Component::ParentDir);
    let path: PathBuf = up.chain(to.components().skip(common)).collect();
    if path.as_os_str().is_empty() { PathBuf::from(".") } else { path }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn climbing_is_noticed_at_any_depth() {
        assert!(stays_inside(Path::new("a/../b"), 0));
        assert!(stays_inside(Path::new("../../b"), 2));
        assert!(!stays_inside(Path::new("../b"), 0));
        assert!(!stays_inside(Path::new("a/../../b"), 0));
        assert!(!stays_inside(Path::new("/b"), 5));
    }

    #[test]
    fn ways_between_paths() {
        assert_eq!(relative(Path::new("/s/a/b"), Path::new("/s/c/d")), Path::new("../../c/d"));
        assert_eq!(relative(Path::new("/s"), Path::new("/s/c")), Path::new("c"));
        assert_eq!(relative(Path::new("/s"), Path::new("/s")), Path::new("."));
    }
}
