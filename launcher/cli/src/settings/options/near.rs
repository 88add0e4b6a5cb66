//! What somebody who made a typing mistake may have meant.

/// The candidate nearest to what was written, if one is near enough to be meant.
///
/// Dashes and underscores count as equal, and a candidate also matches by its last part alone
/// (`node_count` for `mesh.node_count`).
pub(crate) fn nearest<'a>(written: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |text: &str| text.replace('-', "_").to_lowercase();
    let written = plain(written);
    // One typing mistake in a short word, one more for every four letters.
    let reach = 1 + written.len() / 4;
    candidates
        .into_iter()
        .map(|candidate| {
            let whole = plain(candidate);
            let last = whole.rsplit('.').next().unwrap_or(&whole);
            let distance = |name: &str| strsim::damerau_levenshtein(&written, name);
            // The whole name is preferred where both are as near.
            ((2 * distance(&whole)).min(2 * distance(last) + 1), candidate)
        })
        .filter(|(distance, _)| distance / 2 <= reach)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::super::OPTIONS;
    use super::*;

    #[test]
    fn the_nearest_name_is_offered_only_when_it_is_near() {
        let keys = || OPTIONS.iter().map(|option| option.key);
        assert_eq!(nearest("mesh.node_conut", keys()), Some("mesh.node_count"));
        assert_eq!(nearest("node-count", keys()), Some("mesh.node_count"));
        assert_eq!(nearest("yt-path", keys()), Some("yt_path"));
        assert_eq!(nearest("bind_locl", keys()), Some("bind_local"));
        assert_eq!(nearest("sidecar", keys()), Some("sidecars"));
        assert_eq!(nearest("colour", keys()), None);
        assert_eq!(nearest("x", keys()), None);
    }
}
