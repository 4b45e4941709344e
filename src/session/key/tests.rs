use http::{HeaderName, HeaderValue};
use rstest::rstest;

use super::claims::HEADERS;
use super::*;
use crate::dialect::Dialect;
use crate::session::lineage::opener;

const UUID: &str = "9f1c2b6e-0d6b-4a8e-9b7e-3f2a1c0d5e4f";

fn key_of(headers: &[(&str, &str)], dialect: Dialect, more: &str) -> SessionKey {
    let prompt = match dialect {
        Dialect::Responses => "input",
        Dialect::OpenAi | Dialect::Anthropic => "messages",
    };
    let body = format!(
        r#"{{"model":"m","max_tokens":9,"{prompt}":[{{"role":"user","content":"hi"}}]{more}}}"#
    );
    let turn = dialect.decode(body.as_bytes()).unwrap();
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        let name: HeaderName = name.parse().unwrap();
        map.insert(name, HeaderValue::from_str(value).unwrap());
    }
    let principal = Principal::address(&"10.0.0.1").for_user_of((&turn).into());
    SessionKey::of(principal, &map, &turn, &opener(&turn))
}

fn openai(more: &str) -> SessionKey {
    key_of(&[], Dialect::OpenAi, more)
}

#[test]
fn headers_come_first_in_their_order() {
    let mut headers: Vec<(&str, &str)> = HEADERS.iter().map(|name| (*name, *name)).collect();
    let more = r#","metadata":{"session_id":"m"}"#;
    for name in HEADERS {
        let key = key_of(&headers, Dialect::OpenAi, more);
        assert_eq!(
            (key.source, key.value.as_str()),
            (Source::Header(name), *name)
        );
        headers.remove(0);
    }
    let key = key_of(&headers, Dialect::OpenAi, more);
    assert_eq!(key.source, Source::Body("metadata.session_id"));
}

#[test]
fn blank_and_binary_headers_name_nothing() {
    let key = key_of(
        &[("x-session-id", "  "), ("thread-id", "t")],
        Dialect::OpenAi,
        "",
    );
    assert_eq!(
        (key.source, key.value.as_str()),
        (Source::Header("thread-id"), "t")
    );
    let key = key_of(&[("x-session-id", "\u{e9}")], Dialect::OpenAi, "");
    assert_eq!(key.source, Source::Fingerprint);
}

#[rstest]
#[case(
    r#","metadata":{"thread_id":"c","conversation_id":"b","session_id":"a"}"#,
    "metadata.session_id",
    "a"
)]
#[case(
    r#","metadata":{"thread_id":"c","conversation_id":"b"}"#,
    "metadata.conversation_id",
    "b"
)]
#[case(
    r#","metadata":{"thread_id":17},"prompt_cache_key":"p""#,
    "metadata.thread_id",
    "17"
)]
#[case(
    r#","conversation_id":"c","thread_id":"t","metadata":{}"#,
    "conversation_id",
    "c"
)]
#[case(r#","thread_id":"t","prompt_cache_key":"p""#, "thread_id", "t")]
#[case(
    r#","prompt_cache_key":"p","user":"u","metadata":{"session_id":null}"#,
    "prompt_cache_key",
    "p"
)]
fn body_fields_in_their_order(
    #[case] more: &str,
    #[case] field: &'static str,
    #[case] value: &str,
    #[values(Dialect::OpenAi, Dialect::Anthropic, Dialect::Responses)] dialect: Dialect,
) {
    let key = key_of(&[], dialect, more);
    assert_eq!(
        (key.source, key.value.as_str()),
        (Source::Body(field), value)
    );
}

#[rstest]
#[case(
    r#"{\"device_id\":\"d\",\"account_uuid\":\"\",\"session_id\":\"UUID\"}"#,
    Some(UUID)
)]
#[case("user_0a1b_account__session_UUID", Some(UUID))]
#[case("user_0a1b_account_x_session_", None)]
#[case("alice", None)]
#[case("{broken", None)]
fn the_session_inside_a_user_id(#[case] user_id: &str, #[case] session: Option<&str>) {
    let user_id = user_id.replace("UUID", UUID);
    let more = format!(r#","metadata":{{"user_id":"{user_id}"}}"#);
    let key = key_of(&[], Dialect::Anthropic, &more);
    let found = (key.source == Source::Body("metadata.user_id")).then_some(key.value.as_str());
    assert_eq!(found, session);
    assert_eq!(key.principal.user.is_none(), session.is_some());
}

#[test]
fn a_user_tells_principals_apart_and_is_no_session() {
    let (a, b) = (openai(r#","user":"a""#), openai(r#","user":"b""#));
    assert_eq!(
        (a.source, b.source),
        (Source::Fingerprint, Source::Fingerprint)
    );
    assert_ne!(a.id(), b.id());
    assert_ne!(a.id(), openai("").id());
    let named = |user: &str| {
        openai(&format!(
            r#","user":"{user}","metadata":{{"session_id":"s"}}"#
        ))
    };
    assert_ne!(named("a").id(), named("b").id());
    assert_eq!(named("a").value, "s");
}

#[test]
fn a_fingerprint_is_twenty_digits_of_principal_model_and_opener() {
    let key = openai("");
    assert_eq!(key.value.len(), 20);
    assert_eq!(key.id(), openai("").id());
    let other_model = openai(r#","model":"n""#);
    assert_ne!(key.id(), other_model.id());
    let turn =
        Dialect::OpenAi.decode(br#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#);
    let elsewhere = Principal::address(&"10.0.0.2");
    let elsewhere = SessionKey::of(elsewhere, &HeaderMap::new(), &turn.unwrap(), "hi");
    assert_ne!(key.id(), elsewhere.id());
}

#[test]
fn ids_hide_the_name_and_can_be_read_back() {
    let key = key_of(&[("x-session-id", "my-secret")], Dialect::OpenAi, "");
    let id = key.id();
    assert!(!id.to_string().contains("secret"));
    assert_eq!(id.to_string().parse(), Ok(id));
    for text in [
        "",
        "0123",
        "0123456789ABCDEF0123",
        "0123456789abcdef012g",
        "é123456789abcdef012",
    ] {
        assert_eq!(text.parse::<SessionId>(), Err(NoSessionId), "{text}");
    }
}

#[test]
fn the_same_name_from_another_place_or_principal_is_another_session() {
    let header = key_of(&[("x-session-id", "s")], Dialect::OpenAi, "");
    let body = openai(r#","metadata":{"session_id":"s"}"#);
    assert_ne!(header.id(), body.id());
    let alice = SessionKey {
        principal: Principal::key("alice"),
        ..header.clone()
    };
    assert_ne!(header.id(), alice.id());
    let again = key_of(&[("thread-id", "s")], Dialect::OpenAi, "");
    assert_eq!(
        header.id(),
        again.id(),
        "one name in two headers is one session"
    );
}
