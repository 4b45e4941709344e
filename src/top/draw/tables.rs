//! The table of each view.

use std::time::SystemTime;

use ratatui::Frame;
use ratatui::layout::{Constraint, Rect};
use ratatui::style::Modifier;
use ratatui::text::Span;
use ratatui::widgets::{Cell, Row, Table};

use super::{Look, Tab, Tone};
use crate::top::known::Known;
use crate::top::told::{Backend, Happened, Request, Turn};

/// Width of a bar of slots.
const BAR: u64 = 16;

/// A column: its title, and its width; 0 takes what is left.
type Column = (&'static str, u16);

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, known: &Known, look: &Look) {
    match look.tab {
        Tab::Fleet => {
            let backends = known.fleet.iter().flat_map(|fleet| &fleet.backends);
            table(
                frame,
                area,
                look,
                &FLEET,
                backends.map(|b| backend(b, look)).collect(),
            );
        }
        Tab::Turns => {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
            let now = now.map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or(u64::MAX));
            let turns = known.turns.iter().map(|t| turn(t, now, look));
            table(frame, area, look, &TURNS, turns.collect());
        }
        Tab::Requests => {
            let requests = known.requests().map(|r| request(r, look));
            table(frame, area, look, &REQUESTS, requests.collect());
        }
        Tab::Happened => {
            let all = known.happened.iter().map(|h| happened(h, look));
            table(frame, area, look, &HAPPENED, all.collect());
        }
    }
}

fn table(frame: &mut Frame<'_>, area: Rect, look: &Look, columns: &[Column], rows: Vec<Row<'_>>) {
    if rows.is_empty() {
        frame.render_widget(look.span(Tone::Soft, " nothing yet"), area);
        return;
    }
    // Never past the last line.
    let from = look.from.min(rows.len() - 1);
    let widths = columns.iter().map(|(_, width)| match width {
        0 => Constraint::Fill(1),
        width => Constraint::Length(*width),
    });
    let header = Row::new(columns.iter().map(|(title, _)| *title));
    let header = header.style(look.style(Tone::Soft).add_modifier(Modifier::UNDERLINED));
    let table = Table::new(rows.into_iter().skip(from), widths).header(header);
    frame.render_widget(table, area);
}

const FLEET: [Column; 8] = [
    ("backend", 18),
    ("pool", 10),
    ("state", 18),
    ("slots", 22),
    ("cache", 6),
    ("profile", 14),
    ("build", 12),
    ("trouble or model", 0),
];

fn backend<'a>(b: &'a Backend, look: &Look) -> Row<'a> {
    let marks = [
        (b.draining, "draining"),
        (b.leaving, "leaving"),
        (b.ejected, "ejected"),
    ];
    let mut state = b.state.clone();
    for (_, mark) in marks.iter().filter(|(is, _)| *is) {
        state = format!("{state} {mark}");
    }
    let tone = match b.state.as_str() {
        _ if b.ejected => Tone::Bad,
        "ready" | "busy" if !b.draining => Tone::Good,
        "down" | "wedged" => Tone::Bad,
        _ => Tone::Warn,
    };
    let profile = b.profile.as_deref().unwrap_or("-");
    let profile = match (profile, b.speculative) {
        ("-" | "none", _) | (_, Some(true) | None) => look.span(Tone::Usual, profile),
        (_, Some(false)) => look.span(Tone::Bad, format!("{profile} off!")),
    };
    let last = match &b.trouble {
        Some(trouble) => look.span(Tone::Bad, trouble.as_str()),
        None => look.span(Tone::Soft, b.model.as_deref().unwrap_or_default()),
    };
    let kv = b.kv_used.map(|used| format!("{:>4.0}%", used * 100.0));
    Row::new([
        Cell::from(b.id.as_str()),
        Cell::from(b.pool.as_str()),
        Cell::from(look.span(tone, state)),
        Cell::from(bar(b)),
        Cell::from(kv.unwrap_or_default()),
        Cell::from(profile),
        Cell::from(b.build.as_deref().unwrap_or_default()),
        Cell::from(last),
    ])
}

/// Busy slots as a bar, lighter where others than this gateway hold them, and in numbers.
fn bar(b: &Backend) -> String {
    let busy = b.busy();
    let Some(total) = b.total_slots.filter(|total| *total > 0) else {
        return format!("{busy} busy");
    };
    let width = total.min(BAR);
    let part = |slots: u64| (slots.min(total) * width).div_ceil(total);
    let (own, all) = (part(busy.saturating_sub(b.other_slots)), part(busy));
    let cells = |cell: &str, count: u64| cell.repeat(count as usize);
    let (own, others, rest) = (
        cells("█", own),
        cells("▒", all - own),
        cells("·", width - all),
    );
    format!("{own}{others}{rest} {busy}/{total}")
}

const TURNS: [Column; 7] = [
    ("for", 8),
    ("request", 38),
    ("dialect", 10),
    ("backend", 18),
    ("tries", 6),
    ("model", 20),
    ("session", 0),
];

fn turn<'a>(t: &'a Turn, now: u64, look: &Look) -> Row<'a> {
    let backend = match &t.backend {
        Some(backend) => look.span(Tone::Usual, backend.as_str()),
        None => look.span(Tone::Warn, "waiting"),
    };
    Row::new([
        Cell::from(format!(
            "{:.1} s",
            now.saturating_sub(t.since_ms) as f64 / 1000.0
        )),
        Cell::from(t.request_id.as_str()),
        Cell::from(t.dialect.as_str()),
        Cell::from(backend),
        Cell::from(tries(t.attempts, look)),
        Cell::from(t.model.as_str()),
        Cell::from(t.session.as_deref().unwrap_or_default()),
    ])
}

fn tries<'a>(attempts: u32, look: &Look) -> Span<'a> {
    let tone = if attempts > 1 {
        Tone::Warn
    } else {
        Tone::Usual
    };
    look.span(tone, attempts.to_string())
}

const REQUESTS: [Column; 9] = [
    ("time", 9),
    ("outcome", 16),
    ("backend", 18),
    ("first", 9),
    ("total", 9),
    ("in/cached/out", 20),
    ("tries", 6),
    ("model", 16),
    ("request, guards", 0),
];

fn request<'a>(r: &'a Request, look: &Look) -> Row<'a> {
    let tone = match r.outcome.as_str() {
        "ok" => Tone::Good,
        "client_gone" => Tone::Soft,
        "client_error" | "denied" => Tone::Warn,
        _ => Tone::Bad,
    };
    let tokens = r.tokens_in.map(|read| {
        let (cached, written) = (r.tokens_cached.unwrap_or(0), r.tokens_out.unwrap_or(0));
        format!("{read}/{cached}/{written}")
    });
    let guards = r.interventions.join(", ");
    Row::new([
        Cell::from(clock(&r.time)),
        Cell::from(look.span(tone, r.outcome.as_str())),
        Cell::from(r.backend.as_deref().unwrap_or_default()),
        Cell::from(r.ttft_ms.map(|ms| format!("{ms} ms")).unwrap_or_default()),
        Cell::from(format!("{} ms", r.total_ms)),
        Cell::from(tokens.unwrap_or_default()),
        Cell::from(tries(r.attempts, look)),
        Cell::from(r.model.as_deref().unwrap_or_default()),
        Cell::from(format!("{} {guards}", r.request_id)),
    ])
}

const HAPPENED: [Column; 4] = [
    ("time", 9),
    ("what", 30),
    ("rule, tool", 40),
    ("request", 0),
];

fn happened<'a>(h: &'a Happened, look: &Look) -> Row<'a> {
    let mode = match h.mode.as_deref() {
        Some("observe") => " (observed)",
        Some("dry_run") => " (dry run)",
        _ => "",
    };
    let what = h
        .what
        .as_deref()
        .or(h.decision.as_deref())
        .unwrap_or_default();
    let tone = match what {
        "block" => Tone::Bad,
        _ => Tone::Warn,
    };
    let (rule, tool) = (
        h.rule.as_deref().unwrap_or_default(),
        h.tool.as_deref().unwrap_or_default(),
    );
    Row::new([
        Cell::from(clock(&h.at)),
        Cell::from(look.span(tone, format!("{what}{mode}"))),
        Cell::from(format!("{rule} {tool}")),
        Cell::from(h.request_id.as_str()),
    ])
}

/// The time of day of a time in RFC 3339.
fn clock(time: &str) -> &str {
    time.get(11..19).unwrap_or(time)
}
