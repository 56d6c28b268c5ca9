//! A mistake, and where it stands.

use std::{fmt, path::Path};

/// One mistake in the configuration. Says what was wanted, never what was given: that may be a secret in the wrong place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// `file:line`, `file`, or the variable of the environment.
    pub place: String,
    /// `section.key`, or nothing where the mistake is the file's.
    pub key: String,
    /// What is wrong, and what was wanted.
    pub what: String,
}

impl Mistake {
    /// A mistake of a file as a whole.
    pub fn of_file(file: &Path, what: String) -> Self {
        Mistake { place: file.display().to_string(), key: String::new(), what }
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.key.as_str() {
            "" => write!(f, "{}: {}", self.place, self.what),
            key => write!(f, "{}: {key}: {}", self.place, self.what),
        }
    }
}

/// Every mistake that was found, one a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistakes(pub Vec<Mistake>);

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines = self.0.iter();
        lines.next().map_or(Ok(()), |first| write!(f, "{first}"))?;
        lines.try_for_each(|m| write!(f, "\n{m}"))
    }
}

impl std::error::Error for Mistakes {}

/// The candidate that is fewest edits from `word`, if it is near enough to have been meant.
pub(super) fn nearest<'c>(word: &str, candidates: impl Iterator<Item = &'c str>) -> Option<&'c str> {
    let near = candidates.map(|c| (edits(word, c), c)).min()?;
    (near.0 <= 1 + word.len() / 3).then_some(near.1)
}

/// Levenshtein's distance, in bytes.
fn edits(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let change = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = change.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_the_one_that_was_meant() {
        let known = ["data_dir", "id", "cluster", "region"];
        assert_eq!(nearest("datadir", known.into_iter()), Some("data_dir"));
        assert_eq!(nearest("clutser", known.into_iter()), Some("cluster"));
        assert_eq!(nearest("verbose", known.into_iter()), None);
        assert_eq!(edits("kitten", "sitting"), 3);
    }
}
