"""Chat completions that are not streamed."""

import json

import pydantic
import pytest
from conftest import counting


def test_answer_has_the_documented_shape(chat):
    answer = chat(counting())
    assert answer.object == "chat.completion"
    assert answer.id.startswith("chatcmpl-")
    assert answer.model and answer.created > 0
    [choice] = answer.choices
    assert choice.index == 0
    assert choice.finish_reason == "stop"
    assert choice.message.role == "assistant"
    assert choice.message.content.strip() == "1, 2, 3, 4, 5."
    assert not choice.message.tool_calls
    usage = answer.usage
    assert usage.prompt_tokens > 0 and usage.completion_tokens > 0
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
def test_token_limit(client, model, field):
    answer = client.chat.completions.create(model=model, messages=counting(to=9), temperature=0, **{field: 4})
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 4


def test_content_parts_are_the_same_as_text(chat):
    text = counting()
    parts = [m | {"content": [{"type": "text", "text": m["content"]}]} for m in text]
    assert chat(parts).usage.prompt_tokens == chat(text).usage.prompt_tokens


def test_system_message_counts(chat):
    system = {"role": "system", "content": "You count."}
    assert chat([system, *counting()]).usage.prompt_tokens > chat(counting()).usage.prompt_tokens


def test_developer_role_means_system(chat):
    as_developer = chat([{"role": "developer", "content": "You count."}, *counting()])
    as_system = chat([{"role": "system", "content": "You count."}, *counting()])
    assert as_developer.usage.prompt_tokens == as_system.usage.prompt_tokens


def test_two_choices(chat):
    answer = chat(counting(), n=2)
    assert sorted(c.index for c in answer.choices) == [0, 1]
    assert all(c.message.content and c.finish_reason for c in answer.choices)


@pytest.mark.parametrize("stop", [" 4", [" 4", "never"]])
def test_stop_sequence_ends_the_text_before_it(chat, stop):
    answer = chat(counting(), stop=stop)
    assert answer.choices[0].message.content.strip() == "1, 2, 3,"
    assert answer.choices[0].finish_reason == "stop"


def test_json_schema(chat):
    schema = {
        "type": "object",
        "properties": {"city": {"enum": ["Paris", "Rome"]}, "degrees": {"type": "integer", "minimum": 0, "maximum": 9}},
        "required": ["city", "degrees"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "json_schema": {"name": "weather", "strict": True, "schema": schema}}
    answer = chat([{"role": "user", "content": "Weather in Paris?"}], response_format=form, max_tokens=60)
    value = json.loads(answer.choices[0].message.content)
    assert value["city"] in ("Paris", "Rome") and 0 <= value["degrees"] <= 9


def test_json_object(chat):
    answer = chat([{"role": "user", "content": "Say hi in JSON."}], response_format={"type": "json_object"}, max_tokens=200)
    # The model may talk until the limit; only a finished answer must parse.
    content = answer.choices[0].message.content
    assert content.lstrip().startswith("{")
    if answer.choices[0].finish_reason == "stop":
        assert isinstance(json.loads(content), dict)


def test_parse_into_a_model(client, model):
    class Verdict(pydantic.BaseModel):
        ok: bool

    answer = client.chat.completions.parse(
        model=model,
        messages=[{"role": "user", "content": "Is water wet?"}],
        response_format=Verdict,
        temperature=0,
        max_tokens=60,
    )
    assert isinstance(answer.choices[0].message.parsed, Verdict)


def test_logprobs(chat):
    answer = chat(counting(), logprobs=True, top_logprobs=2)
    tokens = answer.choices[0].logprobs.content
    assert all(t.logprob <= 0 for t in tokens)
    # The first token is never a drafted one: llama-server knows no alternatives for accepted drafts.
    assert tokens[0].logprob < 0 and len(tokens[0].top_logprobs) == 2
    # A streamed answer of a speculating backend says nothing about accepted drafts, so only the beginning is certain.
    assert "".join(t.token for t in tokens).strip().startswith("1")


def test_unknown_fields_are_no_error(chat):
    body = {"a_field_of_tomorrow": {"deep": [1, None]}, "service_tier": "auto", "store": False, "metadata": {"a": "b"}}
    assert chat(counting(), extra_body=body, user="someone").choices[0].message.content


def test_unusual_text_survives(chat):
    text = "naïve 🦙 – 漢字 \u2028 \\n \" </s> <tool_call> {}}"
    answer = chat([{"role": "user", "content": text}])
    assert answer.usage.prompt_tokens > 10
