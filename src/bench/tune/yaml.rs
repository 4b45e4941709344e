//! What was found, as a configuration with its evidence.

use std::fmt::Write as _;

use super::Found;
use crate::config::SpecProfile;

impl Found {
    /// What to write into the configuration, with the evidence in comments.
    pub fn to_yaml(&self) -> String {
        let percent = |ln: f64| (ln.exp() - 1.0) * 100.0;
        let mut text = String::new();
        let (mut profiles, mut rules) = (String::new(), String::new());
        // Writing to a text does not fail.
        for (workload, winner) in &self.winners {
            let name = workload.as_str();
            let settings = settings(&winner.profile);
            let _ = match winner.evidence {
                Some((interval, estimate, n)) => writeln!(
                    text,
                    "# {name}: {settings}\n#   decode {:+.0} % against no speculation ({:+.0} … {:+.0}, all intervals \
                     together hold with 95 %), {n} prompts; accept length {}",
                    percent(estimate),
                    percent(interval.low),
                    percent(interval.high),
                    winner
                        .accept_length
                        .map_or("–".to_owned(), |length| format!("{length:.2}")),
                ),
                None => writeln!(
                    text,
                    "# {name}: {settings}\n#   not confirmed, the budget did not reach; {:+.0} % while it was looked for",
                    percent(winner.score)
                ),
            };
            let classes: Vec<&str> = winner.classes.iter().map(|class| class.as_str()).collect();
            if winner.is_faster() {
                let _ = writeln!(profiles, "    tuned-{name}: {settings}");
                let _ = writeln!(
                    rules,
                    "    - {{ classes: [{}], profile: tuned-{name} }}",
                    classes.join(", ")
                );
            } else {
                let _ = writeln!(
                    text,
                    "#   not faster beyond doubt: no speculation for {name}"
                );
            }
        }
        if self.cut_short {
            text.push_str("# The budget ended the search before it was through.\n");
        }
        if !profiles.is_empty() {
            let _ = write!(text, "spec:\n  profiles:\n{profiles}  rules:\n{rules}");
        }
        text
    }
}

/// A profile as the configuration writes it.
fn settings(profile: &SpecProfile) -> String {
    let mut parts = vec![format!("type: {}", profile.kind.as_str())];
    let mut number = |name: &str, value: Option<f64>| {
        if let Some(value) = value {
            parts.push(format!("{name}: {value}"));
        }
    };
    number("n_match", profile.n_match.map(f64::from));
    number("n_min", profile.n_min.map(f64::from));
    number("n_max", profile.n_max.map(f64::from));
    number("p_min", profile.p_min);
    format!("{{ {} }}", parts.join(", "))
}
