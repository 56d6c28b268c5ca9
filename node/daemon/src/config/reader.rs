//! Walks over the parsed file: takes each setting by name, remembers where it stood, and refuses what nobody asked for.

use super::place::{Mistake, Mistakes, nearest};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    ops::{Range, RangeInclusive},
    path::{Path, PathBuf},
    str::FromStr,
};
use toml::de::{DeTable, DeValue};

/// What every variable of ours begins with.
pub(super) const PREFIX: &str = "CLAVIGERD_";
/// Longest configuration file, in bytes.
const FILE_BYTES_MAX: usize = 1 << 20;

/// One value as it was given.
#[derive(Clone, Debug)]
enum Raw {
    Text(String),
    Number(u64),
    Flag(bool),
    List(Vec<String>),
    /// From the environment: whatever its text can be read as.
    Variable(String),
    /// A form that no setting has.
    Other,
}

/// One leaf of the file.
struct Leaf {
    line: usize,
    raw: Raw,
}

pub(super) struct Reader<'a> {
    file: &'a Path,
    leaves: BTreeMap<(String, String), Leaf>,
    /// Line of each section's head.
    sections: BTreeMap<String, usize>,
    variables: BTreeMap<String, String>,
    asked: BTreeSet<(&'static str, String)>,
    /// Sections whose keys are the operator's own.
    free: BTreeSet<&'static str>,
    mistakes: Vec<Mistake>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(file: &'a Path, text: &str, variables: BTreeMap<String, String>) -> Result<Self, Mistakes> {
        let mut reader = Reader {
            file,
            leaves: BTreeMap::new(),
            sections: BTreeMap::new(),
            variables,
            asked: BTreeSet::new(),
            free: BTreeSet::new(),
            mistakes: Vec::new(),
        };
        if text.len() > FILE_BYTES_MAX {
            return Err(Mistakes(vec![Mistake::of_file(file, "longer than 1 MiB".into())]));
        }
        match DeTable::parse(text) {
            Ok(table) => reader.flatten(text, "", table.get_ref()),
            Err(e) => return Err(Mistakes(vec![reader.syntax(text, &e)])),
        }
        Ok(reader)
    }

    fn syntax(&self, text: &str, e: &toml::de::Error) -> Mistake {
        let place = e.span().map_or_else(|| self.file.display().to_string(), |s| self.at(line_of(text, &s)));
        Mistake { place, key: String::new(), what: format!("not TOML: {}", e.message()) }
    }

    fn flatten(&mut self, text: &str, section: &str, table: &DeTable<'_>) {
        for (key, value) in table {
            let (name, line) = (key.get_ref().to_string(), line_of(text, &key.span()));
            match value.get_ref() {
                DeValue::Table(inner) => {
                    let path = if section.is_empty() { name } else { format!("{section}.{name}") };
                    self.sections.entry(path.clone()).or_insert(line);
                    self.flatten(text, &path, inner);
                }
                leaf => {
                    self.leaves.insert((section.to_owned(), name), Leaf { line, raw: raw(leaf) });
                }
            }
        }
    }

    /// A whole number within a range.
    pub(super) fn number(
        &mut self,
        section: &'static str,
        key: &'static str,
        default: Option<u64>,
        range: RangeInclusive<u64>,
    ) -> Option<u64> {
        let wanted = format!("a whole number from {} to {}", range.start(), range.end());
        self.take(section, key, default, &wanted, |raw| match raw {
            Raw::Number(n) => Some(*n).filter(|n| range.contains(n)),
            Raw::Variable(text) => text.parse().ok().filter(|n| range.contains(n)),
            Raw::Text(_) | Raw::Flag(_) | Raw::List(_) | Raw::Other => None,
        })
    }

    /// True or false.
    pub(super) fn flag(&mut self, section: &'static str, key: &'static str, default: bool) -> Option<bool> {
        self.take(section, key, Some(default), "true or false", |raw| match raw {
            Raw::Flag(x) => Some(*x),
            Raw::Variable(text) => text.parse().ok(),
            Raw::Text(_) | Raw::Number(_) | Raw::List(_) | Raw::Other => None,
        })
    }

    /// An IP address with its port.
    pub(super) fn address(&mut self, section: &'static str, key: &'static str, default: &str) -> Option<SocketAddr> {
        let default = default.parse().ok();
        self.take(section, key, default, "an IP address and a port, such as \"10.0.0.1:7001\"", |raw| {
            text(raw)?.parse().ok()
        })
    }

    /// A path, relative to the file's folder.
    pub(super) fn path(&mut self, section: &'static str, key: &'static str) -> Option<PathBuf> {
        let base = self.file.parent().unwrap_or(Path::new("")).to_owned();
        let given = |raw: &Raw| text(raw).filter(|t| !t.is_empty()).map(|t| base.join(t));
        self.take(section, key, None, "a path", given)
    }

    /// Anything that says itself what its text must be.
    pub(super) fn parsed<T: FromStr>(&mut self, section: &'static str, key: &'static str) -> Option<T> {
        self.take(section, key, None, "a name: [a-z0-9][a-z0-9._-]{0,62}", |raw| text(raw)?.parse().ok())
    }

    /// One of a few words.
    pub(super) fn choice(
        &mut self,
        section: &'static str,
        key: &'static str,
        default: Option<&'static str>,
        words: &'static [&'static str],
    ) -> Option<&'static str> {
        let wanted = format!("one of {}", words.join(", "));
        self.take(section, key, default, &wanted, |raw| words.iter().find(|w| text(raw) == Some(**w)).copied())
    }

    /// A list of texts; in the environment separated by commas.
    pub(super) fn list(&mut self, section: &'static str, key: &'static str) -> Option<Vec<String>> {
        self.take(section, key, None, "a list of texts", |raw| match raw {
            Raw::List(items) => Some(items.clone()),
            Raw::Variable(text) => Some(text.split(',').map(|t| t.trim().to_owned()).collect()),
            Raw::Text(_) | Raw::Number(_) | Raw::Flag(_) | Raw::Other => None,
        })
    }

    /// All texts of a section whose keys are the operator's own.
    pub(super) fn all(&mut self, section: &'static str) -> Vec<(String, String)> {
        self.free.insert(section);
        let prefix = variable(section, "");
        let mut keys: BTreeSet<String> =
            self.leaves.keys().filter(|(s, _)| s == section).map(|k| k.1.clone()).collect();
        keys.extend(self.variables.keys().filter_map(|v| v.strip_prefix(&prefix)).map(str::to_ascii_lowercase));
        let take = |key: String| {
            let value = self.take_free(section, &key)?;
            Some((key, value))
        };
        keys.into_iter().filter_map(take).collect()
    }

    fn take_free(&mut self, section: &'static str, key: &str) -> Option<String> {
        self.asked.insert((section, key.to_owned()));
        let (place, raw) = self.find(section, key)?;
        let found = text(&raw).map(str::to_owned);
        if found.is_none() {
            self.mistake(place, section, key, "wanted a text");
        }
        found
    }

    /// Refuses a key that its siblings leave no meaning.
    pub(super) fn absent(&mut self, section: &'static str, key: &'static str, why: &str) {
        self.asked.insert((section, key.to_owned()));
        if let Some((place, _)) = self.find(section, key) {
            self.mistake(place, section, key, why);
        }
    }

    /// Refuses a setting that was read and is well-formed.
    pub(super) fn refuse(&mut self, section: &'static str, key: &'static str, why: &str) {
        self.refuse_free(section, key, why);
    }

    /// The same, in a section whose keys are the operator's own.
    pub(super) fn refuse_free(&mut self, section: &'static str, key: &str, why: &str) {
        let place = self.find(section, key).map_or_else(|| self.file.display().to_string(), |f| f.0);
        self.mistake(place, section, key, why);
    }

    /// Refuses a section as a whole.
    pub(super) fn refuse_section(&mut self, section: &'static str, why: &str) {
        let place = self.sections.get(section).map_or_else(|| self.file.display().to_string(), |l| self.at(*l));
        self.mistakes.push(Mistake { place, key: section.to_owned(), what: why.to_owned() });
    }

    /// Refuses what nobody asked for; then says what stands.
    pub(super) fn finish<T>(mut self, value: Option<T>) -> Result<T, Mistakes> {
        self.unknown_leaves();
        self.unknown_variables();
        match value {
            Some(value) if self.mistakes.is_empty() => Ok(value),
            Some(_) | None => Err(Mistakes(self.mistakes)),
        }
    }

    fn unknown_leaves(&mut self) {
        let known: Vec<String> = self.asked.iter().map(|(s, k)| format!("{s}.{k}")).collect();
        let named: BTreeSet<String> = self.asked.iter().map(|(s, _)| (*s).to_owned()).collect();
        for ((section, key), leaf) in &self.leaves {
            let full = if section.is_empty() { key.clone() } else { format!("{section}.{key}") };
            if self.free.contains(section.as_str()) || known.contains(&full) {
                continue;
            }
            let guess = nearest(&full, known.iter().map(String::as_str));
            self.mistakes.push(Mistake { place: self.at(leaf.line), key: full.clone(), what: unknown("key", guess) });
        }
        for (section, line) in &self.sections {
            let parent = named.iter().any(|n| n == section || n.starts_with(&format!("{section}.")));
            let empty = !self.leaves.keys().any(|(s, _)| s == section);
            if !parent && empty && !self.free.contains(section.as_str()) {
                let guess = nearest(section, named.iter().map(String::as_str));
                let what = unknown("section", guess);
                self.mistakes.push(Mistake { place: self.at(*line), key: section.clone(), what });
            }
        }
    }

    fn unknown_variables(&mut self) {
        let known: Vec<String> = self.asked.iter().map(|(s, k)| variable(s, k)).collect();
        for name in self.variables.keys().filter(|v| !known.contains(v)) {
            let guess = nearest(name, known.iter().map(String::as_str));
            let place = format!("environment variable {name}");
            self.mistakes.push(Mistake { place, key: String::new(), what: unknown("setting", guess) });
        }
    }

    fn take<T>(
        &mut self,
        section: &'static str,
        key: &'static str,
        default: Option<T>,
        wanted: &str,
        read: impl FnOnce(&Raw) -> Option<T>,
    ) -> Option<T> {
        self.asked.insert((section, key.to_owned()));
        let Some((place, raw)) = self.find(section, key) else {
            if default.is_none() {
                let place = self.sections.get(section).map_or_else(|| self.file.display().to_string(), |l| self.at(*l));
                self.mistake(place, section, key, &format!("missing; wanted {wanted}"));
            }
            return default;
        };
        let value = read(&raw);
        if value.is_none() {
            self.mistake(place, section, key, &format!("wanted {wanted}"));
        }
        value
    }

    /// A value with its place: the environment's before the file's.
    fn find(&self, section: &str, key: &str) -> Option<(String, Raw)> {
        let name = variable(section, key);
        if let Some(value) = self.variables.get(&name) {
            return Some((format!("environment variable {name}"), Raw::Variable(value.clone())));
        }
        let leaf = self.leaves.get(&(section.to_owned(), key.to_owned()))?;
        Some((self.at(leaf.line), leaf.raw.clone()))
    }

    fn mistake(&mut self, place: String, section: &str, key: &str, what: &str) {
        self.mistakes.push(Mistake { place, key: format!("{section}.{key}"), what: what.to_owned() });
    }

    fn at(&self, line: usize) -> String {
        format!("{}:{line}", self.file.display())
    }
}

fn unknown(what: &str, guess: Option<&str>) -> String {
    match guess {
        Some(guess) => format!("no such {what}; did you mean {guess}?"),
        None => format!("no such {what}"),
    }
}

/// `CLAVIGERD_<SECTION>_<KEY>`
fn variable(section: &str, key: &str) -> String {
    format!("{PREFIX}{}_{}", section.replace('.', "_"), key).to_ascii_uppercase()
}

fn text(raw: &Raw) -> Option<&str> {
    match raw {
        Raw::Text(text) | Raw::Variable(text) => Some(text),
        Raw::Number(_) | Raw::Flag(_) | Raw::List(_) | Raw::Other => None,
    }
}

fn raw(value: &DeValue<'_>) -> Raw {
    match value {
        DeValue::String(text) => Raw::Text(text.to_string()),
        DeValue::Boolean(flag) => Raw::Flag(*flag),
        DeValue::Integer(n) => u64::from_str_radix(n.as_str(), n.radix()).map_or(Raw::Other, Raw::Number),
        DeValue::Array(items) => {
            let texts = items.iter().map(|i| i.get_ref().as_str().map(str::to_owned)).collect::<Option<Vec<_>>>();
            texts.map_or(Raw::Other, Raw::List)
        }
        _ => Raw::Other,
    }
}

/// The line that a span begins on, counted from 1.
fn line_of(text: &str, span: &Range<usize>) -> usize {
    let before = text.as_bytes().get(..span.start).unwrap_or(text.as_bytes());
    1 + before.iter().filter(|b| **b == b'\n').count()
}
