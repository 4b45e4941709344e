//! The terminal: draws a few times a second, and takes the keys.

use std::io;
use std::time::Duration;

use parking_lot::Mutex;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::{DefaultTerminal, Terminal};
use tokio::time::Instant;

use super::Shared;
use super::draw::{self, Look, Tab};
use super::known::{Known, Link};
use super::source::{Address, follow};

/// Time between two drawings.
const EVERY: Duration = Duration::from_millis(250);

/// What a key asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Quit,
    Show(Tab),
    Next,
    Previous,
    /// Lines down; up when negative.
    Scroll(i32),
    Top,
}

/// Shows the gateway until a key ends it.
///
/// # Errors
/// The terminal cannot be used.
pub fn watch(address: Address) -> io::Result<()> {
    let look = Look::new(address.shown(), std::env::var_os("NO_COLOR").is_some());
    let (_runtime, known) = start(address)?;
    let mut terminal = ratatui::try_init()?;
    let ended = show(&mut terminal, &known, look);
    ratatui::try_restore()?;
    ended
}

/// One screen as text, once the gateway has told how things are.
///
/// # Errors
/// The gateway does not answer within `patience`.
pub fn once(address: Address, patience: Duration, width: u16, height: u16) -> io::Result<String> {
    let look = Look::new(address.shown(), true);
    let until = Instant::now() + patience;
    let (_runtime, known) = start(address)?;
    loop {
        let known = known.lock();
        if known.fleet.is_some() {
            return page(&known, &look, width, height);
        }
        if Instant::now() >= until {
            return Err(match &known.link {
                Link::Down(why) => io::Error::other(why.clone()),
                _ => io::Error::new(io::ErrorKind::TimedOut, "no answer"),
            });
        }
        drop(known);
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn page(known: &Known, look: &Look, width: u16, height: u16) -> io::Result<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).map_err(io::Error::other)?;
    let drawn = terminal.draw(|frame| draw::draw(frame, known, look, Instant::now()));
    let buffer = drawn.map_err(io::Error::other)?.buffer;
    let lines = buffer.content.chunks(usize::from(width.max(1)));
    let line = |cells: &[ratatui::buffer::Cell]| {
        let line: String = cells.iter().map(|cell| cell.symbol()).collect();
        line.trim_end().to_owned() + "\n"
    };
    Ok(lines.map(line).collect::<String>().trim_end().to_owned() + "\n")
}

/// Reads events in a thread of its own, as long as what is returned lives.
fn start(address: Address) -> io::Result<(tokio::runtime::Runtime, Shared)> {
    let known = Shared::new(Mutex::new(Known::new(Instant::now())));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let kept = Shared::clone(&known);
    runtime.spawn(async move { follow(&address, &kept).await });
    Ok((runtime, known))
}

fn show(terminal: &mut DefaultTerminal, known: &Shared, mut look: Look) -> io::Result<()> {
    loop {
        terminal.draw(|frame| draw::draw(frame, &known.lock(), &look, Instant::now()))?;
        let until = Instant::now() + EVERY;
        // Keys and changes of size are shown at once.
        while event::poll(until.saturating_duration_since(Instant::now()))? {
            match event::read()? {
                Event::Key(key) => match asked(key) {
                    Some(Asked::Quit) => return Ok(()),
                    Some(asked) => apply(&mut look, asked),
                    None => continue,
                },
                Event::Resize(..) => {}
                _ => continue,
            }
            break;
        }
    }
}

fn apply(look: &mut Look, asked: Asked) {
    match asked {
        Asked::Quit => {}
        Asked::Show(tab) => look.show(tab),
        Asked::Next => look.show(look.tab.next()),
        Asked::Previous => look.show(look.tab.previous()),
        Asked::Scroll(lines) => look.scroll(lines),
        Asked::Top => look.scroll(i32::MIN),
    }
}

fn asked(key: KeyEvent) -> Option<Asked> {
    if key.kind == KeyEventKind::Release {
        return None;
    }
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return (key.code == KeyCode::Char('c')).then_some(Asked::Quit);
    }
    Some(match key.code {
        KeyCode::Char('q') | KeyCode::Esc => Asked::Quit,
        KeyCode::Char(digit @ '1'..='4') => Asked::Show(Tab::ALL[digit as usize - '1' as usize]),
        KeyCode::Tab | KeyCode::Right | KeyCode::Char('l') => Asked::Next,
        KeyCode::BackTab | KeyCode::Left | KeyCode::Char('h') => Asked::Previous,
        KeyCode::Down | KeyCode::Char('j') => Asked::Scroll(1),
        KeyCode::Up | KeyCode::Char('k') => Asked::Scroll(-1),
        KeyCode::PageDown | KeyCode::Char(' ') => Asked::Scroll(20),
        KeyCode::PageUp => Asked::Scroll(-20),
        KeyCode::Home | KeyCode::Char('g') => Asked::Top,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_those_people_try() {
        let press = |code| asked(KeyEvent::new(code, KeyModifiers::NONE));
        assert_eq!(press(KeyCode::Char('q')), Some(Asked::Quit));
        assert_eq!(press(KeyCode::Char('2')), Some(Asked::Show(Tab::Turns)));
        assert_eq!(press(KeyCode::Char('5')), None);
        assert_eq!(press(KeyCode::Tab), Some(Asked::Next));
        let control = |c| asked(KeyEvent::new(KeyCode::Char(c), KeyModifiers::CONTROL));
        assert_eq!((control('c'), control('q')), (Some(Asked::Quit), None));
        let mut look = Look::new("x", true);
        apply(&mut look, Asked::Previous);
        assert_eq!(look.tab, Tab::Happened);
        apply(&mut look, Asked::Next);
        assert_eq!(look.tab, Tab::Fleet);
        apply(&mut look, Asked::Scroll(3));
        apply(&mut look, Asked::Scroll(-5));
        assert_eq!(look.from, 0);
    }
}
