"""What conversations cost on the real server: the prefix cache from turn to turn, with and without pruning."""

import json
import re
import urllib.request

import anthropic
import pytest
from conftest import ADMIN_URL, weather_tool

# A template may close the last message otherwise once something follows it.
SLACK = 64
SYSTEM = "You are a coding agent. Read files with the tool, then say what is in them. " * 6
TURNS = 8


@pytest.fixture(scope="module")
def claude(url):
    retries = 0 if ADMIN_URL else 2
    with anthropic.Anthropic(base_url=url, api_key="sk-test", max_retries=retries, timeout=120) as client:
        yield client


def notes(turn, words):
    return f"Notes of day {turn}: " + " ".join(f"item{turn}x{n}" for n in range(words))


class OpenAiShape:
    """A conversation with a tool call in every turn, as an OpenAI client sends it."""

    name = "openai"

    def __init__(self, client, model, headers):
        self.client, self.model, self.headers = client, model, headers
        self.messages = [{"role": "user", "content": "What do my notes say? Look at every day."}]
        self.system = SYSTEM

    def ask(self):
        """Prompt tokens and how many of them were cached."""
        messages = [{"role": "system", "content": self.system}, *self.messages]
        answer = self.client.chat.completions.create(
            model=self.model, messages=messages, tools=[weather_tool()], max_tokens=4, temperature=0, extra_headers=self.headers
        )
        return answer.usage.prompt_tokens, answer.usage.prompt_tokens_details.cached_tokens

    def grow(self, turn, words):
        call = {"id": f"call_{turn}", "type": "function"}
        call["function"] = {"name": "get_weather", "arguments": json.dumps({"city": f"day {turn}", "unit": "c"})}
        self.messages += [
            {"role": "assistant", "content": "", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": call["id"], "content": notes(turn, words)},
        ]


class AnthropicShape(OpenAiShape):
    """The same from an Anthropic client."""

    name = "anthropic"

    def ask(self):
        tool = weather_tool()["function"]
        tool = {"name": tool["name"], "description": tool["description"], "input_schema": tool["parameters"]}
        usage = self.client.messages.create(
            model=self.model, system=self.system, messages=self.messages, tools=[tool], max_tokens=4, extra_headers=self.headers
        ).usage
        return usage.input_tokens + usage.cache_read_input_tokens, usage.cache_read_input_tokens

    def grow(self, turn, words):
        call = {"type": "tool_use", "id": f"toolu_{turn}", "name": "get_weather"}
        call["input"] = {"city": f"day {turn}", "unit": "c"}
        result = {"type": "tool_result", "tool_use_id": call["id"], "content": notes(turn, words)}
        self.messages += [{"role": "assistant", "content": [call]}, {"role": "user", "content": [result]}]


@pytest.fixture(params=[OpenAiShape, AnthropicShape], ids=lambda shape: shape.name)
def conversation(request, client, claude, model):
    shape = request.param
    sdk = client if shape is OpenAiShape else claude
    return lambda name, **headers: shape(sdk, model, {"x-session-id": f"{shape.name}-{name}"} | headers)


def metric(name, labels):
    with urllib.request.urlopen(f"{ADMIN_URL}/metrics", timeout=10) as response:
        lines = response.read().decode().splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name) and labels in line)


def test_every_turn_finds_the_last_prompt_in_the_cache(conversation, capsys):
    talk = conversation("prefix")
    rows = []
    for turn in range(TURNS):
        rows.append(talk.ask())
        talk.grow(turn, 20)
    with capsys.disabled():
        print(f"\n{talk.name}: prompt/cached " + ", ".join(f"{prompt}/{cached}" for prompt, cached in rows))
    for (before, _), (prompt, cached) in zip(rows, rows[1:]):
        assert prompt > before
        assert cached >= before - SLACK, f"{cached} of {before} tokens were found again"


@pytest.mark.gateway
def test_a_conversation_outgrows_the_window(conversation, capsys):
    talk = conversation("grows")
    window, rows, cuts = 4096, [], 0
    for turn in range(13):
        before = metric("drover_prefix_breaks_total", 'cause="prune"')
        prompt, cached = talk.ask()
        is_cut = metric("drover_prefix_breaks_total", 'cause="prune"') > before
        cuts += is_cut
        assert prompt < 0.9 * window
        if rows and not is_cut:
            assert cached >= rows[-1][0] - SLACK, f"turn {turn}: {cached} of {rows[-1][0]} tokens were found again"
        rows.append((prompt, cached, is_cut))
        talk.grow(turn, 60)
    with capsys.disabled():
        told = ", ".join(f"{prompt}/{cached}{' CUT' if is_cut else ''}" for prompt, cached, is_cut in rows)
        print(f"\n{talk.name}: prompt/cached {told}")
    assert 1 <= cuts <= 2, "rare large steps"


@pytest.mark.gateway
def test_one_paste_too_long_is_told_so_that_clients_compact(conversation):
    talk = conversation("paste")
    talk.messages[0]["content"] = " ".join(f"word{n}" for n in range(6000))
    with pytest.raises(Exception) as error:
        talk.ask()
    assert error.value.status_code == 400
    assert re.search(r"prompt is too long: \d+ tokens > 4096 maximum", str(error.value))


@pytest.mark.gateway
def test_a_clock_in_the_system_prompt_costs_the_cache_unless_it_is_normalized(conversation, capsys):
    """`time_of_day` is on in this suite's gateway; the preset `off` turns it off again."""
    cached = {}
    for preset in ("off", "standard"):
        talk = conversation(f"clock-{preset}", **{"x-drover-guard": preset})
        rows = []
        for turn in range(4):
            talk.system = f"You serve {talk.name}, {preset}. It is 2026-11-23T18:17:{10 + turn}Z.\n{SYSTEM}"
            rows.append(talk.ask())
            talk.grow(turn, 20)
        cached[preset] = rows
    with capsys.disabled():
        for preset, rows in cached.items():
            told = ", ".join(f"{prompt}/{cached}" for prompt, cached in rows)
            print(f"\n{talk.name}, clock in the system prompt, preset {preset}: prompt/cached {told}", end="")
    # The tools stand before the clock in this template; nothing behind it is found again.
    for (before, _), (_, found) in zip(cached["off"], cached["off"][1:]):
        assert found < before - SLACK
    for (before, _), (_, found) in zip(cached["standard"], cached["standard"][1:]):
        assert found >= before - SLACK


@pytest.mark.gateway
def test_schemas_the_grammar_builder_refuses_are_no_error(client, model):
    tool = weather_tool()
    tool["function"]["parameters"]["properties"]["city"] = {"type": "string", "pattern": "^(a$", "minLength": 5000}
    tool["function"]["parameters"]["properties"]["unit"] = {"type": "any"}
    ask = lambda headers: client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": "hi"}], tools=[tool], max_tokens=4, extra_headers=headers
    )
    assert ask({}).choices
    with pytest.raises(Exception) as error:
        ask({"x-drover-guard": "off"})
    assert error.value.status_code == 400
