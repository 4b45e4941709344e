"""Errors must arrive as the SDK's own exceptions, readable, at once."""

import http.client
import json
from urllib.parse import urlsplit

import openai
import pytest
from conftest import URL, counting, weather, weather_tool

TOO_LONG = [{"role": "user", "content": "llama " * 6000}]


def body_of(error):
    """The SDK keeps the inside of the answer's `error` object."""
    assert isinstance(error.body, dict), f"no JSON error object: {error.response.text!r}"
    assert error.body["message"] and error.body["type"]
    return error.body


@pytest.mark.parametrize("stream", [False, True])
def test_context_overflow_is_a_readable_bad_request(chat, stream):
    with pytest.raises(openai.BadRequestError, match=r"exceeds the available context size|prompt is too long") as caught:
        chat(TOO_LONG, stream=stream)
    body_of(caught.value)


def test_unknown_path(client):
    with pytest.raises(openai.NotFoundError) as caught:
        client.get("/no/such/path", cast_to=object)
    body_of(caught.value)


@pytest.mark.gateway
def test_unknown_model(client):
    with pytest.raises(openai.NotFoundError, match="no-such-model") as caught:
        client.chat.completions.create(model="no-such-model", messages=counting(), max_tokens=4)
    body_of(caught.value)


@pytest.mark.parametrize(
    "fields",
    [{"max_tokens": "many"}, {"temperature": "hot"}, {"response_format": {"type": "no-such-format"}}],
    ids=lambda fields: next(iter(fields)),
)
def test_wrong_type(chat, fields):
    with pytest.raises(openai.BadRequestError) as caught:
        chat(counting(), **fields)
    body_of(caught.value)


@pytest.mark.gateway
@pytest.mark.parametrize("messages", ["text", None, [{"content": "no role"}]], ids=["text", "null", "no-role"])
def test_wrong_messages(client, model, messages):
    """A llama-server answers some of these with 500, which a client would try again for minutes."""
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model=model, messages=messages, max_tokens=4)
    body_of(caught.value)


def post(body):
    address = urlsplit(URL)
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=30)
    connection.request("POST", "/v1/chat/completions", body, {"content-type": "application/json"})
    response = connection.getresponse()
    return response.status, response.getheader("content-type"), response.read()


@pytest.mark.parametrize("body", [b'{"messages": [', b"", b"[]", b'"text"', b"\xff\xfe"])
def test_body_that_is_no_request(body):
    status, content_type, answer = post(body)
    assert status in (400, 500) if body in (b"[]", b'"text"') else status == 400
    assert content_type.startswith("application/json")
    assert json.loads(answer)["error"]["message"]


@pytest.mark.gateway
@pytest.mark.parametrize("body", [b"[]", b'"text"'])
def test_body_that_is_no_object(body):
    assert post(body)[0] == 400


def test_logprobs_with_tools_in_a_stream(chat):
    with pytest.raises(openai.BadRequestError):
        chat(weather(), tools=[weather_tool()], logprobs=True, stream=True)


def test_too_many_choices(chat):
    with pytest.raises(openai.BadRequestError):
        chat(counting(), n=50)


def test_embeddings_of_a_model_without_them(client, model):
    with pytest.raises(openai.APIStatusError) as caught:
        client.embeddings.create(model=model, input="text")
    assert caught.value.status_code == 501
    body_of(caught.value)
