use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;

use super::*;
use crate::config;
use crate::fleet::probe::{HttpProbe, Reply, Unanswered};
use crate::fleet::scrape::read_props;
use crate::fleet::{Facts, Fleet};
use crate::sim::{SimConfig, bind};

const PATIENCE: Duration = Duration::from_secs(2);
const ALL: TemplateRules = TemplateRules::ALL;
const NONE: TemplateRules = TemplateRules::NONE;

fn backend(url: &str) -> Arc<Backend> {
    let text =
        format!("fleet: {{pools: [{{name: p, models: [m], backends: [{{url: '{url}'}}]}}]}}");
    let config = config::parse(&text, std::iter::empty()).unwrap();
    let backend = Fleet::new(&config).unwrap().backends()[0].clone();
    show(&backend, "one", "b1");
    backend
}

/// `/props` was read.
fn show(backend: &Backend, template: &str, build: &str) {
    let props = json!({"chat_template": template, "build_info": build}).to_string();
    let facts: Facts = backend.facts().with_props(props.as_bytes()).unwrap();
    backend.set_facts(facts);
}

/// A server with a template of its own.
struct Renders<F> {
    template: F,
    asked: AtomicUsize,
}

#[async_trait]
impl<F> Probe for Renders<F>
where
    F: Fn(&[(&str, &str)], bool) -> Result<String, u16> + Send + Sync,
{
    async fn get(&self, _: &Backend, path: &str) -> Result<Reply, Unanswered> {
        Err(unanswered(&format!("{path} is not asked for here")))
    }

    async fn post(&self, _: &Backend, path: &str, body: Bytes) -> Result<Reply, Unanswered> {
        assert_eq!(path, "/apply-template");
        self.asked.fetch_add(1, Ordering::Relaxed);
        let body: Value = serde_json::from_slice(&body).unwrap();
        let messages: Vec<(&str, &str)> = body["messages"]
            .as_array()
            .unwrap()
            .iter()
            .map(|m| (m["role"].as_str().unwrap(), m["content"].as_str().unwrap()))
            .collect();
        let rendered = (self.template)(&messages, body["add_generation_prompt"] == true);
        let (status, body) = match rendered {
            Ok(prompt) => (200, json!({"prompt": prompt}).to_string()),
            Err(0) => return Err(unanswered("connection refused")),
            Err(status) => (status, json!({"error": {"code": status}}).to_string()),
        };
        let body = body.into();
        Ok(Reply { status, body })
    }
}

fn chatml(messages: &[(&str, &str)], generate: bool) -> String {
    let mut prompt: String = messages
        .iter()
        .map(|(role, text)| format!("<{role}>{text}\n"))
        .collect();
    if generate {
        prompt.push_str("<assistant>");
    }
    prompt
}

async fn learnt(
    template: impl Fn(&[(&str, &str)], bool) -> Result<String, u16> + Send + Sync,
) -> Option<TemplateRules> {
    let backend = backend("http://127.0.0.1:1");
    let asked = AtomicUsize::new(0);
    let probe = Renders { template, asked };
    Learner::default().learn(&probe, &backend, PATIENCE).await;
    backend.facts().template.rules
}

#[tokio::test]
async fn a_template_that_renders_all_of_it_accepts_all_of_it() {
    assert_eq!(learnt(|m, g| Ok(chatml(m, g))).await, Some(ALL));
}

#[tokio::test]
async fn what_is_refused_is_not_accepted() {
    let qwen35 = learnt(|messages, generate| {
        let late = messages[1..].iter().any(|(role, _)| *role == "system");
        if late {
            Err(500)
        } else {
            Ok(chatml(messages, generate))
        }
    });
    let rules = TemplateRules {
        system_anywhere: false,
        ..ALL
    };
    assert_eq!(qwen35.await, Some(rules));

    let ministral = learnt(|messages, generate| {
        let strict = messages.windows(2).all(|pair| {
            !matches!(
                (pair[0].0, pair[1].0),
                (_, "system") | ("user", "user") | ("tool", "user") | ("system", "assistant")
            )
        });
        if strict {
            Ok(chatml(messages, generate))
        } else {
            Err(400)
        }
    });
    let rules = TemplateRules {
        any_call_id: true,
        parallel_calls: true,
        ..NONE
    };
    assert_eq!(ministral.await, Some(rules));
    // An endpoint that does not exist is an answer too.
    assert_eq!(learnt(|_, _| Err(404)).await, Some(NONE));
}

fn unanswered(why: &str) -> Unanswered {
    Unanswered {
        why: why.to_owned(),
        is_refused: false,
    }
}

/// Mistral-Nemo and later: "Tool call IDs should be alphanumeric strings with length 9!"
struct ShortIds;

#[async_trait]
impl Probe for ShortIds {
    async fn get(&self, _: &Backend, path: &str) -> Result<Reply, Unanswered> {
        Err(unanswered(&format!("{path} is not asked for here")))
    }

    async fn post(&self, backend: &Backend, path: &str, body: Bytes) -> Result<Reply, Unanswered> {
        let request: Value = serde_json::from_slice(&body).unwrap();
        let ids = request["messages"].as_array().unwrap().iter();
        let mut ids = ids.filter_map(|message| message["tool_call_id"].as_str());
        let refused = ids.any(|id| id.len() != 9 || !id.bytes().all(|b| b.is_ascii_alphanumeric()));
        let probe = Renders {
            template: |m: &[(&str, &str)], g| if refused { Err(400) } else { Ok(chatml(m, g)) },
            asked: AtomicUsize::new(0),
        };
        probe.post(backend, path, body).await
    }
}

#[tokio::test]
async fn a_template_that_insists_on_short_ids_gets_them() {
    let backend = backend("http://127.0.0.1:1");
    Learner::default()
        .learn(&ShortIds, &backend, PATIENCE)
        .await;
    let rules = TemplateRules {
        any_call_id: false,
        ..ALL
    };
    assert_eq!(backend.facts().template.rules, Some(rules));
}

#[tokio::test]
async fn what_is_dropped_or_moved_to_the_top_is_not_accepted() {
    let rules = TemplateRules {
        system_anywhere: false,
        ..ALL
    };
    let gpt_oss = learnt(|messages, generate| {
        let mut kept = messages.to_vec();
        let mut first = true;
        kept.retain(|(role, _)| std::mem::take(&mut first) || *role != "system");
        Ok(chatml(&kept, generate))
    });
    assert_eq!(gpt_oss.await, Some(rules));

    let deepseek = learnt(|messages, generate| {
        let mut sorted = messages.to_vec();
        sorted.sort_by_key(|(role, _)| *role != "system");
        Ok(chatml(&sorted, generate))
    });
    assert_eq!(deepseek.await, Some(rules));
}

#[tokio::test]
async fn what_changes_the_prompt_so_far_is_not_accepted() {
    let qwen3 = learnt(|messages, generate| {
        // Reasoning is shown only after the last message of the user.
        let last = messages.iter().rposition(|(role, _)| *role == "user");
        let mut prompt = String::new();
        for (position, message) in messages.iter().enumerate() {
            if message.0 == "assistant" && Some(position) > last {
                prompt.push_str("<think>");
            }
            prompt.push_str(&chatml(&[*message], false));
        }
        if generate {
            prompt.push_str("<assistant>");
        }
        Ok(prompt)
    });
    let rules = TemplateRules {
        user_after_tool: false,
        ..ALL
    };
    assert_eq!(qwen3.await, Some(rules));
}

#[tokio::test]
async fn trouble_says_nothing_and_is_not_asked_about_for_ever() {
    for trouble in [0, 401, 503] {
        let backend = backend("http://127.0.0.1:1");
        let probe = Renders {
            template: |_: &[(&str, &str)], _| Err(trouble),
            asked: AtomicUsize::new(0),
        };
        let mut learner = Learner::default();
        for _ in 0..10 {
            learner.learn(&probe, &backend, PATIENCE).await;
        }
        assert_eq!(backend.facts().template.rules, None);
        assert_eq!(probe.asked.load(Ordering::Relaxed), usize::from(MAX_TRIES));
        show(&backend, "two", "b1");
        learner.learn(&probe, &backend, PATIENCE).await;
        assert_eq!(
            probe.asked.load(Ordering::Relaxed),
            usize::from(MAX_TRIES) + 1,
            "another template is another question"
        );
    }
}

#[tokio::test]
async fn known_rules_stay_while_template_and_build_do() {
    let backend = backend("http://127.0.0.1:1");
    let probe = Renders {
        template: |m: &[(&str, &str)], g: bool| Ok(chatml(m, g)),
        asked: AtomicUsize::new(0),
    };
    let mut learner = Learner::default();
    learner.learn(&probe, &backend, PATIENCE).await;
    let asked = probe.asked.load(Ordering::Relaxed);
    show(&backend, "one", "b1");
    learner.learn(&probe, &backend, PATIENCE).await;
    assert_eq!(backend.facts().template.rules, Some(ALL));
    assert_eq!(probe.asked.load(Ordering::Relaxed), asked, "known already");
    for (template, build) in [("two", "b1"), ("two", "b2")] {
        show(&backend, template, build);
        assert_eq!(backend.facts().template.rules, None);
        learner.learn(&probe, &backend, PATIENCE).await;
        assert_eq!(backend.facts().template.rules, Some(ALL));
    }
    backend.set_facts(backend.facts().with_props(b"{}").unwrap());
    assert_eq!(backend.facts().template, Template::default(), "a router");
}

#[tokio::test]
async fn a_sleeping_server_is_left_asleep() {
    let backend = backend("http://127.0.0.1:1");
    let mut facts = (*backend.facts()).clone();
    facts.is_sleeping = true;
    backend.set_facts(facts);
    let probe = Renders {
        template: |m: &[(&str, &str)], g: bool| Ok(chatml(m, g)),
        asked: AtomicUsize::new(0),
    };
    Learner::default().learn(&probe, &backend, PATIENCE).await;
    assert_eq!(probe.asked.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn the_simulator_is_asked_over_http() {
    for strict_system in [false, true] {
        let config = SimConfig {
            strict_system,
            ..SimConfig::default()
        };
        let sim = bind(config, "127.0.0.1:0").await.unwrap();
        let backend = backend(&sim.url());
        let probe = HttpProbe::new();
        read_props(&probe, &backend, PATIENCE).await;
        Learner::default().learn(&probe, &backend, PATIENCE).await;
        let rules = TemplateRules {
            system_anywhere: !strict_system,
            ..ALL
        };
        assert_eq!(backend.facts().template.rules, Some(rules));
        sim.stop().await;
    }
}
