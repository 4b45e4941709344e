"""The Responses API with the official SDK, on a real model."""

import json

import openai
import pydantic
import pytest
from conftest import counting, weather_tool

pytestmark = pytest.mark.gateway

COUNTED = "1, 2, 3, 4, 5."


@pytest.fixture
def respond(client, model):
    """`respond(input, **fields)`: one greedy, short response."""

    def create(input, **fields):
        fields = {"model": model, "temperature": 0, "max_output_tokens": 24, "store": False} | fields
        return client.responses.create(input=input, **fields)

    return create


def tool():
    return {"type": "function", "strict": True} | weather_tool()["function"]


def call(city):
    arguments = json.dumps({"city": city, "unit": "c"})
    return {"type": "function_call", "call_id": f"call_{city}", "name": "get_weather", "arguments": arguments}


def result(city):
    return {"type": "function_call_output", "call_id": f"call_{city}", "output": "20"}


def weather(*rounds, ask=("Paris",)):
    """Rounds of calls in which a tiny model learns to make them; each round names the cities asked for at once."""
    items = []
    for cities in rounds or (("London",), ("Rome",)):
        items.append({"role": "user", "content": f"What is the weather in {' and '.join(cities)} in c?"})
        items += [call(city) for city in cities]
        items += [result(city) for city in cities]
        items.append({"role": "assistant", "content": f"It is 20 C in {' and '.join(cities)}."})
    return items + [{"role": "user", "content": f"What is the weather in {' and '.join(ask)} in c?"}]


def until_calls(ask, at_least=1, tries=6):
    """Greedy decoding differs between a cold and a cached prompt, and a model this small may talk instead: ask again."""
    for attempt in range(tries):
        response = ask({"temperature": 0.0 if attempt < 2 else 0.4, "extra_body": {"seed": attempt}})
        calls = [item for item in response.output if item.type == "function_call"]
        if len(calls) >= at_least:
            return response, calls
    pytest.fail(f"no {at_least} calls in {tries} answers")


def check_usage(usage):
    assert usage.input_tokens > 0 and usage.output_tokens > 0
    assert usage.total_tokens == usage.input_tokens + usage.output_tokens
    assert 0 <= usage.input_tokens_details.cached_tokens <= usage.input_tokens
    assert 0 <= usage.output_tokens_details.reasoning_tokens <= usage.output_tokens


def test_response(respond, model):
    response = respond(counting())
    assert response.id.startswith("resp_") and response.object == "response"
    assert (response.status, response.model, response.error) == ("completed", model, None)
    assert response.output_text.strip() == COUNTED
    [message] = response.output
    assert (message.type, message.role, message.status) == ("message", "assistant", "completed")
    check_usage(response.usage)


def test_text_and_instructions(respond):
    response = respond("Say hello.", instructions="You are brief.", metadata={"a": "b"}, top_p=0.9, truncation="auto")
    assert response.output_text
    assert (response.instructions, response.metadata, response.top_p) == ("You are brief.", {"a": "b"}, 0.9)
    assert response.parallel_tool_calls is True and response.tool_choice == "auto" and response.tools == []


def test_limit_makes_it_incomplete(respond):
    response = respond(counting(to=9), max_output_tokens=4)
    assert (response.status, response.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    assert response.usage.output_tokens == 4


def test_developer_messages_anywhere(respond):
    items = [{"role": "developer", "content": "You count."}, *counting(), {"role": "developer", "content": "Be exact."}]
    assert respond(items).output_text


def test_every_event_is_numbered_and_the_last_is_the_whole(respond):
    events = list(respond(counting(), stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert (events[0].type, events[-1].type) == ("response.created", "response.completed")
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert text == events[-1].response.output_text and text.strip() == COUNTED
    check_usage(events[-1].response.usage)


def test_accumulating_helper(client, model):
    with client.responses.stream(model=model, input=counting(), temperature=0, max_output_tokens=24) as stream:
        snapshots = [event.snapshot for event in stream if event.type == "response.output_text.delta"]
        final = stream.get_final_response()
    assert final.output_text.strip() == COUNTED
    assert snapshots[-1] == final.output_text


@pytest.mark.parametrize("tool_choice", ["auto", "required", {"type": "function", "name": "get_weather"}])
def test_call(respond, tool_choice):
    fields = {"tools": [tool()], "tool_choice": tool_choice, "max_output_tokens": 60}
    response, [made] = until_calls(lambda sampling: respond(weather(), **fields, **sampling))
    assert response.status == "completed"
    assert made.call_id and made.id != made.call_id and made.status == "completed"
    assert made.name == "get_weather"
    assert json.loads(made.arguments) == {"city": "Paris", "unit": "c"}


def test_call_in_the_accumulating_helper(client, model):
    def ask(sampling):
        fields = {"model": model, "input": weather(), "tools": [tool()], "max_output_tokens": 60} | sampling
        with client.responses.stream(**fields) as stream:
            done = [event for event in stream if event.type == "response.function_call_arguments.done"]
            final = stream.get_final_response()
        calls = [item for item in final.output if item.type == "function_call"]
        assert [event.arguments for event in done] == [made.arguments for made in calls]
        return final

    _, calls = until_calls(ask)
    assert json.loads(calls[0].arguments)["city"] == "Paris"
    assert calls[0].parsed_arguments == json.loads(calls[0].arguments)


@pytest.mark.parametrize("stream", [False, True])
def test_tool_round(respond, stream):
    """What came out goes back in, with its result."""
    items = weather()

    def ask(sampling):
        answer = respond(items, tools=[tool()], stream=stream, max_output_tokens=60, **sampling)
        return list(answer)[-1].response if stream else answer

    response, calls = until_calls(ask)
    items += [item.to_dict() for item in response.output]
    items += [{"type": "function_call_output", "call_id": made.call_id, "output": "20"} for made in calls]
    answer = respond(items, tools=[tool()])
    assert answer.status == "completed" and "Paris" in answer.output_text


@pytest.mark.parametrize("stream", [False, True])
def test_parallel_calls(respond, stream):
    items = weather(("London", "Rome"), ("Oslo", "Bern"), ask=("Paris", "Cairo"))

    def ask(sampling):
        fields = {"tools": [tool()], "parallel_tool_calls": True, "max_output_tokens": 120, "stream": stream}
        answer = respond(items, **fields, **sampling)
        return list(answer)[-1].response if stream else answer

    _, calls = until_calls(ask, at_least=2)
    assert len({made.call_id for made in calls}) == len(calls)
    # Which other city a model this small means is its own affair.
    assert "Paris" in [json.loads(made.arguments)["city"] for made in calls]


class Weather(pydantic.BaseModel):
    city: str
    degrees: int


@pytest.mark.parametrize("stream", [False, True])
def test_structured_output(client, model, stream):
    fields = {"model": model, "input": "It is 20 degrees in Paris.", "text_format": Weather, "temperature": 0}
    if stream:
        with client.responses.stream(**fields) as events:
            final = events.get_final_response()
    else:
        final = client.responses.parse(**fields)
    assert isinstance(final.output_parsed, Weather)


def test_allowed_tools(respond):
    other = tool() | {"name": "get_time"}
    choice = {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "get_weather"}]}
    fields = {"tools": [other, tool()], "tool_choice": choice, "max_output_tokens": 60}
    _, calls = until_calls(lambda sampling: respond(weather(), **fields, **sampling))
    assert {made.name for made in calls} == {"get_weather"}


@pytest.mark.parametrize("state", [{"previous_response_id": "resp_1"}, {"conversation": "conv_1"}, {"background": True}])
def test_stored_state_is_refused_by_name(respond, state):
    with pytest.raises(openai.BadRequestError) as refused:
        respond("hi", **state)
    assert refused.value.param == next(iter(state))


def test_nothing_is_stored(client):
    with pytest.raises(openai.NotFoundError) as missing:
        client.responses.retrieve("resp_1")
    assert missing.value.code == "not_stored"


def test_overflow(respond):
    long = "one two three four " * 4000
    with pytest.raises(openai.BadRequestError) as refused:
        respond(long)
    assert refused.value.code == "context_length_exceeded"
    events = list(respond(long, stream=True))
    assert [event.type for event in events] == ["response.created", "response.in_progress", "response.failed"]
    assert events[-1].response.error.code == "context_length_exceeded"
