"""The official Anthropic SDK: messages, streams, tools, token counts, errors."""

import itertools
import re

import anthropic
import pytest
from conftest import ADMIN_URL, BACKENDS, URL, wait_for_busy_slots

ENDLESS = [{"role": "user", "content": "Write a very long story about a llama. Never stop."}]
WEATHER_TOOL = {
    "name": "get_weather",
    "description": "Get the weather for a city",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 12}, "unit": {"type": "string", "enum": ["c", "f"]}},
        "required": ["city", "unit"],
        "additionalProperties": False,
    },
}


@pytest.fixture(scope="session")
def anthropic_client():
    retries = 0 if ADMIN_URL else 2
    with anthropic.Anthropic(base_url=URL, api_key="sk-test", max_retries=retries, timeout=120) as client:
        yield client


@pytest.fixture
def ask(anthropic_client, model):
    """`ask(messages, **fields)`: one greedy, short message."""

    def create(messages, **fields):
        fields = {"model": model, "max_tokens": 24, "extra_body": {"temperature": 0} | fields.pop("extra_body", {})} | fields
        return anthropic_client.messages.create(messages=messages, **fields)

    return create


def counting(to=5):
    question = {"role": "user", "content": f"Count from 1 to {to}."}
    answer = {"role": "assistant", "content": ", ".join(str(i) for i in range(1, to + 1)) + "."}
    return [question, answer, question, answer, question]


def weather():
    messages = []
    for city in ("London", "Rome"):
        call = {"type": "tool_use", "id": f"toolu_{city}", "name": "get_weather", "input": {"city": city, "unit": "c"}}
        result = {"type": "tool_result", "tool_use_id": f"toolu_{city}", "content": "20"}
        messages += [
            {"role": "user", "content": f"What is the weather in {city} in c?"},
            {"role": "assistant", "content": [call]},
            {"role": "user", "content": [result]},
            {"role": "assistant", "content": f"It is 20 C in {city}."},
        ]
    return messages + [{"role": "user", "content": "What is the weather in Paris in c?"}]


def first_call(ask_once, tries=4):
    """Greedy decoding differs between a cold and a cached prompt, and a model this small may talk instead: ask again."""
    for attempt in range(tries):
        answer = ask_once({"temperature": 0.0 if attempt < 2 else 0.4})
        calls = [block for block in answer.content if block.type == "tool_use"]
        assert bool(calls) == (answer.stop_reason == "tool_use")
        if calls:
            return calls
    pytest.fail(f"no tool call in {tries} answers")


def test_answer_has_the_documented_shape(ask):
    answer = ask(counting())
    assert (answer.type, answer.role) == ("message", "assistant")
    assert answer.stop_reason == "end_turn" and answer.stop_sequence is None
    [block] = answer.content
    assert block.type == "text" and block.text.strip() == "1, 2, 3, 4, 5."
    assert answer.usage.output_tokens > 0


@pytest.mark.gateway
def test_id_is_a_message_id(ask):
    assert ask(counting()).id.startswith("msg_")


def test_token_limit(ask):
    answer = ask(counting(to=9), max_tokens=4)
    assert answer.stop_reason == "max_tokens"
    assert answer.usage.output_tokens == 4


def test_system_as_text_and_as_blocks_cost_the_same(anthropic_client, model):
    def count(system):
        return anthropic_client.messages.count_tokens(model=model, messages=counting(), system=system).input_tokens

    blocks = [{"type": "text", "text": "You count.", "cache_control": {"type": "ephemeral"}}]
    assert count(blocks) == count("You count.") > 10


@pytest.mark.gateway
def test_system_message_inside_the_conversation(ask):
    messages = counting()
    assert ask([*messages[:-1], {"role": "system", "content": "A reminder."}, messages[-1]]).content


@pytest.mark.gateway
def test_stop_sequence_is_named(ask):
    """A llama-server alone says `end_turn`."""
    answer = ask(counting(), stop_sequences=["never", " 4"])
    assert answer.content[0].text.strip() == "1, 2, 3,"
    assert (answer.stop_reason, answer.stop_sequence) == ("stop_sequence", " 4")


def test_unknown_fields_are_no_error(ask):
    body = {"a_field_of_tomorrow": {"deep": [1, None]}, "context_management": {"edits": []}, "top_k": 40}
    assert ask(counting(), extra_body=body, metadata={"user_id": "someone"}, service_tier="auto").content


@pytest.mark.gateway
def test_tools_may_lack_a_schema_and_bring_unknown_fields(ask):
    tools = [WEATHER_TOOL | {"defer_loading": True, "strict": True}, {"type": "web_search_20250305", "name": "web_search"}]
    assert ask(counting(), tools=tools).content


@pytest.mark.gateway
def test_huge_token_limit_is_capped_not_refused(ask):
    assert ask(counting(), max_tokens=128_000, timeout=120).stop_reason == "end_turn"


def test_sdk_accumulates_the_stream(anthropic_client, model):
    fields = {"model": model, "max_tokens": 24, "messages": counting(), "extra_body": {"temperature": 0}}
    with anthropic_client.messages.stream(**fields) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text.strip() == final.content[0].text.strip() == "1, 2, 3, 4, 5."
    assert final.stop_reason == "end_turn"


def assert_event_order(events):
    """message_start, blocks one after the other and each closed once, message_delta, message_stop; pings anywhere."""
    letters = {
        "message_start": "M",
        "content_block_start": "(",
        "content_block_delta": "d",
        "content_block_stop": ")",
        "message_delta": "D",
        "message_stop": "E",
    }
    kinds = "".join(letters[e.type] for e in events if e.type in letters)
    assert re.fullmatch(r"M(\(d*\))*DE", kinds), kinds
    indices = [e.index for e in events if e.type == "content_block_start"]
    assert indices == list(range(len(indices)))


def test_stream_events_are_in_order(ask):
    events = list(ask(counting(), stream=True))
    assert_event_order(events)
    [delta] = [e for e in events if e.type == "message_delta"]
    assert delta.delta.stop_reason == "end_turn" and delta.usage.output_tokens > 0


@pytest.mark.gateway
@pytest.mark.parametrize("tool_choice", ["auto", "any"])
def test_stream_events_of_a_call_are_in_order(ask, tool_choice):
    for _ in range(3):
        events = list(ask(weather(), tools=[WEATHER_TOOL], tool_choice={"type": tool_choice}, max_tokens=60, stream=True))
        assert_event_order(events)
        for start in (e for e in events if e.type == "content_block_start" and e.content_block.type == "tool_use"):
            assert start.content_block.input == {}


@pytest.mark.parametrize("choice", [{"type": "auto"}, {"type": "any"}, {"type": "tool", "name": "get_weather"}], ids=lambda c: c["type"])
def test_call(ask, choice):
    fields = {"tools": [WEATHER_TOOL], "tool_choice": choice, "max_tokens": 60}
    [call] = first_call(lambda sampling: ask(weather(), extra_body=sampling, **fields))
    assert call.id and call.name == "get_weather"
    assert call.input == {"city": "Paris", "unit": "c"}


@pytest.mark.parametrize("choice", ["auto", "any"])
def test_call_in_a_stream(anthropic_client, model, choice):
    def once(sampling):
        fields = {"model": model, "messages": weather(), "tools": [WEATHER_TOOL], "tool_choice": {"type": choice}}
        with anthropic_client.messages.stream(max_tokens=60, extra_body=sampling, **fields) as stream:
            return stream.get_final_message()

    [call] = first_call(once)
    assert call.name == "get_weather"
    assert call.input == {"city": "Paris", "unit": "c"}


@pytest.mark.gateway
def test_choice_none_calls_nothing(ask):
    answer = ask(weather(), tools=[WEATHER_TOOL], tool_choice={"type": "none"})
    assert all(block.type == "text" for block in answer.content)


@pytest.mark.parametrize("content", ["20", [{"type": "text", "text": "20"}]], ids=["text", "blocks"])
def test_result_of_a_call_is_answered(ask, content):
    call = {"type": "tool_use", "id": "toolu_Paris", "name": "get_weather", "input": {"city": "Paris", "unit": "c"}}
    result = {"type": "tool_result", "tool_use_id": "toolu_Paris", "content": content, "is_error": False}
    messages = [*weather(), {"role": "assistant", "content": [call]}, {"role": "user", "content": [result]}]
    answer = ask(messages, tools=[WEATHER_TOOL])
    assert answer.stop_reason == "end_turn"
    assert "Paris" in answer.content[0].text


@pytest.mark.gateway
def test_stream_and_answer_cost_the_same(ask):
    for _ in range(3 * len(BACKENDS)):
        ask(counting())
    whole = ask(counting()).usage
    assert whole.cache_read_input_tokens > 0
    [delta] = [e for e in ask(counting(), stream=True) if e.type == "message_delta"]
    streamed = delta.usage
    assert (streamed.input_tokens, streamed.output_tokens) == (whole.input_tokens, whole.output_tokens)
    assert streamed.cache_read_input_tokens == whole.cache_read_input_tokens


def test_counted_tokens_are_the_ones_charged(anthropic_client, ask, model):
    fields = {"messages": weather(), "tools": [WEATHER_TOOL]}
    counted = anthropic_client.messages.count_tokens(model=model, **fields).input_tokens
    usage = ask(**fields).usage
    assert usage.input_tokens + (usage.cache_read_input_tokens or 0) == counted


def test_leaving_a_stream_frees_the_slot(ask):
    stream = ask(ENDLESS, max_tokens=3000, stream=True)
    assert len(list(itertools.islice(stream, 5))) == 5
    stream.close()
    assert wait_for_busy_slots(0, timeout_s=6) == 0


@pytest.mark.gateway
@pytest.mark.parametrize("stream", [False, True])
def test_context_overflow_makes_clients_compact(ask, stream):
    with pytest.raises(anthropic.BadRequestError, match="prompt is too long|exceeds the available context size") as caught:
        ask([{"role": "user", "content": "llama " * 6000}], stream=stream)
    assert caught.value.body["type"] == "error"
    assert caught.value.body["error"]["type"] == "invalid_request_error"


@pytest.mark.gateway
def test_unknown_path_and_unknown_model(anthropic_client, model):
    with pytest.raises(anthropic.NotFoundError) as caught:
        anthropic_client.post("/v1/messages/no/such/path", body={}, cast_to=object)
    assert caught.value.body["error"]["type"] == "not_found_error"
    with pytest.raises(anthropic.NotFoundError) as caught:
        anthropic_client.messages.create(model="no-such-model", max_tokens=4, messages=counting())
    assert caught.value.body["error"]["type"] == "not_found_error"


@pytest.mark.gateway
@pytest.mark.parametrize("messages", ["text", None, [{"content": "no role"}]], ids=["text", "null", "no-role"])
def test_wrong_messages(anthropic_client, model, messages):
    with pytest.raises(anthropic.BadRequestError) as caught:
        anthropic_client.messages.create(model=model, max_tokens=4, messages=messages)
    assert caught.value.body["error"]["type"] == "invalid_request_error"


@pytest.mark.gateway
def test_models_in_the_caller_s_shape(anthropic_client, model):
    models = list(anthropic_client.models.list(limit=1000))
    assert model in [m.id for m in models]
    assert all(m.type == "model" and m.display_name for m in models)


@pytest.mark.gateway
def test_beta_client_and_prefix(model):
    with anthropic.Anthropic(base_url=f"{URL}/anthropic", auth_token="sk-test", max_retries=0, timeout=120) as client:
        answer = client.beta.messages.create(model=model, max_tokens=24, messages=counting(), betas=["context-1m-2025-08-07"])
    assert answer.type == "message"
