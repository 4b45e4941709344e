//! Counters of speculation, read from Prometheus text (version 0.0.4).

use super::artifact::Counters;

/// The sum of a series over all its label sets that have every one of `labels`; none when it is not there at all.
fn sum(text: &str, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let mut found = None;
    for line in text.lines() {
        let Some(rest) = line.strip_prefix(name) else {
            continue;
        };
        let (have, value) = match rest.split_once(' ') {
            Some((have, value)) if have.is_empty() || have.starts_with('{') => (have, value),
            _ => continue,
        };
        let has = |(key, value): &(&str, &str)| {
            let label = format!("{key}=\"{value}\"");
            let mut places = have.match_indices(&label);
            places.any(|(at, _)| matches!(have.as_bytes()[at - 1], b'{' | b','))
        };
        if labels.iter().all(has)
            && let Ok(value) = value.trim().parse::<f64>()
        {
            *found.get_or_insert(0.0) += value;
        }
    }
    found
}

/// What llama-server has counted; none where it does not count drafts.
pub(super) fn of_server(text: &str) -> Option<Counters> {
    let count = |name: &str| {
        sum(text, &format!("llamacpp:spec_decode_num_{name}_total"), &[]).map(|n| n as u64)
    };
    Some(Counters {
        drafted: count("draft_tokens")?,
        accepted: count("accepted_tokens")?,
        verify_steps: count("drafts")?,
    })
}

/// What the gateway has counted for those with these labels.
pub(super) fn of_gateway(text: &str, labels: &[(&str, &str)]) -> Counters {
    let count = |name: &str, more: Option<(&str, &str)>| {
        let labels: Vec<_> = labels.iter().copied().chain(more).collect();
        sum(text, name, &labels).unwrap_or(0.0) as u64
    };
    let tokens = |kind| count("drover_spec_tokens_total", Some(("kind", kind)));
    Counters {
        drafted: tokens("drafted"),
        accepted: tokens("accepted"),
        verify_steps: count("drover_spec_verify_steps_total", None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_summed_by_label() {
        let text = "# TYPE drover_spec_tokens_total counter\n\
            drover_spec_tokens_total{build=\"b\",kind=\"drafted\",pool=\"bench-1\"} 7\n\
            drover_spec_tokens_total{build=\"c\",kind=\"drafted\",pool=\"bench-1\"} 5\n\
            drover_spec_tokens_total{build=\"b\",kind=\"drafted\",pool=\"bench-10\"} 100\n\
            drover_spec_tokens_total{build=\"b\",kind=\"accepted\",pool=\"bench-1\"} 4\n\
            drover_spec_verify_steps_total{build=\"b\",pool=\"bench-1\"} 3\n\
            drover_spec_verify_steps_total_other 99\n";
        let counted = of_gateway(text, &[("pool", "bench-1")]);
        let all = (counted.drafted, counted.accepted, counted.verify_steps);
        assert_eq!(all, (12, 4, 3));
        assert_eq!(
            of_gateway(text, &[("pool", "bench-2")]),
            Counters::default()
        );
    }

    #[test]
    fn a_servers_own_counters_are_read() {
        let text = "llamacpp:spec_decode_num_draft_tokens_total 24\n\
            llamacpp:spec_decode_num_accepted_tokens_total 16\n\
            llamacpp:spec_decode_num_accepted_tokens_per_pos_total{position=\"0\"} 6\n\
            llamacpp:spec_decode_num_drafts_total 8\n";
        let counted = of_server(text).unwrap();
        assert_eq!(
            (counted.drafted, counted.accepted, counted.verify_steps),
            (24, 16, 8)
        );
        assert_eq!(of_server("llamacpp:n_decode_total 3\n"), None);
    }
}
