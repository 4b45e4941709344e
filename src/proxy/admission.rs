//! For whom a request wants a place, and how urgently.

use pingora_proxy::Session;

use super::context::Context;
use super::sessions;
use crate::config::{Auth, Config, Priority};
use crate::fleet::Caller;

/// Asks for a priority class.
const PRIORITY: &str = "x-drover-priority";

/// Who asks, with a body of so many bytes. Without a session every request stands for itself.
pub(super) fn caller(config: &Config, session: &Session, ctx: &Context, bytes: u64) -> Caller {
    let hash = |text: &str| xxhash_rust::xxh3::xxh3_64(text.as_bytes());
    let principal = sessions::principal(config, session, ctx);
    let header = session.req_header().headers.get(PRIORITY);
    let asked = header.and_then(|value| value.to_str().ok());
    Caller {
        principal: hash(principal.name()),
        session: match ctx.session {
            Some(id) => hash(&id.to_string()),
            None => hash(&ctx.id),
        },
        class: priority(&config.auth, ctx.principal.as_deref(), asked),
        bytes,
        ..Caller::default()
    }
}

/// The class of a key's request. A header may always step back; it may push forward only as far as the
/// key allows. Without keys the gateway serves one person's own machine, and that person may choose.
fn priority(auth: &Auth, principal: Option<&str>, asked: Option<&str>) -> Priority {
    let key = principal.and_then(|name| auth.keys.iter().find(|key| key.name == name));
    let asked = asked.and_then(|asked| {
        let named = |class: &Priority| class.as_str() == asked.trim();
        Priority::ALL.into_iter().find(named)
    });
    let allowed = asked.filter(|asked| match key {
        Some(key) => *asked == Priority::Batch || key.may_select.priority.contains(asked),
        None => auth.keys.is_empty(),
    });
    allowed
        .or_else(|| key.map(|key| key.priority))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_steps_back_freely_and_forward_by_permission() {
        use Priority::{Batch, Interactive};
        let text = "auth: {keys: [{name: a, key: 0123456789abcdef}, \
            {name: b, key: 123456789abcdef0, priority: batch}, \
            {name: c, key: 23456789abcdef01, priority: batch, may_select: {priority: [interactive]}}]}";
        let config = crate::config::parse(text, std::iter::empty()).unwrap();
        let class = |key, asked| priority(&config.auth, Some(key), asked);
        assert_eq!((class("a", None), class("b", None)), (Interactive, Batch));
        assert_eq!(class("a", Some("batch")), Batch);
        assert_eq!(class("a", Some("urgent")), Interactive);
        assert_eq!(class("b", Some("interactive")), Batch);
        assert_eq!(class("c", Some(" interactive ")), Interactive);
        let open = Auth::default();
        assert_eq!(priority(&open, None, Some("batch")), Batch);
        assert_eq!(priority(&open, None, None), Interactive);
    }
}
