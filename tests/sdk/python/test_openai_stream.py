"""Streamed chat completions."""

import asyncio
import itertools
import json
import threading
import time

import openai
import pytest
from conftest import MODEL, URL, counting, wait_for_busy_slots

# Greedy decoding of this does not end by itself within the limit.
ENDLESS = [{"role": "user", "content": "Write a very long story about a llama. Never stop."}]


def text_of(chunks):
    return "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)


def test_chunks_have_the_documented_shape(chat):
    chunks = list(chat(counting(), stream=True))
    assert {c.object for c in chunks} == {"chat.completion.chunk"}
    assert len({c.id for c in chunks}) == 1
    assert chunks[0].choices[0].delta.role == "assistant"
    assert text_of(chunks).strip() == "1, 2, 3, 4, 5."
    reasons = [c.choices[0].finish_reason for c in chunks if c.choices]
    assert [r for r in reasons if r] == ["stop"]
    assert reasons[-1] == "stop", "nothing follows the end"
    assert all(c.usage is None for c in chunks), "usage was not asked for"


def test_tokens_come_one_by_one(chat):
    pieces = [c.choices[0].delta.content for c in chat(counting(to=9), stream=True, max_tokens=40)]
    assert sum(1 for p in pieces if p) > 5


def test_usage_chunk_is_the_last(chat):
    chunks = list(chat(counting(), stream=True, stream_options={"include_usage": True}))
    assert chunks[-1].choices == []
    usage = chunks[-1].usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens > 0
    assert all(c.usage is None for c in chunks[:-1])


def test_wire_format(client, model):
    body = {"model": model, "messages": counting(), "stream": True, "temperature": 0, "max_tokens": 24}
    with client.chat.completions.with_streaming_response.create(**body) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        events = [line for line in response.iter_lines() if line.startswith("data:")]
    assert events[-1] == "data: [DONE]"
    for event in events[:-1]:
        json.loads(event.removeprefix("data:"))


def test_sdk_accumulates_the_stream(client, model):
    with client.chat.completions.stream(model=model, messages=counting(), temperature=0, max_tokens=24) as stream:
        answer = stream.get_final_completion()
    assert answer.choices[0].message.content.strip() == "1, 2, 3, 4, 5."


def test_two_choices(chat):
    texts = {0: "", 1: ""}
    ends = {}
    for chunk in chat(counting(), n=2, stream=True):
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
            if choice.finish_reason:
                ends[choice.index] = choice.finish_reason
    assert all(texts.values())
    assert ends.keys() == {0, 1}


def test_stop_sequence(chat):
    chunks = list(chat(counting(), stop=[" 4"], stream=True))
    assert text_of(chunks).strip() == "1, 2, 3,"
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_first_character_of_many_bytes(chat):
    """A llama-server loses the role chunk when the first token is a part of a character."""
    question = {"role": "user", "content": "Answer with one emoji: 🦙"}
    history = [question, {"role": "assistant", "content": "🦙"}] * 2
    chunks = list(chat([*history, question], stream=True, max_tokens=8))
    assert text_of(chunks).startswith("🦙")


@pytest.mark.gateway
def test_first_character_of_many_bytes_has_a_role(chat):
    question = {"role": "user", "content": "Answer with one emoji: 🦙"}
    history = [question, {"role": "assistant", "content": "🦙"}] * 2
    chunks = list(chat([*history, question], stream=True, max_tokens=8))
    assert chunks[0].choices[0].delta.role == "assistant"


def test_leaving_a_stream_frees_the_slot(chat):
    stream = chat(ENDLESS, stream=True, max_tokens=3000, frequency_penalty=0.5)
    assert len(list(itertools.islice(stream, 5))) == 5
    stream.close()
    left = time.monotonic()
    assert wait_for_busy_slots(0, timeout_s=6) == 0
    assert time.monotonic() - left < 5, "3000 tokens take longer than that"


@pytest.mark.gateway
def test_leaving_without_a_stream_frees_the_slot(client, chat):
    """A llama-server alone overlooks this while anything else runs on it; a gateway streams upstream and must not."""
    failure = []

    def ask():
        try:
            client.with_options(timeout=1.5).chat.completions.create(
                model=MODEL, messages=ENDLESS, max_tokens=3000, temperature=0, frequency_penalty=0.5
            )
        except openai.APITimeoutError as error:
            failure.append(error)

    # A neighbour keeps the backends busy all the time.
    neighbours = [chat(ENDLESS, stream=True, max_tokens=3000, frequency_penalty=0.5) for _ in range(2)]
    for neighbour in neighbours:
        next(neighbour)
    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    assert failure
    still_busy = wait_for_busy_slots(2, timeout_s=4)
    for neighbour in neighbours:
        neighbour.close()
    assert still_busy == 2
    assert wait_for_busy_slots(0, timeout_s=6) == 0


def test_streams_side_by_side():
    async def one(client, index):
        stream = await client.chat.completions.create(
            model=MODEL, messages=counting(to=3 + index % 3), stream=True, temperature=0, max_tokens=30
        )
        return "".join([c.choices[0].delta.content or "" async for c in stream if c.choices])

    async def all_of_them():
        async with openai.AsyncOpenAI(base_url=f"{URL}/v1", api_key="sk-test", max_retries=0, timeout=120) as client:
            return await asyncio.gather(*(one(client, index) for index in range(6)))

    for index, text in enumerate(asyncio.run(all_of_them())):
        expected = ", ".join(str(i) for i in range(1, 4 + index % 3))
        assert text.strip().startswith(expected)
