use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::monitor::{Lineage, MAX_LINEAGES, MAX_LOOPS};
use super::visit::Session;
use super::*;
use crate::config::Limits;
use crate::dialect::Dialect;
use crate::fleet::BackendId;
use crate::guard::loops::LoopState;
use crate::turn::Usage;

const MINUTE: Duration = Duration::from_secs(60);
const USAGE: Usage = Usage {
    prompt: 100,
    cached: 60,
    completion: 7,
};

fn limits(max_sessions: usize) -> Limits {
    Limits {
        max_sessions,
        ..Limits::default()
    }
}

fn key(headers: &[(&str, &str)], dialect: Dialect, body: &Value) -> (SessionKey, Transcript) {
    let turn = dialect.decode(body.to_string().as_bytes()).unwrap();
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        let name: HeaderName = name.parse().unwrap();
        map.insert(name, HeaderValue::from_str(value).unwrap());
    }
    let opener = lineage::opener(&turn);
    let principal = Principal::address(&"127.0.0.1").for_user_of((&turn).into());
    let agent = headers
        .iter()
        .find(|(name, _)| *name == "x-claude-code-agent-id");
    let transcript = Transcript::read(&turn, agent.map(|(_, id)| *id), &opener);
    (SessionKey::of(principal, &map, &turn, &opener), transcript)
}

/// A registry with one client in front, whose every turn is answered.
struct Gateway {
    sessions: std::sync::Arc<Sessions>,
    now: Instant,
}

impl Gateway {
    fn new() -> Self {
        Self {
            sessions: Sessions::new(&limits(1000)),
            now: Instant::now(),
        }
    }

    fn begin(&self, headers: &[(&str, &str)], body: &Value) -> Visit {
        let (key, transcript) = key(headers, Dialect::Anthropic, body);
        self.sessions.begin(&key, transcript, self.now)
    }

    fn serve(&self, visit: &Visit, backend: &str) -> LineageId {
        let served = Served {
            backend: Some(backend.into()),
            usage: USAGE,
            context: Default::default(),
            loops: None,
        };
        self.sessions.commit(visit, served, self.now).0
    }

    fn turn(&self, headers: &[(&str, &str)], body: &Value) -> (SessionId, LineageId) {
        let visit = self.begin(headers, body);
        (visit.session(), self.serve(&visit, "a"))
    }

    fn view(&self, id: SessionId) -> SessionView {
        self.sessions.view(id, self.now).unwrap()
    }
}

/// A Claude Code conversation after so many tool calls, as it looks at this second: other ids and
/// another time every time.
fn claude(opener: &str, calls: usize, second: usize) -> Value {
    let reminder = format!(
        "<system-reminder>\n{}\n</system-reminder>",
        "CLAUDE.md ".repeat(100)
    );
    let mut messages = vec![
        json!({"role": "user", "content": [{"type": "text", "text": reminder}, {"type": "text", "text": opener}]}),
        json!({"role": "system", "content": format!("It is second {second}.")}),
    ];
    for call in 0..calls {
        let id = format!("toolu_{second}_{call}");
        messages.push(json!({"role": "assistant", "content": [
            {"type": "tool_use", "id": id, "name": "Bash", "input": {"command": format!("step {call}")}}]}));
        messages.push(json!({"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": id, "content": format!("done {call}")}]}));
    }
    json!({
        "model": "m", "max_tokens": 128_000, "messages": messages,
        "system": [{"type": "text", "text": format!("The time is {second}.")}],
        "tools": [{"name": "Bash", "input_schema": {"type": "object"}}],
    })
}

#[test]
fn thirty_five_turns_of_one_conversation_are_one_session_and_one_lineage() {
    let gateway = Gateway::new();
    let seen: Vec<_> = (0..35)
        .map(|n| gateway.turn(&[], &claude("fix it", n, n)))
        .collect();
    assert!(seen.iter().all(|one| *one == seen[0]), "{seen:?}");
    assert_eq!(gateway.sessions.len(), 1);
    let view = gateway.view(seen[0].0);
    assert_eq!((view.summary.spent.turns, view.lineages.len()), (35, 1));
    assert_eq!((view.summary.source, view.summary.field), ("fp", None));
    assert_eq!(view.summary.spent.tokens_out, 35 * USAGE.completion);
}

#[test]
fn two_claude_code_sessions_of_one_host_and_model_are_two() {
    let gateway = Gateway::new();
    // By their header, though they begin with the same words.
    let by = |id: &str| {
        gateway
            .turn(&[("x-claude-code-session-id", id)], &claude("hi", 0, 1))
            .0
    };
    assert_ne!(by("one"), by("two"));
    // By the metadata, where a proxy has dropped the header.
    let by = |id: &str| {
        let mut body = claude("hi", 0, 1);
        body["metadata"] =
            json!({"user_id": json!({"device_id": "d", "session_id": id}).to_string()});
        gateway.turn(&[], &body).0
    };
    assert_ne!(by("one"), by("two"));
    // And by what the human said, where nothing names them: the reminder before it is the same.
    assert_ne!(
        gateway.turn(&[], &claude("fix a", 0, 1)).0,
        gateway.turn(&[], &claude("fix b", 0, 1)).0
    );
    assert_eq!(gateway.sessions.len(), 6);
}

#[test]
fn a_subagent_is_a_lineage_of_its_own_in_the_same_session() {
    let gateway = Gateway::new();
    let session = ("x-claude-code-session-id", "s");
    let main = gateway.turn(&[session], &claude("fix it", 0, 1));
    let agent = |n| {
        gateway.turn(
            &[session, ("x-claude-code-agent-id", "a1")],
            &claude("look", n, n),
        )
    };
    let first = agent(0);
    assert_eq!(first.0, main.0);
    assert_ne!(first.1, main.1);
    assert_eq!(agent(1), first);
    assert_eq!(gateway.turn(&[session], &claude("fix it", 1, 2)), main);
    let view = gateway.view(main.0);
    let kinds: Vec<_> = view
        .lineages
        .iter()
        .map(|l| (l.kind, l.spent.turns))
        .collect();
    assert_eq!(kinds, [("tools", 2), ("agent", 2)]);
}

#[test]
fn a_title_request_is_a_lineage_of_its_own() {
    let gateway = Gateway::new();
    let opencode = [("x-session-id", "ses_1"), ("x-session-affinity", "ses_1")];
    let title = json!({"model": "m", "max_tokens": 9, "messages": [
        {"role": "user", "content": "Generate a title for this conversation:"},
        {"role": "user", "content": "fix it"}]});
    let main = gateway.turn(&opencode, &claude("fix it", 0, 1));
    let title = gateway.turn(&opencode, &title);
    assert_eq!(main.0, title.0);
    assert_ne!(main.1, title.1);
    assert_eq!(gateway.turn(&opencode, &claude("fix it", 1, 2)), main);
    assert_eq!(gateway.view(main.0).lineages.len(), 2);
}

#[test]
fn the_same_opener_in_two_chats_makes_siblings() {
    let gateway = Gateway::new();
    let chat = |answer: &str, more: &str| {
        let mut body = claude("hi", 0, 0);
        let messages = body["messages"].as_array_mut().unwrap();
        messages.push(json!({"role": "assistant", "content": answer}));
        messages.push(json!({"role": "user", "content": more}));
        gateway.turn(&[], &body)
    };
    let one = chat("Hello!", "x");
    let two = chat("Good day!", "x");
    assert_eq!(one.0, two.0);
    assert_eq!(two.1.to_string(), format!("{}#2", one.1));
}

#[test]
fn compaction_and_pruning_keep_session_and_lineage() {
    let gateway = Gateway::new();
    let session = [("x-claude-code-session-id", "s")];
    let before = gateway.turn(&session, &claude("fix it", 20, 1));
    let mut pruned = claude("fix it", 21, 2);
    pruned["messages"].as_array_mut().unwrap().drain(2..30);
    assert_eq!(gateway.turn(&session, &pruned), before);
    // Without a header too, since its opener is still there.
    let before_fp = gateway.turn(&[], &claude("fix it", 20, 3));
    assert_eq!(gateway.turn(&[], &pruned), before_fp);
    let summary =
        "This session is being continued from a previous conversation that ran out of context. …";
    assert_eq!(gateway.turn(&session, &claude(summary, 0, 4)), before);
    assert_eq!(gateway.turn(&session, &claude(summary, 3, 5)), before);
}

#[test]
fn a_retry_is_not_counted_twice() {
    let gateway = Gateway::new();
    let (session, _) = gateway.turn(&[], &claude("fix it", 1, 1));
    // The client re-sends the same turn, with other ids and another time.
    let again = gateway.begin(&[], &claude("fix it", 1, 2));
    assert!(again.is_retry);
    gateway.serve(&again, "a");
    let spent = gateway.view(session).summary.spent;
    assert_eq!((spent.turns, spent.retries), (1, 1));
    assert_eq!(
        spent.tokens_in,
        2 * USAGE.prompt,
        "what was spent was spent"
    );
    assert!(!gateway.begin(&[], &claude("fix it", 2, 3)).is_retry);
}

#[test]
fn a_turn_that_fails_leaves_no_trace() {
    let gateway = Gateway::new();
    let first = gateway.begin(&[], &claude("fix it", 0, 1));
    let session = first.session();
    drop(first);
    let view = gateway.view(session);
    assert_eq!((view.summary.spent.turns, view.lineages.len()), (0, 0));
    assert_eq!(view.summary.requests_per_minute, 1);
    let again = gateway.begin(&[], &claude("fix it", 0, 2));
    assert!(!again.is_retry && again.preferred.is_none());
    assert_eq!(again.rate, 2);
}

#[test]
fn turns_side_by_side_do_not_mix() {
    let gateway = Gateway::new();
    let session = ("x-claude-code-session-id", "s");
    let headers = |agent| [session, ("x-claude-code-agent-id", agent)];
    let visits: Vec<Visit> = ["a1", "a2", "a3"]
        .map(|a| gateway.begin(&headers(a), &claude(a, 0, 0)))
        .into();
    for (visit, backend) in visits.iter().zip(["a", "b", "c"]).rev() {
        gateway.serve(visit, backend);
    }
    for (agent, backend) in [("a1", "a"), ("a2", "b"), ("a3", "c")] {
        let next = gateway.begin(&headers(agent), &claude(agent, 1, 1));
        assert_eq!(next.preferred, Some(BackendId::from(backend)));
    }
    // The same turn twice at a time, as impatient clients do: one turn, one retry.
    let (one, two) = (
        gateway.begin(&[], &claude("x", 0, 0)),
        gateway.begin(&[], &claude("x", 0, 0)),
    );
    assert_eq!(gateway.serve(&one, "a"), gateway.serve(&two, "b"));
    let spent = gateway.view(one.session()).summary.spent;
    assert_eq!((spent.turns, spent.retries), (1, 1));
}

#[test]
fn a_lineage_prefers_who_served_it_last() {
    let gateway = Gateway::new();
    let preferred = |n| gateway.begin(&[], &claude("fix it", n, n));
    assert_eq!(preferred(0).preferred, None);
    gateway.serve(&preferred(0), "a");
    assert_eq!(preferred(1).preferred, Some("a".into()));
    gateway.serve(&preferred(1), "b");
    assert_eq!(preferred(2).preferred, Some("b".into()));
}

#[test]
fn a_conversation_that_went_back_finds_its_cache() {
    let gateway = Gateway::new();
    let first = gateway.begin(&[], &claude("fix it", 9, 1));
    gateway.serve(&first, "b");
    let mut back = claude("fix it", 3, 2);
    let rather = json!({"role": "user", "content": "rather not"});
    back["messages"].as_array_mut().unwrap().push(rather);
    let back = gateway.begin(&[], &back);
    assert_eq!(
        (back.lineage.sibling, back.preferred),
        (2, Some("b".into()))
    );
    // A new chat that begins alike has nothing there worth waiting for.
    let new = gateway.begin(&[], &claude("fix it", 0, 3));
    assert_eq!((new.lineage.sibling, new.preferred), (2, None));
}

#[test]
fn sessions_end_after_their_ttl_and_hashes_after_a_minute() {
    let mut gateway = Gateway::new();
    let start = gateway.now;
    let (session, lineage) = gateway.turn(&[], &claude("fix it", 3, 1));
    assert_eq!(gateway.sessions.hot_lineages(), 1);
    gateway.sessions.sweep(start + MINUTE);
    assert_eq!(
        (gateway.sessions.hot_lineages(), gateway.sessions.len()),
        (0, 1)
    );
    // Cold, but known.
    gateway.now = start + 100 * MINUTE;
    let next = gateway.begin(&[], &claude("fix it", 4, 2));
    assert_eq!((next.session(), next.lineage), (session, lineage));
    assert_eq!(next.preferred, Some("a".into()));
    gateway.sessions.sweep(start + 219 * MINUTE);
    assert_eq!(gateway.sessions.len(), 1, "it was used at 100 min");
    gateway.sessions.sweep(start + 220 * MINUTE);
    assert_eq!(gateway.sessions.len(), 1, "a turn is under way");
    drop(next);
    gateway.sessions.sweep(start + 221 * MINUTE);
    assert_eq!(gateway.sessions.len(), 1, "the sweep counted as use");
    gateway.sessions.sweep(start + 340 * MINUTE);
    assert!(gateway.sessions.is_empty());
}

fn numbered(n: usize) -> (SessionKey, Transcript) {
    let body = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]});
    key(&[("x-session-id", &n.to_string())], Dialect::OpenAi, &body)
}

#[test]
fn beyond_their_number_the_least_recently_used_go() {
    let sessions = Sessions::new(&limits(3));
    let now = Instant::now();
    let clock = std::cell::Cell::new(now);
    let begin = |n: usize| {
        let (key, transcript) = numbered(n);
        clock.set(clock.get() + Duration::from_millis(1));
        sessions.begin(&key, transcript, clock.get())
    };
    let ids: Vec<SessionId> = (0..3).map(|n| begin(n).session()).collect();
    begin(0);
    begin(3);
    assert_eq!(sessions.len(), 3);
    assert!(sessions.view(ids[0], now).is_some() && sessions.view(ids[1], now).is_none());
    // One that is pushed out during its turn comes back with it.
    let slow = begin(9);
    (10..20).for_each(|n| drop(begin(n)));
    assert!(sessions.view(slow.session(), now).is_none());
    sessions.commit(
        &slow,
        Served {
            backend: Some("a".into()),
            usage: USAGE,
            context: Default::default(),
            loops: None,
        },
        clock.get() + MINUTE,
    );
    assert_eq!(
        sessions
            .view(slow.session(), now)
            .unwrap()
            .summary
            .spent
            .turns,
        1
    );
    assert_eq!(sessions.len(), 3);
}

#[test]
fn many_threads_keep_the_bound_and_lose_no_session_in_use() {
    const ROOM: usize = 64;
    let sessions = Sessions::new(&limits(ROOM));
    std::thread::scope(|threads| {
        for thread in 0..4 {
            let sessions = &sessions;
            threads.spawn(move || {
                for n in 0..2000 {
                    // Half of the requests belong to sessions that all threads share.
                    let n = if n % 2 == 0 { n % 8 } else { 1000 * thread + n };
                    let (key, transcript) = numbered(n);
                    drop(sessions.begin(&key, transcript, Instant::now()));
                    assert!(sessions.queued() <= ROOM);
                }
            });
        }
    });
    assert_eq!((sessions.len(), sessions.queued()), (ROOM, ROOM));
    sessions.sweep(Instant::now() + 200 * MINUTE);
    assert_eq!((sessions.len(), sessions.queued()), (0, 0));
}

#[test]
fn pages_show_the_most_recently_used_first() {
    let sessions = Sessions::new(&limits(50_000));
    let start = Instant::now();
    let ids: Vec<String> = (0..100)
        .map(|n| {
            let (key, transcript) = numbered(n);
            let now = start + Duration::from_millis(n as u64);
            sessions.begin(&key, transcript, now).session().to_string()
        })
        .collect();
    let page = |offset, limit| {
        let page = sessions.page(Page { offset, limit }, start + MINUTE);
        page.into_iter()
            .map(|session| session.id)
            .collect::<Vec<_>>()
    };
    let newest: Vec<String> = ids.iter().rev().cloned().collect();
    assert_eq!(page(0, 10), newest[..10]);
    assert_eq!(page(95, 10), newest[95..]);
    assert_eq!(page(usize::MAX, 10), [""; 0]);
}

#[test]
fn a_session_takes_at_most_two_kibibytes() {
    let lineages = MAX_LINEAGES * size_of::<Lineage>();
    let loops = MAX_LOOPS * size_of::<LoopState>();
    let size = size_of::<Session>() + lineages + loops + 80;
    println!(
        "session: {} bytes + {MAX_LINEAGES} × {} bytes",
        size_of::<Session>(),
        size_of::<Lineage>()
    );
    assert!(size <= 2048, "{size} bytes");
}

#[test]
fn lineages_are_bounded_and_the_main_one_survives_its_subagents() {
    let gateway = Gateway::new();
    let session = ("x-claude-code-session-id", "s");
    let main: Vec<_> = (0..3)
        .map(|n| gateway.turn(&[session], &claude("fix it", n, n)))
        .collect();
    for n in 0..40 {
        let agent = format!("agent-{n}");
        gateway.turn(
            &[session, ("x-claude-code-agent-id", &agent)],
            &claude("look", 0, n),
        );
        assert!(gateway.view(main[0].0).lineages.len() <= MAX_LINEAGES);
    }
    let next = gateway.begin(&[session], &claude("fix it", 3, 3));
    assert_eq!(
        (next.lineage, next.preferred),
        (main[0].1, Some("a".into()))
    );
    let view = gateway.view(main[0].0);
    assert_eq!(
        view.summary.spent.turns, 43,
        "the forgotten are still counted"
    );
}

#[test]
fn views_show_no_text_and_no_name() {
    let gateway = Gateway::new();
    let session = [("x-session-id", "name-secret")];
    let mut body = claude("text-secret", 1, 1);
    body["metadata"] = json!({"user_id": "user-secret"});
    let (id, _) = gateway.turn(&session, &body);
    let json = serde_json::to_string(&gateway.view(id)).unwrap();
    assert!(!json.contains("secret"), "{json}");
    assert!(
        json.contains(r#""field":"x-session-id""#) && json.contains(r#""backend":"a""#),
        "{json}"
    );
}

#[tokio::test(start_paused = true)]
async fn the_sweeper_forgets() {
    let sessions = Sessions::new(&Limits {
        session_ttl: MINUTE,
        ..Limits::default()
    });
    let sweeper = Sweeper::new(sessions.clone(), MINUTE);
    let (_stop, watch) = tokio::sync::watch::channel(false);
    let running = tokio::spawn(async move {
        use pingora_core::services::background::BackgroundService;
        sweeper.start(watch).await;
    });
    let (key, transcript) = numbered(1);
    drop(sessions.begin(&key, transcript, Instant::now()));
    tokio::time::sleep(MINUTE / 2).await;
    assert_eq!(sessions.len(), 1);
    tokio::time::sleep(MINUTE).await;
    assert_eq!(sessions.len(), 0);
    running.abort();
}

/// Figures, run by hand: `cargo test --release --lib session::tests::figures -- --ignored --nocapture`.
mod figures {
    use super::*;

    fn resident() -> usize {
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
        statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
    }

    #[test]
    #[ignore = "prints figures of this machine"]
    fn memory_of_a_hundred_thousand_sessions() {
        let sessions = Sessions::new(&limits(110_000));
        let (before, now) = (resident(), Instant::now());
        for n in 0..100_000 {
            let (key, transcript) = numbered(n);
            let visit = sessions.begin(&key, transcript, now);
            sessions.commit(
                &visit,
                Served {
                    backend: Some("a".into()),
                    loops: None,
                    usage: USAGE,
                    context: Default::default(),
                },
                now,
            );
        }
        let hot = sessions.hot_lineages();
        let all = resident() - before;
        sessions.sweep(now + MINUTE);
        println!(
            "{} sessions: {} KiB with {hot} hot lineages, {} bytes each; {} KiB after the sweep",
            sessions.len(),
            all / 1024,
            all / sessions.len(),
            (resident() - before) / 1024,
        );
        let started = std::time::Duration::ZERO + sweep_time(&sessions, now);
        println!("sweep of all: {started:?}");
    }

    fn sweep_time(sessions: &Sessions, now: Instant) -> Duration {
        let started = Instant::now();
        sessions.sweep(now + 200 * MINUTE);
        assert!(sessions.is_empty());
        started.elapsed()
    }

    #[test]
    #[ignore = "prints figures of this machine"]
    fn cost_of_a_large_transcript() {
        let body = {
            let mut body = claude("fix it", 200, 1);
            for message in body["messages"].as_array_mut().unwrap() {
                if let Some(content) = message.pointer_mut("/content/0/content") {
                    *content = json!("line of a file\n".repeat(66));
                }
            }
            body
        };
        let text = body.to_string();
        let turn = Dialect::Anthropic.decode(text.as_bytes()).unwrap();
        let gateway = Gateway::new();
        let mut headers = HeaderMap::new();
        headers.insert("x-claude-code-session-id", HeaderValue::from_static("s"));
        for (what, headers) in [("header", headers), ("fingerprint", HeaderMap::new())] {
            let mut times = Vec::new();
            for _ in 0..300 {
                let started = Instant::now();
                let opener = lineage::opener(&turn);
                let principal = Principal::address(&"127.0.0.1").for_user_of((&turn).into());
                let key = SessionKey::of(principal, &headers, &turn, &opener);
                let transcript = Transcript::read(&turn, None, &opener);
                let found = started.elapsed();
                let visit = gateway.sessions.begin(&key, transcript, gateway.now);
                let begun = started.elapsed();
                gateway.serve(&visit, "a");
                times.push((found, begun, started.elapsed()));
            }
            times.sort();
            let (found, begun, all) = times[times.len() / 2];
            println!(
                "{} KB, {} messages, by {what}: key + lineage {found:?}, + begin {begun:?}, + commit {all:?}",
                text.len() / 1000,
                turn.messages.len(),
            );
        }
    }
}
