//! Lays a script out as a sequence of beats: tokens with what each makes visible, grouped into
//! decode steps by the speculation profile, and the disturbances between them.

use std::time::Duration;

use super::{
    config::Speculation,
    errors::{ApiError, KnownFailure},
    prose,
    request::Request,
    rng::Rng,
    speculate::{Pass, speculate},
    step::{Call, Step},
    template,
    tokens::{self, MESSAGE_END, Token},
};

/// Bounds on what a script may ask for.
const LONGEST_PAUSE_MS: u64 = 24 * 3600 * 1000;
const MOST_REPEATS: usize = 10_000_000;

/// What a token makes visible.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Emit {
    Nothing,
    Content(String),
    /// Content whose bytes are cut inside characters on their way.
    Split(String),
    Reasoning(String),
    ToolOpen {
        index: usize,
        id: String,
        name: String,
        arguments: String,
    },
    ToolArguments {
        index: usize,
        arguments: String,
    },
}

/// One generated token.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TokenBeat {
    pub(crate) token: Token,
    pub(crate) emit: Emit,
    /// The decode step that this token is the first of.
    pub(crate) pass: Option<Pass>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Beat {
    Token(TokenBeat),
    Pause(Duration),
    Silence,
    /// `after_role`: the failure follows parsed output, so the role was sent before.
    Fail {
        error: ApiError,
        after_role: bool,
    },
    Cut {
        reset: bool,
    },
    Garbage(String),
    End,
}

/// A laid-out answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Plan {
    pub(crate) beats: Vec<Beat>,
    pub(crate) finish: String,
    pub(crate) role: bool,
    pub(crate) done: bool,
}

/// Lays `steps` out for at most `room` tokens.
pub(crate) fn lay_out(
    steps: &[Step],
    request: &Request,
    room: usize,
    speculation: &Speculation,
    rng: &mut Rng,
) -> Plan {
    let mut layout = Layout::new(request, room);
    for step in steps {
        if layout.ended {
            break;
        }
        layout.step(step, rng);
    }
    let mut plan = layout.end();
    let repeats = steps.iter().any(|step| matches!(step, Step::Repeat { .. }));
    let repetitive = repeats || prose::is_repetitive(request.last_user_text());
    speculate(&mut plan.beats, speculation, repetitive, rng);
    plan
}

struct Layout<'a> {
    beats: Vec<Beat>,
    room: usize,
    stop: &'a [String],
    /// What is not said again.
    said: &'a str,
    content: String,
    calls: usize,
    finish: Option<String>,
    role: bool,
    done: bool,
    ended: bool,
}

impl<'a> Layout<'a> {
    fn new(request: &'a Request, room: usize) -> Self {
        Self {
            beats: Vec::new(),
            room,
            stop: &request.stop,
            said: request.said(),
            content: String::new(),
            calls: 0,
            finish: None,
            role: true,
            done: true,
            ended: false,
        }
    }

    fn step(&mut self, step: &Step, rng: &mut Rng) {
        match step {
            Step::Text(text) => self.text(text),
            Step::Chunks(chunks) => chunks.iter().for_each(|chunk| {
                self.lump(chunk, Emit::Content(chunk.clone()));
            }),
            Step::Reasoning(text) => self.reasoning(text),
            Step::Repeat { text, times } => {
                (0..(*times).min(MOST_REPEATS))
                    .take_while(|_| {
                        self.text(text);
                        !self.ended
                    })
                    .count();
            }
            Step::ToolCall(call) => self.call(call, None, rng),
            Step::TruncatedToolCall { call, cut } => self.call(call, Some(*cut), rng),
            Step::Burst {
                text,
                drafted,
                accepted,
            } => self.burst(text, *drafted, *accepted),
            Step::SplitUtf8(text) => self.lump(text, Emit::Split(text.clone())),
            Step::SleepMs(ms) => self.beats.push(Beat::Pause(Duration::from_millis(
                (*ms).min(LONGEST_PAUSE_MS),
            ))),
            Step::Garbage(text) => self.beats.push(Beat::Garbage(text.clone())),
            Step::NoDone => self.done = false,
            Step::NoRole => self.role = false,
            Step::Finish(reason) => self.finish = Some(reason.clone()),
            Step::Silence => self.last(Beat::Silence),
            Step::Fail(failure) => {
                let after_role = *failure == KnownFailure::PegParse;
                self.last(Beat::Fail {
                    error: ApiError::known(*failure),
                    after_role,
                });
            }
            Step::Error(error) | Step::HttpError(error) => {
                self.last(Beat::Fail {
                    error: error.api_error(),
                    after_role: false,
                });
            }
            Step::Die => self.last(Beat::Cut { reset: false }),
            Step::Reset => self.last(Beat::Cut { reset: true }),
            Step::End => self.last(Beat::End),
        }
    }

    fn last(&mut self, beat: Beat) {
        self.beats.push(beat);
        self.ended = true;
    }

    /// Adds a token unless the room is used up; then the answer ends with `length`.
    fn token(&mut self, token: Token, emit: Emit) {
        if self.ended {
            return;
        }
        if self.room == 0 {
            self.finish.get_or_insert_with(|| "length".into());
            self.ended = true;
            return;
        }
        self.room -= 1;
        self.beats.push(Beat::Token(TokenBeat {
            token,
            emit,
            pass: None,
        }));
    }

    fn silent(&mut self, text: &str) {
        tokens::pieces(text).for_each(|piece| self.token(tokens::number(piece), Emit::Nothing));
    }

    fn text(&mut self, text: &str) {
        let (text, stopped) = self.until_stop(text);
        for piece in tokens::pieces(self.unsaid(text)) {
            self.token(tokens::number(piece), Emit::Content(piece.to_owned()));
        }
        if stopped {
            self.silent("\n");
            self.finish.get_or_insert_with(|| "stop".into());
            self.ended = true;
        }
    }

    /// The part of `text` that is not said already.
    fn unsaid<'t>(&mut self, text: &'t str) -> &'t str {
        let same = text.bytes().zip(self.said.bytes());
        let same = same.take_while(|(a, b)| a == b).count();
        if same == text.len().min(self.said.len()) && same > 0 {
            self.said = &self.said[same..];
            return &text[same..];
        }
        self.said = "";
        text
    }

    /// The part of `text` before the first stop string in the content so far.
    fn until_stop<'t>(&mut self, text: &'t str) -> (&'t str, bool) {
        if self.stop.is_empty() {
            return (text, false);
        }
        let before = self.content.len();
        self.content.push_str(text);
        let hits = self.stop.iter().filter_map(|stop| {
            let mut from = before.saturating_sub(stop.len());
            while !self.content.is_char_boundary(from) {
                from -= 1;
            }
            self.content[from..].find(stop.as_str()).map(|at| from + at)
        });
        match hits.min() {
            Some(at) => (&text[..at.saturating_sub(before)], true),
            None => (text, false),
        }
    }

    /// Tokens that become visible together, with the last of them.
    fn lump(&mut self, text: &str, emit: Emit) {
        let mut pieces: Vec<Token> = tokens::encode(text);
        let last = pieces.pop().unwrap_or(tokens::number(" "));
        pieces
            .into_iter()
            .for_each(|token| self.token(token, Emit::Nothing));
        self.token(last, emit);
    }

    fn reasoning(&mut self, text: &str) {
        self.silent("<think>");
        tokens::pieces(text)
            .for_each(|piece| self.token(tokens::number(piece), Emit::Reasoning(piece.to_owned())));
        self.silent("</think>");
    }

    fn call(&mut self, call: &Call, cut: Option<usize>, rng: &mut Rng) {
        let (head, tail) = template::call_frame(&call.name);
        let (index, arguments) = (self.calls, call.arguments_text());
        self.calls += 1;
        let mut end = cut.unwrap_or(arguments.len()).min(arguments.len());
        while !arguments.is_char_boundary(end) {
            end -= 1;
        }
        self.silent(&head);
        let mut id = Some(call.id.clone().unwrap_or_else(|| rng.id(32)));
        let mut add = |layout: &mut Self, piece: &str, token| {
            let arguments = piece.to_owned();
            let emit = match id.take() {
                Some(id) => Emit::ToolOpen {
                    index,
                    id,
                    name: call.name.clone(),
                    arguments,
                },
                None => Emit::ToolArguments { index, arguments },
            };
            layout.token(token, emit);
        };
        for piece in tokens::pieces(&arguments[..end]) {
            add(self, piece, tokens::number(piece));
        }
        if end == 0 {
            add(self, "", tokens::number(" "));
        }
        if cut.is_some() {
            self.finish.get_or_insert_with(|| "length".into());
            self.ended = true;
        } else {
            self.silent(tail);
        }
    }

    fn burst(&mut self, text: &str, drafted: u32, accepted: u32) {
        let first = self.beats.len();
        self.text(text);
        if let Some(Beat::Token(token)) = self.beats.get_mut(first) {
            token.pass = Some(Pass {
                drafted,
                accepted: accepted.min(drafted),
            });
        }
    }

    fn end(mut self) -> Plan {
        if !self.ended {
            self.silent(MESSAGE_END);
        }
        let finish = match self.finish {
            Some(reason) => reason,
            None if self.calls > 0 => "tool_calls".into(),
            None => "stop".into(),
        };
        Plan {
            beats: self.beats,
            finish,
            role: self.role,
            done: self.done,
        }
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
