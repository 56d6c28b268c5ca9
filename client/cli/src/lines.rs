//! Custodians' key files: a title and then exactly these lines, `name = "value"`, so that they are TOML as well. Read by
//! hand because a private one must leave no copies behind.

use zeroize::Zeroizing;

/// The values under a title, in their order, if the text is exactly that.
pub fn read<'a, const N: usize>(text: &'a str, title: &str, names: [&str; N]) -> Option<[&'a str; N]> {
    let mut rest = text.strip_prefix("# ")?.strip_prefix(title)?.strip_prefix('\n')?;
    let mut values = [""; N];
    for (value, name) in values.iter_mut().zip(names) {
        let (line, after) = rest.split_once('\n')?;
        *value = line.strip_prefix(name)?.strip_prefix(" = \"")?.strip_suffix('"')?;
        rest = after;
        if value.contains(['"', '\\']) {
            return None;
        }
    }
    rest.is_empty().then_some(values)
}

/// The text that [`read`] reads. Its buffer never moves.
pub fn write<const N: usize>(title: &str, fields: [(&str, &str); N]) -> Zeroizing<String> {
    let length: usize = fields.iter().map(|(name, value)| name.len() + value.len() + 6).sum();
    let mut text = Zeroizing::new(String::with_capacity(title.len() + 3 + length));
    for part in ["# ", title, "\n"] {
        text.push_str(part);
    }
    for (name, value) in fields {
        for part in [name, " = \"", value, "\"\n"] {
            text.push_str(part);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_exactly_as_written() {
        let text = write("t", [("a", "1"), ("bc", "2")]);
        assert_eq!(text.as_str(), "# t\na = \"1\"\nbc = \"2\"\n");
        assert_eq!(read(&text, "t", ["a", "bc"]), Some(["1", "2"]));
        assert!(toml::from_str::<toml::Table>(&text).is_ok());
        for bad in [
            "# t\na = \"1\"\n",
            "# t\na = \"1\"\nbc = \"2\"\n\n",
            "# t\nbc = \"2\"\na = \"1\"\n",
            "# t\na = \"1\"\"\nbc = \"2\"\n",
            "",
        ] {
            assert_eq!(read(bad, "t", ["a", "bc"]), None, "{bad:?}");
        }
    }
}
