"""The gateway's random streams (src/exchange/tests/streams.rs), read by the official SDKs' own parsers.

scripts/sdk-streams.sh writes the files and names their directory in DROVER_STREAMS_DIR. A small server on loopback
answers with the file that the path names.
"""

import http.server
import json
import os
import pathlib
import threading

import anthropic
import openai
import pytest

DIRECTORY = os.environ.get("DROVER_STREAMS_DIR")
pytestmark = pytest.mark.skipif(not DIRECTORY, reason="scripts/sdk-streams.sh sets DROVER_STREAMS_DIR")

STOPS = {
    "openai": {"End": "stop", "Length": "length", "Calls": "tool_calls"},
    "responses": {"End": "completed", "Length": "incomplete", "Calls": "completed", "Sequence": "completed"},
    "anthropic": {"End": "end_turn", "Length": "max_tokens", "Calls": "tool_use", "Sequence": "stop_sequence"},
}


class Files(http.server.BaseHTTPRequestHandler):
    """POST /DIALECT/NUMBER/v1/... is answered with that stream, in chunks that cut lines and characters."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        dialect, number = self.path.split("/")[1:3]
        data = pathlib.Path(DIRECTORY, dialect, number + ".sse").read_bytes()
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        pieces = [data[at : at + 211] for at in range(0, len(data), 211)]
        self.wfile.write(b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n")

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def url():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Files)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def read_openai(client, url):
    client = client.with_options(base_url=f"{url}/v1")
    with client.chat.completions.stream(model="m", messages=[{"role": "user", "content": "x"}]) as stream:
        for _ in stream:
            pass
        choice = stream.get_final_completion().choices[0]
    calls = [[call.function.name, call.function.arguments] for call in choice.message.tool_calls or []]
    return choice.message.content or "", calls, choice.finish_reason


def read_anthropic(client, url):
    client = client.with_options(base_url=url)
    with client.messages.stream(model="m", max_tokens=9, messages=[{"role": "user", "content": "x"}]) as stream:
        for _ in stream:
            pass
        message = stream.get_final_message()
    text = "".join(block.text for block in message.content if block.type == "text")
    calls = [[block.name, block.input] for block in message.content if block.type == "tool_use"]
    return text, calls, message.stop_reason


def read_responses(client, url):
    client = client.with_options(base_url=f"{url}/v1")
    said, last = [], None
    with client.responses.create(model="m", input="x", stream=True) as stream:
        for number, event in enumerate(stream):
            assert event.sequence_number == number, event
            said += [event.delta] if event.type == "response.output_text.delta" else []
            last = event
    if last.type == "response.failed":
        raise Failed(last.response.error.message)
    response = last.response
    assert last.type == f"response.{response.status}"
    text = "".join(part.text for item in response.output if item.type == "message" for part in item.content)
    assert "".join(said) == text
    calls = [[item.name, item.arguments] for item in response.output if item.type == "function_call"]
    return text, calls, response.status


class Failed(Exception):
    """A response that says it has failed: the SDK hands it out like any other."""


READERS = {
    "responses": (lambda: openai.OpenAI(api_key="x", max_retries=0), read_responses),
    "openai": (lambda: openai.OpenAI(api_key="x", max_retries=0), read_openai),
    "anthropic": (lambda: anthropic.Anthropic(api_key="x", max_retries=0), read_anthropic),
}


def is_object(source):
    try:
        return isinstance(json.loads(source or "{}"), dict)
    except ValueError:
        return False


def same_calls(dialect, got, expected):
    """Anthropic's SDK hands out parsed arguments."""
    if dialect == "anthropic":
        expected = [[name, json.loads(source or "{}")] for name, source in expected]
    return got == expected


@pytest.mark.parametrize("dialect", READERS)
def test_every_stream_comes_to_what_was_said(dialect, url):
    make, read = READERS[dialect]
    files = sorted(pathlib.Path(DIRECTORY, dialect).glob("*.sse"))
    whole = broken = 0
    with make() as client:
        for path in files:
            expected = json.loads(path.with_suffix(".json").read_text())
            place = f"{url}/{dialect}/{path.stem}"
            objects = all(is_object(source) for _, source in expected["calls"])
            if not expected["complete"]:
                # Anthropic's SDK complains in its own way about arguments that are no object.
                complaints = (openai.APIError, anthropic.APIError, Failed) + (() if objects else (ValueError,))
                with pytest.raises(complaints):
                    read(client, place)
                continue
            if not objects:
                # Preset observe lets a model's broken arguments pass; Anthropic's SDK has no use for them.
                broken += 1
                continue
            whole += 1
            try:
                text, calls, stop = read(client, place)
            except openai.LengthFinishReasonError:
                assert expected["stop"] == "Length"
                continue
            assert text == expected["text"], path
            assert same_calls(dialect, calls, expected["calls"]), (path, calls)
            assert stop == STOPS[dialect][expected["stop"]], path
    print(f"\n{dialect}: {len(files)} streams, {whole} of them whole answers, {broken} left out")
    assert len(files) >= 100 and whole >= len(files) / 4 and broken < len(files) / 4
