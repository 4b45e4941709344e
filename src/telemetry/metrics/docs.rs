//! The reference page of the metrics, written from what is declared.

use crate::config::RequestClass;
use crate::spec::rollout::{Arm, Phase, Verdict};
use crate::spec::{AnswerClass, Signature, StopKind};
use std::fmt::Write as _;

use super::Metrics;
use super::declare::Description;
use super::guards::LEASE_OUTCOMES;
use crate::fleet::{BackendState, DiscoveryResult, Finding, Heal};
use crate::telemetry::labels::{
    AbortCause, Dialect, Hedged, Operation, Outcome, Reload, Stage, TokenKind, Traced, Why,
};

const HEAD: &str = "\
# Metrics

<!-- Generated from src/telemetry/metrics; `UPDATE_DOCS=1 cargo test --lib metrics` writes it. -->

`GET /metrics` on the admin address, in the text format of Prometheus. Every label is bounded: by a fixed
list, by the configuration, or by the number of backends. No name, key, path, session or text of a request
becomes a label.

Asked for `application/openmetrics-text`, as Prometheus does, it answers in that format, and buckets of
`drover_request_seconds`, `drover_ttft_seconds` and `drover_inter_token_seconds` name the last request that fell into
them as an exemplar (`request_id`, and `trace_id` of one that is traced; of the gaps in an answer the longest). Prometheus
keeps them with `--enable-feature=exemplar-storage`, Grafana shows them as points that lead to the console.

From a spike to its requests without them: `GET /api/requests?order=ttft&from=…&to=…` lists the last requests with their
ids, and `GET /api/requests/{id}` tells the story of one ([operations.md](operations.md)).

`GET /metrics/backends/{name}` shows one backend as a model server, for endpoint pickers of Kubernetes'
inference gateways, which llama-server itself has no names for: `vllm:num_requests_running`,
`vllm:num_requests_waiting`, `vllm:kv_cache_usage_perc`, `vllm:spec_decode_num_drafts_total`,
`vllm:spec_decode_num_draft_tokens_total`, `vllm:spec_decode_num_accepted_tokens_total` and
`vllm:spec_decode_num_accepted_tokens_per_pos_total` (with `position`), each with `model_name`. Drafts are those that the server
itself has counted since its start; of one that shows no counts (`--metrics`) those of turns through this gateway, without positions.

Beside these there are the usual `process_…` series: CPU, memory, file descriptors, threads.
";

/// Where the values of a label come from.
enum Values {
    /// This list.
    Fixed(Vec<&'static str>),
    /// In words.
    Said(&'static str),
}

fn fixed<T: Copy>(all: &[T], text: impl Fn(T) -> &'static str) -> Values {
    Values::Fixed(all.iter().map(|value| text(*value)).collect())
}

/// What a label may be; `None` for one that nobody has bounded.
fn values(label: &str, metric: &str) -> Option<Values> {
    use Values::{Fixed, Said};
    Some(match label {
        "dialect" => fixed(Dialect::ALL, Dialect::as_str),
        "outcome" if metric == "drover_policy_leases_total" => Fixed(LEASE_OUTCOMES.to_vec()),
        "outcome" => fixed(Outcome::ALL, Outcome::as_str),
        "error_type" => Said("empty, or an `outcome` other than `ok`"),
        "why" => fixed(Why::ALL, Why::as_str),
        "stage" => fixed(Stage::ALL, Stage::as_str),
        "rule" => Said("ids of the rules in force, built in and of `policy.rules`, or `-`"),
        "decision" => Said("what became of a call or turn, see [policy.md](policy.md)"),
        "mode" if metric == "drover_policy_decisions_total" => {
            Said("`enforce` or `dry_run`, see [policy.md](policy.md)")
        }
        "mode" => Fixed(vec!["act", "observe"]),
        "reused" => Fixed(vec!["true", "false"]),
        "kind" if metric == "drover_interventions_total" => {
            Said("the kinds of interventions, see [guards.md](guards.md)")
        }
        "kind" if metric == "drover_spec_tokens_total" => {
            Fixed(vec!["generated", "drafted", "accepted", "rolled_back"])
        }
        "kind" => fixed(TokenKind::ALL, TokenKind::as_str),
        "cause" if metric == "drover_upstream_aborts_total" => {
            fixed(AbortCause::ALL, AbortCause::as_str)
        }
        "cause" if metric == "drover_spec_asked_total" => {
            Fixed(vec!["header", "tool_turn", "rule"])
        }
        "cause" => Said("causes of a changed prompt, see [context.md](context.md)"),
        "end" => fixed(&StopKind::ALL, StopKind::as_str),
        "sign" => Fixed(vec!["malformed", "looping"]),
        "answer" => fixed(&AnswerClass::ALL, AnswerClass::as_str),
        "what" => Said("`build`, `model`, `profile`, or the name of a setting that `/props` shows"),
        "position" => Said("0 to 15, 23, 31, 47 and 63, counted from the beginning of a draft"),
        "explained_by" => Said(
            "what explains most of it, as `build b11434-abc`; one series for each finding that is on",
        ),
        "result" if metric == "drover_config_reloads_total" => fixed(Reload::ALL, Reload::as_str),
        "result" if metric == "drover_discovery_total" => {
            fixed(&DiscoveryResult::ALL, DiscoveryResult::as_str)
        }
        "result" if metric == "drover_traces_total" => fixed(Traced::ALL, Traced::as_str),
        "result" if metric == "drover_rollout_webhooks_total" => Fixed(vec!["sent", "failed"]),
        "result" if metric == "drover_hedges_total" => fixed(Hedged::ALL, Hedged::as_str),
        "result" => Fixed(vec!["hit", "missing", "surplus"]),
        "source" => Fixed(vec!["hdr", "meta", "fp"]),
        "reason" if metric == "drover_queue_rejections_total" => {
            Fixed(vec!["full", "share", "timeout"])
        }
        "reason" if metric == "drover_spec_unavailable_total" => {
            Fixed(vec!["no_backend", "no_room", "reprefill"])
        }
        "reason" if metric == "drover_selections_total" => {
            Said("reasons of a choice, see [fleet.md](fleet.md)")
        }
        "from" if metric == "drover_backend_recovery_seconds" => {
            Fixed(vec!["down", "loading", "wedged", "ejected"])
        }
        "finding" => fixed(&Finding::ALL, Finding::as_str),
        "step" => fixed(&Heal::ALL, Heal::as_str),
        "from" | "to" | "reason" => {
            Said("rungs and reasons of loop protection, see [loops.md](loops.md)")
        }
        "rollout" => Said("`spec.rollouts[].name`"),
        "arm" => fixed(&Arm::ALL, Arm::as_str),
        "bound" => Fixed(vec!["low", "mean", "high"]),
        "verdict" => fixed(&Verdict::ALL, Verdict::as_str),
        "metric" => Fixed(vec!["decode_tps", "ttft"]),
        "busy" => Said(
            "requests on the backend when the turn began: `1`, `2`, `3` (and 4), `5` (and more)",
        ),
        "state" if metric == "drover_rollout_state" => fixed(&Phase::ALL, Phase::as_str),
        "class" if metric == "drover_rollout_difference_ratio" => {
            fixed(&RequestClass::ALL, RequestClass::as_str)
        }
        "class" if metric.starts_with("drover_spec_") => {
            fixed(&RequestClass::ALL, RequestClass::as_str)
        }
        "class" => Fixed(vec!["interactive", "batch"]),
        "signature" => fixed(&Signature::ALL, Signature::as_str),
        "state" => fixed(&BackendState::ALL, BackendState::as_str),
        "pool" => Said("`fleet.pools[].name`, or empty"),
        "backend" => Said("`fleet.pools[].backends[].name`"),
        "profile" => Said("`fleet.pools[].backends[].profile`"),
        "build" | "model" => Said("as the backend reports it"),
        "version" => Said("the running version"),
        "gen_ai_operation_name" => fixed(Operation::ALL, Operation::as_str),
        "gen_ai_provider_name" => Fixed(vec!["llama.cpp"]),
        "gen_ai_request_model" => Said("the matched entry of `fleet.pools[].models`"),
        "gen_ai_token_type" => Fixed(vec!["input", "output"]),
        _ => return None,
    })
}

/// The whole page in Markdown.
///
/// # Errors
/// When the series cannot be declared.
pub fn markdown() -> prometheus::Result<String> {
    let metrics = Metrics::new()?;
    let mut page = HEAD.to_owned();
    let mut chapters: Vec<&str> = Vec::new();
    for series in &metrics.described {
        if !chapters.contains(&series.chapter) {
            chapters.push(series.chapter);
        }
    }
    for chapter in chapters {
        let _ = write!(page, "\n## {chapter}\n");
        let own = metrics.described.iter().filter(|s| s.chapter == chapter);
        own.for_each(|series| describe(&mut page, series));
    }
    Ok(page)
}

fn describe(page: &mut String, series: &Description) {
    let Description {
        name, kind, help, ..
    } = series;
    let _ = write!(page, "\n### {name}\n\n{kind}. {help}\n");
    if !series.labels.is_empty() {
        page.push('\n');
    }
    for label in &series.labels {
        let _ = writeln!(page, "* `{label}`: {}", said(values(label, name)));
    }
    if !series.buckets.is_empty() {
        let bounds: Vec<String> = series.buckets.iter().map(f64::to_string).collect();
        let _ = write!(page, "\nBuckets: {}\n", bounds.join(", "));
    }
}

fn said(values: Option<Values>) -> String {
    match values {
        Some(Values::Fixed(names)) => {
            let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
            names.join(", ")
        }
        Some(Values::Said(text)) => text.to_owned(),
        None => "?".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_metrics_page_is_current() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md");
        let page = markdown().unwrap();
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, &page).unwrap();
        }
        let written = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            written == page,
            "docs/metrics.md is stale: UPDATE_DOCS=1 cargo test --lib metrics"
        );
    }

    #[test]
    fn every_label_is_known_to_be_bounded() {
        for series in Metrics::new().unwrap().described {
            for label in &series.labels {
                let known = values(label, &series.name);
                assert!(known.is_some(), "{label} of {}", series.name);
            }
        }
    }

    #[test]
    fn every_series_says_what_it_is() {
        for series in Metrics::new().unwrap().described {
            assert!(
                series.help.ends_with('.'),
                "{}: {}",
                series.name,
                series.help
            );
        }
    }
}
