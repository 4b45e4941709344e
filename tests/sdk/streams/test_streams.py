"""The gateway's random streams (src/exchange/tests/streams.rs), read by the official SDKs' own parsers.

scripts/sdk-streams.sh writes the files and names their directory in DROVER_STREAMS_DIR. No server is involved: the
transport answers with a file.
"""

import json
import os
import pathlib

import anthropic
import httpx
import openai
import pytest

DIRECTORY = os.environ.get("DROVER_STREAMS_DIR")
pytestmark = pytest.mark.skipif(not DIRECTORY, reason="scripts/sdk-streams.sh sets DROVER_STREAMS_DIR")

STOPS = {
    "openai": {"End": "stop", "Length": "length", "Calls": "tool_calls"},
    "anthropic": {"End": "end_turn", "Length": "max_tokens", "Calls": "tool_use", "Sequence": "stop_sequence"},
}


def http(path):
    def answer(_request):
        # In pieces, so that the parser meets cuts inside lines and characters.
        data = path.read_bytes()
        pieces = [data[at : at + 61] for at in range(0, len(data), 61)]
        return httpx.Response(200, headers={"content-type": "text/event-stream"}, content=iter(pieces))

    return httpx.Client(transport=httpx.MockTransport(answer))


def read_openai(path):
    client = openai.OpenAI(api_key="x", base_url="http://x/v1", http_client=http(path), max_retries=0)
    with client.chat.completions.stream(model="m", messages=[{"role": "user", "content": "x"}]) as stream:
        for _ in stream:
            pass
        choice = stream.get_final_completion().choices[0]
    calls = [[call.function.name, call.function.arguments] for call in choice.message.tool_calls or []]
    return choice.message.content or "", calls, choice.finish_reason


def read_anthropic(path):
    client = anthropic.Anthropic(api_key="x", base_url="http://x", http_client=http(path), max_retries=0)
    with client.messages.stream(model="m", max_tokens=9, messages=[{"role": "user", "content": "x"}]) as stream:
        for _ in stream:
            pass
        message = stream.get_final_message()
    text = "".join(block.text for block in message.content if block.type == "text")
    calls = [[block.name, block.input] for block in message.content if block.type == "tool_use"]
    return text, calls, message.stop_reason


def same_calls(got, expected):
    """Anthropic's SDK hands out parsed arguments; what guards let pass unread (preset observe) may be no JSON."""
    if len(got) != len(expected):
        return False
    for (name, arguments), (wanted, source) in zip(got, expected):
        if not isinstance(arguments, str):
            try:
                source = json.loads(source or "{}")
            except ValueError:
                source = arguments
        if name != wanted or arguments != source:
            return False
    return True


@pytest.mark.parametrize("dialect,read", [("openai", read_openai), ("anthropic", read_anthropic)])
def test_every_stream_comes_to_what_was_said(dialect, read):
    files = sorted(pathlib.Path(DIRECTORY, dialect).glob("*.sse"))
    whole = 0
    for path in files:
        expected = json.loads(path.with_suffix(".json").read_text())
        if not expected["complete"]:
            with pytest.raises((openai.APIError, anthropic.APIError, openai.LengthFinishReasonError)):
                read(path)
            continue
        whole += 1
        try:
            text, calls, stop = read(path)
        except openai.LengthFinishReasonError:
            assert expected["stop"] == "Length"
            continue
        assert text == expected["text"], path
        assert same_calls(calls, expected["calls"]), (path, calls)
        assert stop == STOPS[dialect][expected["stop"]], path
    print(f"{dialect}: {len(files)} streams, {whole} of them whole answers")
    assert len(files) >= 100 and whole >= len(files) / 4
