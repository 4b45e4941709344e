use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::*;

fn known() -> Known {
    let now = Instant::now();
    let mut known = Known::new(now);
    known.link = Link::Up;
    let fleet = r#"{"version":"9.9","sessions":12,"queues":[{"pool":"p","class":"batch","waiting":3}],"backends":[
        {"id":"gpu0","pool":"p","state":"ready","inflight":1,"other_slots":1,"total_slots":4,"idle_slots":1,"kv_used":0.42,
         "profile":"ngram-mod","speculative":false,"build":"b11434","model":"qwen"},
        {"id":"gpu1","pool":"p","state":"down","trouble":"connection refused"},
        {"id":"gpu2","pool":"p","state":"ready","draining":true,"total_slots":64,"inflight":64}]}"#;
    known.take("fleet", fleet.as_bytes(), now);
    let request = r#"{"time":"2026-01-02T03:04:05.678Z","request_id":"req-1","outcome":"timeout","backend":"gpu0",
        "model":"\u001b[31mevil\n","attempts":2,"tokens_in":900,"tokens_cached":800,"tokens_out":70,"ttft_ms":120,
        "total_ms":3400,"interventions":["repair"]}"#;
    known.take("request", request.as_bytes(), now);
    let decision = r#"{"at":"2026-01-02T03:04:06Z","decision":"block","rule":"no_push","tool":"bash","mode":"dry_run"}"#;
    known.take("policy", decision.as_bytes(), now);
    let turns =
        r#"{"turns":[{"request_id":"req-2","dialect":"anthropic","model":"m","attempts":0}]}"#;
    known.take("live", turns.as_bytes(), now);
    known
}

fn screen(known: &Known, look: &Look, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal
        .draw(|frame| draw(frame, known, look, Instant::now()))
        .unwrap();
    terminal.backend().to_string()
}

fn look(tab: Tab) -> Look {
    let mut look = Look::new("http://127.0.0.1:9090", false);
    look.show(tab);
    look
}

#[track_caller]
fn shows(screen: &str, texts: &[&str]) {
    for text in texts {
        assert!(screen.contains(text), "`{text}` in\n{screen}");
    }
}

#[test]
fn the_fleet_at_a_glance() {
    let screen = screen(&known(), &look(Tab::Fleet), 140, 12);
    shows(
        &screen,
        &[
            "drover 9.9",
            "12 sessions",
            "3 batch wait for p",
            "gpu0",
            "██▒· 3/4",
            "42%",
            "ngram-mod off!",
        ],
    );
    shows(
        &screen,
        &[
            "down",
            "connection refused",
            "ready draining",
            "████████████████ 64/64",
            "100.0% failed",
        ],
    );
    shows(&screen, &["first token 120 ms", "89% of prompts cached"]);
}

#[test]
fn every_view_shows_its_rows() {
    let known = known();
    shows(
        &screen(&known, &look(Tab::Turns), 140, 9),
        &["req-2", "anthropic", "waiting"],
    );
    let requests = screen(&known, &look(Tab::Requests), 160, 9);
    shows(
        &requests,
        &[
            "03:04:05",
            "timeout",
            "900/800/70",
            "3400 ms",
            "req-1 repair",
        ],
    );
    let happened = screen(&known, &look(Tab::Happened), 140, 9);
    shows(&happened, &["block (dry run)", "no_push bash"]);
}

/// Names come from clients: they must not steer the terminal.
#[test]
fn control_characters_do_not_reach_the_terminal() {
    let screen = screen(&known(), &look(Tab::Requests), 160, 9);
    assert!(!screen.contains('\u{1b}'), "{screen:?}");
    shows(&screen, &["evil"]);
}

#[test]
fn a_gateway_that_is_away_is_said_to_be() {
    let mut known = known();
    known.lost("ConnectRefused".to_owned());
    shows(
        &screen(&known, &look(Tab::Fleet), 120, 9),
        &["AWAY: ConnectRefused", "gpu0"],
    );
    let none = Known::new(Instant::now());
    shows(
        &screen(&none, &look(Tab::Fleet), 80, 9),
        &["connecting", "nothing yet"],
    );
}

#[test]
fn any_size_and_any_scroll_are_drawn() {
    let known = known();
    for (width, height) in [(1, 1), (20, 3), (80, 24), (300, 100)] {
        for tab in Tab::ALL {
            let mut look = look(tab);
            look.scroll(i32::MAX);
            screen(&known, &look, width, height);
        }
    }
    let mut look = look(Tab::Fleet);
    look.scroll(1);
    let scrolled = screen(&known, &look, 120, 12);
    assert!(!scrolled.contains("gpu0") && scrolled.contains("gpu1"));
}
