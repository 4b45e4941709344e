//! The backends of one pool beside each other.

use std::collections::BTreeMap;

use super::Severity::{Error, Warning};
use super::said::Said;
use super::{Finding, Severity};

pub(super) fn examine(pool: &[Said<'_>], findings: &mut Vec<Finding>) {
    let model = |said: &Said<'_>| {
        let meta = said.model()?.meta.as_ref()?;
        Some(format!(
            "{} parameters, vocabulary {}",
            meta.n_params?, meta.n_vocab?
        ))
    };
    let other_models = differ(
        pool,
        model,
        (
            Error,
            "mixed_models",
            "the backends serve different models",
            "a conversation that changes its backend changes its model",
            "put each model into a pool of its own",
        ),
    );
    let same_model = other_models.is_none();
    findings.extend(other_models);
    if same_model {
        let file = |said: &Said<'_>| said.model()?.meta.as_ref()?.ftype.clone();
        findings.extend(differ(
            pool,
            file,
            (
                Warning,
                "mixed_quantisation",
                "the backends serve the model in different quantisations",
                "answers differ in quality and speed by the backend that happens to give them",
                "use the same model file, or pools of their own",
            ),
        ));
    }
    findings.extend(differ(
        pool,
        |said| said.survey.facts.model_alias.clone(),
        (
            Warning,
            "mixed_aliases",
            "the backends name their model differently",
            "logs and answers tell different names for one model; perhaps it is not one",
            "start them with the same --alias",
        ),
    ));
    findings.extend(differ(
        pool,
        |said| said.survey.facts.build.clone(),
        (
            Warning,
            "mixed_builds",
            "the backends run different builds of llama.cpp",
            "chat templates, parsers and bugs differ by the backend that happens to answer",
            "update them to the same build, unless this is a trial",
        ),
    ));
    findings.extend(differ(
        pool,
        template,
        (
            Warning,
            "mixed_templates",
            "the backends render conversations with different chat templates",
            "a conversation that moves is rendered otherwise: its cache is lost, and its tool calls may be \
             written in another form",
            "start them with the same model file, or the same --chat-template-file",
        ),
    ));
    findings.extend(differ(
        pool,
        |said| said.survey.facts.n_ctx.map(|n| n.to_string()),
        (
            Warning,
            "mixed_context",
            "the backends have contexts of different sizes",
            "a conversation that fits one may be refused by another it moves to",
            "start them with the same context for each slot",
        ),
    ));
}

/// A short name for the template, which has thousands of characters.
fn template(said: &Said<'_>) -> Option<String> {
    let text = said.props.as_ref()?.chat_template.as_ref()?;
    let hash = xxhash_rust::xxh3::xxh3_64(text.as_bytes());
    Some(format!("template {hash:016x}"))
}

type Words = (
    Severity,
    &'static str,
    &'static str,
    &'static str,
    &'static str,
);

/// A finding when the backends that say something do not all say the same.
fn differ(
    pool: &[Said<'_>],
    say: impl Fn(&Said<'_>) -> Option<String>,
    (severity, id, what, why, remedy): Words,
) -> Option<Finding> {
    let mut groups = BTreeMap::<String, Vec<&str>>::new();
    for said in pool {
        if let Some(value) = say(said) {
            groups.entry(value).or_default().push(said.name());
        }
    }
    if groups.len() < 2 {
        return None;
    }
    let list: Vec<String> = groups
        .iter()
        .map(|(value, names)| format!("{}: {value}", names.join(", ")))
        .collect();
    Some(Finding {
        severity,
        id,
        pool: pool.first()?.pool().to_owned(),
        backend: None,
        what: format!("{what} ({})", list.join("; ")),
        why,
        remedy,
    })
}
