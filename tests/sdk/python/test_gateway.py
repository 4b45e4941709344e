"""What the gateway adds to a real backend, and what it keeps away from it."""

import concurrent.futures
import json
import time
import urllib.error
import urllib.request

import pytest
from conftest import BACKENDS, counting

pytestmark = pytest.mark.gateway


def get(url, method="GET"):
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=10) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def raw_chat(client, model, **fields):
    fields = {"messages": counting(), "temperature": 0, "max_tokens": 24} | fields
    return client.chat.completions.with_raw_response.create(model=model, **fields)


@pytest.mark.parametrize("stream", [False, True])
def test_headers_tell_what_happened(client, model, stream):
    response = raw_chat(client, model, stream=stream)
    headers = response.headers
    assert headers["x-request-id"]
    assert headers["x-drover-backend"]
    assert 0 < int(headers["x-drover-overhead-us"]) < 1_000_000
    list(response.parse())


def test_headers_of_the_backend_stay_inside(client, model):
    headers = raw_chat(client, model).headers
    assert "llama.cpp" not in headers.get("server", "")
    assert headers.get("access-control-allow-origin") != ""


def test_request_id_is_kept(client, model):
    response = raw_chat(client, model, extra_headers={"x-request-id": "a-request-of-mine"})
    assert response.headers["x-request-id"] == "a-request-of-mine"


def test_dangerous_fields_do_not_reach_the_backend(client, model):
    fields = {"id_slot": 1, "verbose": True, "n_cmpl": 2, "grammar_lazy": True, "chat_parser": "x", "lora": [{"id": 9}]}
    answer = json.loads(raw_chat(client, model, extra_body=fields).text)
    assert "__verbose" not in answer
    assert answer["choices"][0]["message"]["content"].strip() == "1, 2, 3, 4, 5."


def test_generation_is_not_replayable(client, model):
    """llama-server buffers the answers of requests with this header for anyone who knows the id."""
    list(raw_chat(client, model, stream=True, extra_headers={"X-Conversation-Id": "guessable"}).parse())
    for backend in BACKENDS:
        status, _ = get(f"{backend}/v1/stream?conv_id=guessable&from=0")
        assert status >= 400


@pytest.mark.parametrize("path", ["/slots", "/props", "/metrics", "/lora-adapters", "/v1/stream?conv_id=x", "/tools"])
def test_inner_paths_of_the_backend_are_closed(url, path):
    status, body = get(url + path)
    assert status == 404
    assert json.loads(body)["error"]["message"]


def test_health(url, admin_url):
    assert get(f"{url}/health")[0] == 200
    assert get(url, method="HEAD")[0] == 200
    assert get(f"{admin_url}/livez")[0] == 200
    assert get(f"{admin_url}/readyz")[0] == 200


def test_load_spreads_over_the_backends(client, model):
    """Conversations of their own: those of one may wait a moment for the backend that holds its cache."""

    def ask(number):
        talk = [{"role": "user", "content": f"Task {number}: name {number + 3} colours."}]
        return raw_chat(client, model, max_tokens=40, messages=talk)

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(ask, range(8)))
    assert len({a.headers["x-drover-backend"] for a in answers}) == len(BACKENDS)


def test_metrics_count_the_requests(client, model, admin_url):
    def counted():
        _, text = get(f"{admin_url}/metrics")
        lines = [line for line in text.splitlines() if line.startswith("drover_requests_total{")]
        return sum(float(line.rpartition(" ")[2]) for line in lines)

    before = counted()
    raw_chat(client, model)
    # A request is counted once it is over, which is after its client has the answer.
    deadline = time.monotonic() + 5
    while counted() < before + 1 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert counted() >= before + 1
