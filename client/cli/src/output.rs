//! What a verb answers, as a table for people or as JSON for programs.

use crate::failure::Failure;
use clap::ValueEnum;
use serde::Deserialize;
use serde_json::Value;
use std::io::{ErrorKind, Write};

/// How to answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// For people. May change.
    #[default]
    Table,
    /// For programs: one JSON value, its form kept.
    Json,
}

/// What a verb answers, in both forms.
pub struct Report {
    /// For programs; nothing where the verb's answer is not about itself (a ciphertext, completions).
    pub json: Value,
    /// For people.
    pub text: String,
    /// The exit code: 0, or 2 for a status that says sealed.
    pub exit: u8,
}

impl Report {
    /// An answer of a verb that did what was asked.
    pub fn new(json: Value, text: impl Into<String>) -> Self {
        Report { json, text: text.into(), exit: 0 }
    }

    /// No answer: everything has been written where it belongs.
    pub fn silent() -> Self {
        Report::new(Value::Null, "")
    }
}

/// Where answers go.
pub struct Out {
    format: Format,
}

impl Out {
    pub fn new(format: Format) -> Self {
        Out { format }
    }

    /// Prints a report. A reader that went away early (`| head`) is no error.
    pub fn show(&self, report: &Report) -> Result<(), Failure> {
        let text = match self.format {
            Format::Table if report.text.is_empty() => return Ok(()),
            Format::Json if report.json.is_null() => return raw(report.text.as_bytes()),
            Format::Table => format!("{}\n", report.text.trim_end()),
            Format::Json => format!("{}\n", report.json),
        };
        raw(text.as_bytes())
    }

    /// A line on the way, for people only.
    pub fn progress(&self, line: &str) -> Result<(), Failure> {
        match self.format {
            Format::Table => raw(format!("{line}\n").as_bytes()),
            Format::Json => Ok(()),
        }
    }
}

/// Writes bytes to the standard output.
pub fn raw(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => Err(Failure::new(format!("the standard output: {e}"))),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Columns of equal width, the last one ragged.
pub fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = head.iter().map(|h| h.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded: Vec<String> = cells.zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        padded.join("  ").trim_end().to_owned()
    };
    let mut lines = vec![line(&mut head.iter().copied())];
    lines.extend(rows.iter().map(|row| line(&mut row.iter().map(String::as_str))));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_under_each_other() {
        let rows = [
            vec!["a".to_owned(), "long name".to_owned(), "x".to_owned()],
            vec!["bb".into(), "n".into(), String::new()],
        ];
        assert_eq!(table(&["id", "name", "y"], &rows), "id  name       y\na   long name  x\nbb  n");
    }
}
