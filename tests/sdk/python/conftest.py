"""The official SDKs against a running gateway with real llama-servers behind it.

DROVER_URL        the gateway (or, without DROVER_ADMIN_URL, a llama-server itself)
DROVER_ADMIN_URL  its admin address
DROVER_BACKENDS   the llama-servers, comma-separated
DROVER_MODEL      the model to ask for
"""

import json
import os
import time
import urllib.request

import openai
import pytest

URL = os.environ["DROVER_URL"]
ADMIN_URL = os.environ.get("DROVER_ADMIN_URL")
BACKENDS = os.environ["DROVER_BACKENDS"].split(",")
MODEL = os.environ["DROVER_MODEL"]


def pytest_collection_modifyitems(items):
    if ADMIN_URL is None:
        for item in items:
            if item.get_closest_marker("gateway"):
                item.add_marker(pytest.mark.skip(reason="runs against a llama-server without a gateway"))


@pytest.fixture(scope="session")
def url():
    return URL


@pytest.fixture(scope="session")
def admin_url():
    return ADMIN_URL


@pytest.fixture(scope="session")
def backends():
    return BACKENDS


@pytest.fixture(scope="session")
def model():
    return MODEL


@pytest.fixture(scope="session")
def client():
    # No retries: a test must see the first answer. (A llama-server itself closes a connection after 100 requests,
    # under the feet of a client that has just sent the next one; the gateway must hide that.)
    retries = 0 if ADMIN_URL else 2
    with openai.OpenAI(base_url=f"{URL}/v1", api_key="sk-test", max_retries=retries, timeout=120) as client:
        yield client


@pytest.fixture
def chat(client, model):
    """`chat(messages, **fields)`: one greedy, short chat completion."""

    def create(messages, **fields):
        fields = {"model": model, "temperature": 0, "max_tokens": 24} | fields
        return client.chat.completions.create(messages=messages, **fields)

    return create


def counting(*, to=5, rounds=2):
    """A conversation in which even a tiny model answers `1, 2, …, to.`, because it did so before."""
    question = {"role": "user", "content": f"Count from 1 to {to}."}
    answer = {"role": "assistant", "content": ", ".join(str(i) for i in range(1, to + 1)) + "."}
    return [question, answer] * rounds + [question]


def weather_tool():
    return {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "Get the weather for a city",
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {"type": "string", "maxLength": 12},
                    "unit": {"type": "string", "enum": ["c", "f"]},
                },
                "required": ["city", "unit"],
                "additionalProperties": False,
            },
        },
    }


def weather_call(city):
    arguments = json.dumps({"city": city, "unit": "c"})
    return {"id": f"call_{city}", "type": "function", "function": {"name": "get_weather", "arguments": arguments}}


def weather(question="Paris"):
    """A conversation in which a tiny model calls the tool, because it did so twice before."""
    messages = []
    for city in ("London", "Rome"):
        messages += [
            {"role": "user", "content": f"What is the weather in {city} in c?"},
            {"role": "assistant", "content": "", "tool_calls": [weather_call(city)]},
            {"role": "tool", "tool_call_id": f"call_{city}", "content": "20"},
            {"role": "assistant", "content": f"It is 20 C in {city}."},
        ]
    return messages + [{"role": "user", "content": f"What is the weather in {question} in c?"}]


def busy_slots():
    """How many slots of all backends work right now, as the llama-servers themselves say."""
    busy = 0
    for backend in BACKENDS:
        with urllib.request.urlopen(f"{backend}/slots", timeout=10) as response:
            busy += sum(slot["is_processing"] for slot in json.load(response))
    return busy


def wait_for_busy_slots(count, timeout_s):
    """Polls no faster than 1.5 s apart: quicker polling makes llama-server overlook clients that went away."""
    deadline = time.monotonic() + timeout_s
    while (busy := busy_slots()) != count and time.monotonic() < deadline:
        time.sleep(1.5)
    return busy
