//! An access line for people.

use std::fmt;

use super::Record;

impl Record {
    /// One line for people.
    #[must_use]
    pub fn text(&self) -> String {
        struct Text<'a>(&'a Record);
        impl fmt::Display for Text<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt_text(f)
            }
        }
        Text(self).to_string()
    }

    fn fmt_text(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {} {} {} {} {}ms",
            humantime::format_rfc3339_millis(self.time),
            self.method,
            self.path,
            self.status,
            self.outcome.as_str(),
            self.total.as_millis(),
        )?;
        let mut pair = |name: &str, value: Option<&dyn fmt::Display>| match value {
            Some(value) => write!(f, " {name}={value}"),
            None => Ok(()),
        };
        pair(
            "ttft_ms",
            self.ttft.map(|t| t.as_millis()).as_ref().map(display),
        )?;
        pair("model", self.model.as_ref().map(display))?;
        pair("pool", self.pool.as_ref().map(display))?;
        pair("backend", self.backend.as_ref().map(display))?;
        let ran = self.spec.as_ref().map(|spec| &spec.profile);
        pair("profile", ran.map(display))?;
        pair(
            "attempts",
            (self.attempts > 1).then_some(&self.attempts).map(display),
        )?;
        pair("tokens_in", self.tokens_in.as_ref().map(display))?;
        pair("tokens_cached", self.tokens_cached.as_ref().map(display))?;
        pair("tokens_out", self.tokens_out.as_ref().map(display))?;
        pair("stop", self.stop_reason.as_ref().map(display))?;
        pair("error", self.error.as_ref().map(display))?;
        let interventions = self.interventions.join(",");
        pair(
            "interventions",
            (!interventions.is_empty())
                .then_some(&interventions)
                .map(display),
        )?;
        let policy = self.policy.join(",").replace(' ', ":");
        pair(
            "policy",
            (!policy.is_empty()).then_some(&policy).map(display),
        )?;
        pair(
            "overhead_us",
            self.overhead.map(|t| t.as_micros()).as_ref().map(display),
        )?;
        pair("principal", self.principal.as_ref().map(display))?;
        pair("session", self.session.as_ref().map(display))?;
        pair("trace_id", self.trace_id.as_ref().map(display))?;
        write!(f, " request_id={}", self.request_id)
    }
}

fn display<T: fmt::Display>(value: &T) -> &dyn fmt::Display {
    value
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::record;

    #[test]
    fn text_form_is_one_readable_line() {
        assert_eq!(
            record().text(),
            "2023-11-14T22:13:20.123Z POST /v1/chat/completions 200 ok 310ms ttft_ms=42 model=qwen \
             pool=default backend=gpu0 attempts=2 tokens_in=100 tokens_cached=60 tokens_out=7 \
             stop=stop overhead_us=180 request_id=01J"
        );
    }
}
