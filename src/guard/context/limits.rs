//! How many tokens a turn may generate.

use crate::config::Sampling;

/// What bounds a turn.
#[derive(Clone, Copy, Debug)]
pub struct Limits<'a> {
    /// Configured bounds.
    pub settings: &'a Sampling,
    /// Whether tools are offered and may be called.
    pub tool_turn: bool,
    /// Whether the model is kept from thinking.
    pub thinking_off: bool,
    /// Tokens the window has left behind the prompt, where that is known.
    pub room: Option<u64>,
}

/// The token limit instead of the client's, and what was done to it. A client that sets none gets
/// none: llama-server stops at the end of the window by itself.
pub fn limit(asked: Option<u64>, limits: Limits<'_>) -> (Option<u64>, Option<&'static str>) {
    let Some(asked) = asked else {
        let cap = limits.most();
        return (cap, cap.map(|_| "max_tokens_cap"));
    };
    let mut limit = asked;
    let mut done = None;
    if let Some(floor) = limits.least().filter(|floor| *floor > limit) {
        (limit, done) = (floor, Some("max_tokens_floor"));
    }
    if let Some(cap) = limits.most().filter(|cap| *cap < limit) {
        (limit, done) = (cap, Some("max_tokens_cap"));
    }
    if let Some(room) = limits.room.map(|room| room.max(1)).filter(|r| *r < limit) {
        (limit, done) = (room, Some("max_tokens_window"));
    }
    (Some(limit), done.filter(|_| limit != asked))
}

impl Limits<'_> {
    /// A model that does not think needs no room for it.
    fn least(&self) -> Option<u64> {
        let applies = self.tool_turn && !self.thinking_off;
        self.settings.max_tokens_floor.filter(|_| applies)
    }

    fn most(&self) -> Option<u64> {
        let tools = self.settings.tool_turn_max_tokens;
        let caps = [
            self.settings.max_tokens_cap,
            tools.filter(|_| self.tool_turn),
        ];
        caps.into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn settings(floor: Option<u64>, cap: Option<u64>, tools: Option<u64>) -> Sampling {
        Sampling {
            max_tokens_floor: floor,
            max_tokens_cap: cap,
            tool_turn_max_tokens: tools,
            ..Sampling::default()
        }
    }

    /// Cases 55 to 60 of the earlier proxy, as corrected.
    #[rstest]
    #[case::untouched(settings(None, None, None), 100, None, Some(100), None)]
    #[case::large(settings(None, None, None), 32_000, Some(90_000), Some(32_000), None)]
    #[case::window(
        settings(None, None, None),
        128_000,
        Some(5_000),
        Some(5_000),
        Some("max_tokens_window")
    )]
    #[case::never_raised(settings(None, None, None), 50, Some(1_024), Some(50), None)]
    #[case::no_room(
        settings(None, None, None),
        50,
        Some(0),
        Some(1),
        Some("max_tokens_window")
    )]
    #[case::floor(
        settings(Some(4096), None, None),
        512,
        None,
        Some(4096),
        Some("max_tokens_floor")
    )]
    #[case::above_floor(settings(Some(4096), None, None), 9_000, None, Some(9_000), None)]
    #[case::floor_in_the_window(
        settings(Some(4096), None, None),
        512,
        Some(600),
        Some(600),
        Some("max_tokens_window")
    )]
    #[case::cap(
        settings(None, Some(8192), None),
        32_000,
        None,
        Some(8192),
        Some("max_tokens_cap")
    )]
    #[case::tools(
        settings(None, Some(9_000), Some(8192)),
        32_000,
        None,
        Some(8192),
        Some("max_tokens_cap")
    )]
    fn a_tool_turn_gets(
        #[case] settings: Sampling,
        #[case] asked: u64,
        #[case] room: Option<u64>,
        #[case] expected: Option<u64>,
        #[case] done: Option<&str>,
    ) {
        let limits = Limits {
            settings: &settings,
            tool_turn: true,
            thinking_off: false,
            room,
        };
        assert_eq!(limit(Some(asked), limits), (expected, done));
    }

    #[test]
    fn other_turns_have_no_floor_and_nothing_is_invented() {
        let settings = settings(Some(4096), None, Some(8192));
        let plain = Limits {
            settings: &settings,
            tool_turn: false,
            thinking_off: false,
            room: Some(1000),
        };
        assert_eq!(limit(Some(512), plain), (Some(512), None));
        assert_eq!(limit(None, plain), (None, None));
        let quiet = Limits {
            tool_turn: true,
            thinking_off: true,
            ..plain
        };
        assert_eq!(limit(Some(512), quiet), (Some(512), None));
        assert_eq!(limit(None, quiet), (Some(8192), Some("max_tokens_cap")));
    }
}
