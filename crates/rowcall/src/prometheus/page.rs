//! The text format of Prometheus.

use std::fmt::{Display, Write as _};

/// The text under construction. Writing to a text does not fail.
#[derive(Debug, Default)]
pub(crate) struct Page(pub(super) String);

impl Page {
    /// Begins a family: its values follow.
    pub(crate) fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// A value of the family that was begun last.
    pub(crate) fn value(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.0.push_str(name);
        for (index, (label, text)) in labels.iter().enumerate() {
            let text = text
                .replace('\\', "\\\\")
                .replace('"', "\\\"")
                .replace('\n', "\\n");
            let start = if index == 0 { '{' } else { ',' };
            let _ = write!(self.0, "{start}{label}=\"{text}\"");
        }
        if !labels.is_empty() {
            self.0.push('}');
        }
        let _ = writeln!(self.0, " {value}");
    }
}

#[cfg(test)]
mod tests {
    use super::Page;

    #[test]
    fn labels_are_escaped() {
        let mut page = Page::default();
        page.family("a", "gauge", "b.");
        page.value("a", &[("x", "q\"\\\n"), ("y", "z")], 3);
        assert_eq!(
            page.0,
            "# HELP a b.\n# TYPE a gauge\na{x=\"q\\\"\\\\\\n\",y=\"z\"} 3\n"
        );
    }
}
