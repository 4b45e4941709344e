"""Bad calls of a real model, asked for again: how often that helps, and how warm the cache is.

A model of 135 M parameters is bad at tools, which is what is wanted here. The same requests with guards off and on;
what is printed (pytest -s) is the share of usable calls, and the cached share of the re-asks' prompts.
"""

import json
import urllib.request

import pytest
from conftest import ADMIN_URL, MODEL, URL

pytestmark = pytest.mark.gateway

TOOLS = {
    "read_file": {"path": {"type": "string"}},
    "list_directory": {"path": {"type": "string"}, "depth": {"type": "integer"}},
    "run_command": {"command": {"type": "string"}, "timeout_s": {"type": "integer"}},
}
TASKS = [
    "Read the file src/main.rs.",
    "List the directory src, two levels deep.",
    "Run the command `make test`.",
    "What is in README.md? Look.",
    "Show me what the tests folder contains.",
    "Find out which version of python is installed.",
    "Open Cargo.toml and tell me the package name.",
    "Delete the file build.log with a shell command.",
]
SYSTEM = "You are a coding agent. Work with the tools you have. " + "Be careful and exact. " * 60


def definitions():
    for name, properties in TOOLS.items():
        schema = {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}
        yield {"type": "function", "function": {"name": name, "parameters": schema}}


def ask(task, guard, **fields):
    body = {
        "model": MODEL,
        "messages": [{"role": "system", "content": SYSTEM}, {"role": "user", "content": task}],
        "tools": list(definitions()),
        "temperature": 0,
        "max_tokens": 160,
    } | fields
    request = urllib.request.Request(
        f"{URL}/v1/chat/completions",
        json.dumps(body).encode(),
        {"content-type": "application/json", "x-drover-guard": guard, "authorization": "Bearer x"},
    )
    try:
        with urllib.request.urlopen(request, timeout=240) as response:
            return json.load(response)["choices"][0]
    except urllib.error.HTTPError as error:
        return {"finish_reason": f"error {error.code}", "message": {}}


def usable(choice):
    """Every call names a tool and its arguments match that tool's schema."""
    calls = choice["message"].get("tool_calls") or []
    types = {"string": str, "integer": int}
    for call in calls:
        properties = TOOLS.get(call["function"]["name"])
        try:
            arguments = json.loads(call["function"]["arguments"])
        except ValueError:
            return False
        if properties is None or not isinstance(arguments, dict) or arguments.keys() != properties.keys():
            return False
        if not all(type(arguments[key]) is types[schema["type"]] for key, schema in properties.items()):
            return False
    return bool(calls)


def metric(name, labels):
    with urllib.request.urlopen(f"{ADMIN_URL}/metrics", timeout=10) as response:
        lines = response.read().decode().splitlines()
    matching = [line for line in lines if line.startswith(name + "{") and labels in line]
    return sum(float(line.rsplit(" ", 1)[1]) for line in matching)


def reasked():
    tokens = lambda kind: metric("drover_attempt_tokens_total", f'kind="{kind}",why="reask"')
    return metric("drover_attempts_total", 'why="reask"'), tokens("cached"), tokens("input")


def compare(capsys, title, tasks, **fields):
    before = reasked()
    share = {}
    for guard in ["off", "standard"]:
        choices = [ask(task, guard, **fields) for task in tasks]
        share[guard] = sum(map(usable, choices))
        for choice in choices:
            # Whatever happens: never a tool-use end without a call.
            assert choice["finish_reason"] != "tool_calls" or choice["message"].get("tool_calls"), choice
            if guard == "standard":
                calls = choice["message"].get("tool_calls")
                assert not calls or usable(choice), choice
    times, cached, evaluated = (after - b for after, b in zip(reasked(), before))
    prompt = max(cached + evaluated, 1)
    with capsys.disabled():
        print(
            f"\n{title}: usable calls {share['off']}/{len(tasks)} without guards, {share['standard']}/{len(tasks)} with;"
            f" {times:.0f} re-asks, {cached:.0f} of {prompt:.0f} prompt tokens cached ({cached / prompt:.0%})"
        )
    return share, times, cached / prompt


def test_a_required_call_that_was_missed(capsys):
    share, times, warm = compare(capsys, "missed under required", TASKS, tool_choice="required")
    assert share["standard"] > share["off"] or share["off"] == len(TASKS)
    assert times == 0 or warm > 0.5


def test_a_call_that_was_cut(capsys):
    share, _, _ = compare(capsys, "cut by the token limit", TASKS[:3], tool_choice="required", max_tokens=24)
    assert share["standard"] >= share["off"]


def test_what_llama_server_cannot_parse(capsys):
    """Text that begins like a call and is none: llama-server answers 500 for some, plain text for others."""
    tasks = [f"{task} Answer with <tool_call> and then the call." for task in TASKS]
    share, _, _ = compare(capsys, "does not match the expected format", tasks, tool_choice="required", temperature=1.5, seed=7)
    assert share["standard"] >= share["off"]
