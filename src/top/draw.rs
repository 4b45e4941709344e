//! What the screen shows.

mod tables;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use tokio::time::Instant;

use super::known::{Known, Link};

/// A view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tab {
    Fleet,
    Turns,
    Requests,
    Happened,
}

impl Tab {
    pub(super) const ALL: [Self; 4] = [Self::Fleet, Self::Turns, Self::Requests, Self::Happened];

    fn title(self) -> &'static str {
        match self {
            Self::Fleet => "Fleet",
            Self::Turns => "Turns",
            Self::Requests => "Requests",
            Self::Happened => "Guards and policy",
        }
    }

    pub(super) fn next(self) -> Self {
        Self::ALL[(self as usize + 1) % Self::ALL.len()]
    }

    pub(super) fn previous(self) -> Self {
        Self::ALL[(self as usize + Self::ALL.len() - 1) % Self::ALL.len()]
    }
}

/// How it is looked at.
#[derive(Clone, Debug)]
pub(super) struct Look {
    pub(super) tab: Tab,
    /// First line shown.
    pub(super) from: usize,
    address: String,
    plain: bool,
}

/// What a piece of text is, which decides its colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tone {
    Usual,
    Soft,
    Good,
    Warn,
    Bad,
}

impl Look {
    /// `plain` shows no colours.
    pub(super) fn new(address: &str, plain: bool) -> Self {
        Self {
            tab: Tab::Fleet,
            from: 0,
            address: address.to_owned(),
            plain,
        }
    }

    pub(super) fn show(&mut self, tab: Tab) {
        (self.tab, self.from) = (tab, 0);
    }

    pub(super) fn scroll(&mut self, lines: i32) {
        let by = lines.unsigned_abs() as usize;
        self.from = match lines < 0 {
            true => self.from.saturating_sub(by),
            false => self.from.saturating_add(by),
        };
    }

    fn style(&self, tone: Tone) -> Style {
        let style = Style::default();
        match tone {
            Tone::Usual => style,
            Tone::Soft => style.add_modifier(Modifier::DIM),
            _ if self.plain => style.add_modifier(Modifier::BOLD),
            Tone::Good => style.fg(Color::Green),
            Tone::Warn => style.fg(Color::Yellow),
            Tone::Bad => style.fg(Color::Red).add_modifier(Modifier::BOLD),
        }
    }

    fn span<'a>(&self, tone: Tone, text: impl Into<std::borrow::Cow<'a, str>>) -> Span<'a> {
        Span::styled(text, self.style(tone))
    }
}

/// Draws everything.
pub(super) fn draw(frame: &mut Frame<'_>, known: &Known, look: &Look, now: Instant) {
    let rows = [
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Min(0),
        Constraint::Length(1),
    ];
    let [head, rates, tabs, table, foot] = Layout::vertical(rows).areas(frame.area());
    frame.render_widget(headline(known, look), head);
    frame.render_widget(rates_of(known, look, now), rates);
    frame.render_widget(tabs_of(look), tabs);
    tables::draw(frame, table, known, look);
    let keys = " q quit · 1-4 or Tab view · ↑↓ PgUp PgDn scroll · g top";
    frame.render_widget(Line::from(look.span(Tone::Soft, keys)), foot);
}

fn headline<'a>(known: &'a Known, look: &'a Look) -> Line<'a> {
    let mut line = vec![Span::styled(
        " drover ",
        look.style(Tone::Usual).add_modifier(Modifier::BOLD),
    )];
    if let Some(fleet) = &known.fleet {
        line.push(format!("{} ", fleet.version).into());
    }
    line.push(look.span(Tone::Soft, format!("{} ", look.address)));
    match &known.link {
        Link::Connecting => line.push(look.span(Tone::Warn, "connecting …")),
        Link::Up => {}
        Link::Down(why) => line.push(look.span(Tone::Bad, format!("AWAY: {why}; trying again"))),
    }
    if let Some(fleet) = &known.fleet {
        if fleet.draining {
            line.push(look.span(Tone::Warn, "draining "));
        }
        line.push(format!("{} sessions  {} turns", fleet.sessions, known.turns.len()).into());
        for queue in fleet.queues.iter().filter(|queue| queue.waiting > 0) {
            let text = format!(
                "  {} {} wait for {}",
                queue.waiting, queue.class, queue.pool
            );
            line.push(look.span(Tone::Warn, text));
        }
    }
    if known.missed > 0 {
        line.push(look.span(Tone::Warn, format!("  {} events missed", known.missed)));
    }
    Line::from(line)
}

fn rates_of<'a>(known: &Known, look: &Look, now: Instant) -> Line<'a> {
    let rates = known.rates(now);
    let mut line = vec![look.span(Tone::Soft, " last minute  ")];
    line.push(format!("{:.1} requests/s  ", rates.requests).into());
    let tone = match rates.failed {
        failed if failed >= 0.05 => Tone::Bad,
        failed if failed > 0.0 => Tone::Warn,
        _ => Tone::Usual,
    };
    line.push(look.span(tone, format!("{:.1}% failed  ", rates.failed * 100.0)));
    line.push(format!("{:.0} tokens/s  ", rates.tokens_out).into());
    if let Some((median, p95)) = rates.first {
        line.push(format!("first token {median} ms, p95 {p95} ms  ").into());
    }
    if let Some(cached) = rates.cached {
        line.push(format!("{:.0}% of prompts cached", cached * 100.0).into());
    }
    Line::from(line)
}

fn tabs_of<'a>(look: &Look) -> Line<'a> {
    let tabs = Tab::ALL.iter().enumerate().map(|(n, tab)| {
        let text = format!(" {} {} ", n + 1, tab.title());
        match *tab == look.tab {
            true => Span::styled(text, Style::default().add_modifier(Modifier::REVERSED)),
            false => look.span(Tone::Soft, text),
        }
    });
    Line::from_iter(tabs)
}

#[cfg(test)]
mod tests;
