//! A comparison for people.

use std::fmt::Write as _;

use super::{Change, Comparison};

impl Comparison {
    /// For people.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        let (a, b) = &self.artifacts;
        let how = match self.paired {
            true => "prompt by prompt",
            false => "as two samples",
        };
        // Writing to a text does not fail.
        let _ = writeln!(
            text,
            "A {a}\nB {b}\ncompared {how}; all words together hold with {:.0} %\n",
            self.confidence * 100.0
        );
        for warning in &self.warnings {
            let _ = writeln!(text, "note: {warning}");
        }
        for cell in &self.cells {
            let (name, workload) = (&cell.contestant, cell.workload.as_str());
            let _ = writeln!(text, "{:<14} {name}, {workload}", cell.verdict.to_string());
            for change in &cell.changes {
                let _ = writeln!(text, "    {}", change.to_text());
            }
        }
        text
    }
}

impl Change {
    fn to_text(&self) -> String {
        let name = self.metric.as_str();
        let (a, b) = self.values;
        let percent = |part: f64| part * 100.0;
        match (self.change, self.p) {
            (Some((estimate, low, high)), _) => format!(
                "{name:<15} {a:>9.2} -> {b:>9.2}  {:+6.1} % ({:+.1} … {:+.1}), n {}  {}",
                percent(estimate),
                percent(low),
                percent(high),
                self.n,
                self.verdict
            ),
            (None, p) => format!(
                "{name:<15} {:>7.1} % -> {:>7.1} %  p {:.3}, n {}  {}",
                percent(a),
                percent(b),
                p.unwrap_or(1.0),
                self.n,
                self.verdict
            ),
        }
    }
}
