//! A whole answer, for clients that do not stream.

use serde_json::value::RawValue;

use super::{Delta, Event, Stop, ToolCall};

/// The collected answer of a turn.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// The choices by index; one unless the client asked for more.
    pub choices: Vec<Choice>,
}

/// One of the answers.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    /// Visible text.
    pub text: String,
    /// Reasoning.
    pub thinking: String,
    /// Pieces the reasoning came in: about one a token.
    pub thinking_pieces: u64,
    /// Calls in the order the model made them.
    pub calls: Vec<ToolCall>,
    /// Token probabilities, one array a chunk, in OpenAI's form.
    pub logprobs: Vec<Box<RawValue>>,
    /// Why it ended; none while it has not.
    pub stop: Option<Stop>,
}

impl Answer {
    /// Take in one event.
    pub fn push(&mut self, event: Event) {
        match event {
            Event::Delta {
                choice,
                delta,
                logprobs,
            } => {
                let choice = self.choice(choice);
                choice.logprobs.extend(logprobs);
                choice.push(delta);
            }
            Event::Finish { choice, stop } => self.choice(choice).stop = Some(stop),
        }
    }

    fn choice(&mut self, index: u32) -> &mut Choice {
        let index = index as usize;
        if self.choices.len() <= index {
            self.choices.resize_with(index + 1, Choice::default);
        }
        &mut self.choices[index]
    }
}

impl Choice {
    fn push(&mut self, delta: Delta) {
        match delta {
            Delta::Text(text) => self.text.push_str(&text),
            Delta::Thinking(text) => {
                self.thinking.push_str(&text);
                self.thinking_pieces += 1;
            }
            Delta::ToolOpen { id, name, .. } => {
                self.calls.push(ToolCall {
                    id,
                    name,
                    arguments: String::new(),
                });
            }
            Delta::ToolArguments { index, fragment } => {
                if let Some(call) = self.calls.get_mut(index as usize) {
                    call.arguments.push_str(&fragment);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deltas_of_two_choices_are_collected_apart() {
        let mut answer = Answer::default();
        for (choice, text) in [(1, "b"), (0, "a"), (1, "B")] {
            let delta = Delta::Text(text.into());
            answer.push(Event::Delta {
                choice,
                delta,
                logprobs: None,
            });
        }
        answer.push(Event::Finish {
            choice: 0,
            stop: Stop::Length,
        });
        assert_eq!(answer.choices[0].text, "a");
        assert_eq!(answer.choices[1].text, "bB");
        assert_eq!(answer.choices[0].stop, Some(Stop::Length));
        assert_eq!(answer.choices[1].stop, None);
    }

    #[test]
    fn arguments_of_parallel_calls_go_to_their_own_call() {
        let mut answer = Answer::default();
        let mut push = |delta| {
            answer.push(Event::Delta {
                choice: 0,
                delta,
                logprobs: None,
            })
        };
        for index in 0..2 {
            push(Delta::ToolOpen {
                index,
                id: format!("c{index}"),
                name: "ls".into(),
            });
        }
        push(Delta::ToolArguments {
            index: 1,
            fragment: "{}".into(),
        });
        push(Delta::ToolArguments {
            index: 0,
            fragment: "[]".into(),
        });
        let calls = &answer.choices[0].calls;
        assert_eq!(
            (calls[0].arguments.as_str(), calls[1].arguments.as_str()),
            ("[]", "{}")
        );
    }
}
