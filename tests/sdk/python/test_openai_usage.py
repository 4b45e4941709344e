"""What a turn cost: the backend's own numbers, whichever way the answer came."""

import pytest
from conftest import BACKENDS, counting, weather, weather_tool


def streamed_usage(chunks):
    [usage] = [c.usage for c in chunks if c.usage]
    return usage


def warm(chat, messages, **fields):
    """Brings the prompt into the cache of every backend, so that the next answers cost the same wherever they run."""
    for _ in range(3 * len(BACKENDS)):
        answer = chat(messages, **fields)
    return answer


def triple(usage):
    return usage.prompt_tokens, usage.completion_tokens, usage.prompt_tokens_details.cached_tokens


@pytest.mark.parametrize("fields", [{}, {"tools": [weather_tool()], "tool_choice": "none"}], ids=["text", "tools"])
def test_stream_and_answer_cost_the_same(chat, fields):
    messages = weather() if fields else counting()
    warm(chat, messages, **fields)
    whole = chat(messages, **fields).usage
    streamed = streamed_usage(chat(messages, stream=True, stream_options={"include_usage": True}, **fields))
    assert triple(streamed) == triple(whole)
    assert streamed.total_tokens == whole.total_tokens


def test_cached_tokens_are_reported(chat):
    usage = warm(chat, counting(to=7)).usage
    assert 0 < usage.prompt_tokens_details.cached_tokens < usage.prompt_tokens


def test_continued_conversation_keeps_its_prefix(chat):
    messages = counting(to=6, rounds=4)
    first = warm(chat, messages).usage
    longer = [*messages, {"role": "assistant", "content": "1, 2, 3, 4, 5, 6."}, {"role": "user", "content": "And to 7?"}]
    second = chat(longer).usage
    assert second.prompt_tokens > first.prompt_tokens
    assert second.prompt_tokens_details.cached_tokens >= first.prompt_tokens * 0.8
