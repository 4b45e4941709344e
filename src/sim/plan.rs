//! Lays a script out as a sequence of beats: tokens with what each makes visible, grouped into
//! decode steps by the speculation profile, and the disturbances between them.

use std::time::Duration;

use serde_json::Value;

use super::{
    config::Speculation,
    errors::ApiError,
    prose,
    request::{Format, Request, ToolChoice},
    rng::Rng,
    schema,
    script::{Call, Step},
    template,
    tokens::{self, MESSAGE_END, Token},
};

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

/// A decode step: a target model pass that checks `drafted` tokens and keeps `accepted` of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pass {
    pub(crate) drafted: u32,
    pub(crate) accepted: u32,
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

/// What the model says when no script tells it, for a request with room for `room` tokens.
pub(crate) fn made_up(request: &Request, room: usize, rng: &mut Rng) -> Vec<Step> {
    if request.tool_choice == ToolChoice::Required
        && let Some(tool) = request.tools.first()
    {
        let arguments = match &tool.parameters {
            Value::Null => "{}".to_owned(),
            parameters => schema::document(parameters, rng),
        };
        let arguments = Value::String(arguments);
        return vec![Step::ToolCall(Call {
            name: tool.name.clone(),
            arguments,
            id: None,
        })];
    }
    vec![Step::Text(match &request.format {
        Format::JsonSchema(schema) => schema::document(schema, rng),
        Format::JsonObject => "{\"answer\": \"ok\"}".into(),
        Format::Text if request.ignore_eos => {
            let mut text = prose::answer(rng);
            // A token has at most six bytes.
            while text.len() < room.saturating_mul(6) {
                text.push(' ');
                text.push_str(&prose::sentence(rng));
            }
            text
        }
        Format::Text => prose::answer(rng),
    })]
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
                (0..*times)
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
            Step::SleepMs(ms) => self.beats.push(Beat::Pause(Duration::from_millis(*ms))),
            Step::Garbage(text) => self.beats.push(Beat::Garbage(text.clone())),
            Step::NoDone => self.done = false,
            Step::NoRole => self.role = false,
            Step::Finish(reason) => self.finish = Some(reason.clone()),
            Step::Silence => self.last(Beat::Silence),
            Step::Fail(failure) => {
                let after_role = *failure == super::errors::KnownFailure::PegParse;
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
        tokens::pieces(text)
            .for_each(|piece| self.token(tokens::number(piece), Emit::Content(piece.to_owned())));
        if stopped {
            self.silent("\n");
            self.finish.get_or_insert_with(|| "stop".into());
            self.ended = true;
        }
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

/// Groups tokens into decode steps. The first token comes from the prompt's evaluation, each
/// further pass yields one token plus the accepted ones.
fn speculate(beats: &mut [Beat], speculation: &Speculation, repetitive: bool, rng: &mut Rng) {
    let acceptance = if repetitive {
        speculation.repetitive
    } else {
        speculation.plain
    };
    let mut left = beats
        .iter()
        .filter(|beat| matches!(beat, Beat::Token(_)))
        .count();
    let mut first = true;
    let mut accepted = 0;
    for beat in beats {
        let Beat::Token(token) = beat else {
            accepted = 0;
            continue;
        };
        left -= 1;
        if let Some(scripted) = token.pass {
            accepted = scripted.accepted;
        } else if accepted > 0 {
            accepted -= 1;
        } else {
            let mut pass = Pass {
                drafted: 0,
                accepted: 0,
            };
            if !first && left > 0 && speculation.is_active() && rng.chance(acceptance.draft_rate) {
                pass.drafted = speculation.n_max;
                let most = pass.drafted.min(u32::try_from(left).unwrap_or(u32::MAX));
                while pass.accepted < most && rng.chance(acceptance.accept_rate) {
                    pass.accepted += 1;
                }
            }
            accepted = pass.accepted;
            token.pass = Some(pass);
        }
        first = false;
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
