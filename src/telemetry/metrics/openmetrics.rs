//! The text format of OpenMetrics 1.0
//! (<https://prometheus.io/docs/specs/om/open_metrics_spec/>), which has a place for exemplars.

use std::fmt::Write as _;
use std::time::UNIX_EPOCH;

use http::HeaderMap;
use http::header::ACCEPT;
use prometheus::proto::{LabelPair, Metric, MetricFamily, MetricType};

use super::exemplars::{Exemplar, Exemplars, Family};

/// Content type of the format.
pub const OPENMETRICS_FORMAT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Whether whoever sent these headers prefers it to the older text format.
#[must_use]
pub fn is_wanted(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(ACCEPT).iter();
    let accepted = accepted.filter_map(|value| value.to_str().ok());
    let (mut wanted, mut other) = (0.0, 0.0);
    for range in accepted.flat_map(|value| value.split(',')) {
        let mut parts = range.split(';').map(str::trim);
        let kind = parts.next().unwrap_or_default();
        let weight = parts.find_map(|part| part.strip_prefix("q="));
        let weight: f64 = weight.map_or(1.0, |weight| weight.parse().unwrap_or(0.0));
        let best = match kind {
            "application/openmetrics-text" => &mut wanted,
            "text/plain" => &mut other,
            _ => continue,
        };
        *best = weight.max(*best);
    }
    wanted > 0.0 && wanted >= other
}

/// All of `families`.
pub(super) fn encode(families: &[MetricFamily], exemplars: &Exemplars) -> String {
    let mut out = String::with_capacity(64 * 1024);
    for family in families {
        let (kind, name) = match family.get_field_type() {
            MetricType::COUNTER => ("counter", family.name().trim_end_matches("_total")),
            MetricType::HISTOGRAM => ("histogram", family.name()),
            MetricType::GAUGE => ("gauge", family.name()),
            MetricType::SUMMARY | MetricType::UNTYPED => ("unknown", family.name()),
        };
        // Writing to a string cannot fail.
        let _ = writeln!(out, "# HELP {name} {}", escaped(family.help()));
        let _ = writeln!(out, "# TYPE {name} {kind}");
        let known = exemplars.of(name);
        for metric in family.get_metric() {
            match kind {
                "counter" => {
                    let value = metric.get_counter().get_value();
                    sample(&mut out, name, "_total", metric, value);
                }
                "histogram" => histogram(&mut out, name, metric, &known),
                _ => sample(&mut out, name, "", metric, metric.get_gauge().get_value()),
            }
        }
    }
    out.push_str("# EOF\n");
    out
}

fn sample(out: &mut String, name: &str, suffix: &str, metric: &Metric, value: f64) {
    let _ = write!(out, "{name}{suffix}");
    labels(out, metric.get_label(), None);
    let _ = writeln!(out, " {}", number(value));
}

fn histogram(out: &mut String, name: &str, metric: &Metric, known: &Family) {
    let histogram = metric.get_histogram();
    let count = histogram.get_sample_count();
    let finite = histogram.get_bucket().iter();
    let finite = finite.map(|bucket| (bucket.upper_bound(), bucket.cumulative_count()));
    let finite = finite.filter(|(bound, _)| bound.is_finite());
    let all = finite.chain([(f64::INFINITY, count)]);
    for (index, (bound, below)) in all.enumerate() {
        let _ = write!(out, "{name}_bucket");
        labels(out, metric.get_label(), Some(&canonical(bound)));
        let _ = write!(out, " {below}");
        if let Some(exemplar) = known.of(metric, index) {
            let _ = write!(out, " # {}", shown(exemplar));
        }
        out.push('\n');
    }
    let _ = write!(out, "{name}_count");
    labels(out, metric.get_label(), None);
    let _ = writeln!(out, " {count}");
    sample(out, name, "_sum", metric, histogram.get_sample_sum());
}

fn shown(exemplar: &Exemplar) -> String {
    let since = exemplar.at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let trace = exemplar.trace_id.as_ref();
    let trace = trace.map_or(String::new(), |id| format!("trace_id=\"{id}\","));
    format!(
        "{{{trace}request_id=\"{}\"}} {} {:.3}",
        escaped(&exemplar.request_id),
        number(exemplar.value),
        since.as_secs_f64()
    )
}

fn labels(out: &mut String, labels: &[LabelPair], le: Option<&str>) {
    if labels.is_empty() && le.is_none() {
        return;
    }
    let mut between = '{';
    let pairs = labels.iter().map(|label| (label.name(), label.value()));
    for (name, value) in pairs.chain(le.map(|le| ("le", le))) {
        let _ = write!(out, "{between}{name}=\"{}\"", escaped(value));
        between = ',';
    }
    out.push('}');
}

fn escaped(text: &str) -> String {
    let text = text.replace('\\', r"\\");
    text.replace('"', "\\\"").replace('\n', r"\n")
}

fn number(value: f64) -> String {
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned()
    } else {
        value.to_string()
    }
}

/// A bound in its canonical form: as Go's `%g` has it, and with a fraction where that has none.
fn canonical(bound: f64) -> String {
    if !bound.is_finite() {
        return number(bound);
    }
    let scientific = format!("{bound:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    match exponent.parse::<i32>() {
        Ok(exponent) if !(-4..6).contains(&exponent) => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{digits}e{sign}{:02}", exponent.abs())
        }
        _ => format!("{bound:?}"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::HeaderValue;
    use rstest::rstest;

    use super::super::Metrics;
    use super::*;
    use crate::telemetry::access_log::Record;
    use crate::telemetry::labels::{Configured, Dialect, Outcome};

    #[rstest]
    #[case::prometheus(
        "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
        true
    )]
    #[case::told("application/openmetrics-text", true)]
    #[case::text("text/plain", false)]
    #[case::rather_text("text/plain, application/openmetrics-text;q=0.3", false)]
    #[case::refused("application/openmetrics-text;q=0", false)]
    #[case::anything("*/*", false)]
    fn it_is_given_to_those_who_ask(#[case] accept: &'static str, #[case] wanted: bool) {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static(accept));
        assert_eq!(is_wanted(&headers), wanted);
    }

    #[rstest]
    #[case(1.0, "1.0")]
    #[case(0.000_02, "2e-05")]
    #[case(0.0001, "0.0001")]
    #[case(262_144.0, "262144.0")]
    #[case(1_048_576.0, "1.048576e+06")]
    #[case(f64::INFINITY, "+Inf")]
    fn bounds_are_canonical(#[case] bound: f64, #[case] text: &str) {
        assert_eq!(canonical(bound), text);
    }

    fn record(id: &str, total: f64) -> Record {
        let mut record = Record::new(id.into(), "POST", "/", Dialect::OpenAi);
        record.time = UNIX_EPOCH + Duration::from_secs(1000);
        record.total = Duration::from_secs_f64(total);
        record.ttft = Some(Duration::from_millis(20));
        record.pool = Some("p".into());
        record
    }

    #[test]
    fn a_bucket_names_the_last_request_that_fell_into_it() {
        let metrics = Metrics::new().unwrap();
        let pool = Configured::name("p");
        for (id, total) in [("first", 1.5), ("second", 1.5), ("slow", 4000.0)] {
            let record = record(id, total);
            metrics.request(record.dialect, pool, Outcome::Ok, record.total);
            metrics.witness(&record, None);
        }
        let mut traced = record("traced", 0.3);
        traced.trace_id = Some("4b".into());
        metrics.request(traced.dialect, pool, Outcome::Ok, traced.total);
        metrics.witness(&traced, Some(Duration::from_secs(3)));
        metrics.inter_token(pool).observe(3.0);
        let text = metrics.encode_openmetrics();
        let bucket = |le: &str, rest: &str| {
            format!(
                "drover_request_seconds_bucket{{dialect=\"openai\",pool=\"p\",le=\"{le}\"}} {rest}\n"
            )
        };
        for line in [
            bucket("2.5", r#"3 # {request_id="second"} 1.5 1001.500"#),
            bucket("5.0", "3"),
            bucket("+Inf", r#"4 # {request_id="slow"} 4000 5000.000"#),
            bucket("0.5", r#"1 # {trace_id="4b",request_id="traced"} 0.3 1000.300"#),
            "drover_inter_token_seconds_bucket{pool=\"p\",le=\"10.0\"} 1 # {trace_id=\"4b\",request_id=\"traced\"} 3 1000.300\n".to_owned(),
            "# TYPE drover_requests counter\n".to_owned(),
            "drover_requests_total{dialect=\"openai\",outcome=\"ok\",pool=\"p\"} 4\n".to_owned(),
        ] {
            assert!(text.contains(&line), "{line} in {text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }

    /// Whichever format is asked for: the same samples.
    #[test]
    fn both_formats_tell_the_same() {
        let metrics = Metrics::new().unwrap();
        metrics.request(
            Dialect::OpenAi,
            Configured::NONE,
            Outcome::Ok,
            Duration::from_secs(1),
        );
        let count = |text: &str| {
            let samples = text.lines().filter(|line| !line.starts_with('#'));
            samples.filter(|line| !line.starts_with("process_")).count()
        };
        let plain = String::from_utf8(metrics.encode().unwrap()).unwrap();
        assert_eq!(count(&metrics.encode_openmetrics()), count(&plain));
    }
}
