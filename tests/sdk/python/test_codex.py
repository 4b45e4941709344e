"""What Codex sends, turn after turn, on a real model: also on the chat template that takes a system message at the
beginning only, which llama-server itself answers to Codex with a 500."""

import json
import os
import uuid

import pytest
from conftest import weather_tool

pytestmark = pytest.mark.gateway

MODELS = [os.environ["DROVER_MODEL"], os.environ.get("DROVER_STRICT_MODEL")]
PATCH = "*** Begin Patch\n*** Add File: a.txt\n+hi\n*** End Patch\n"


def said(role, text):
    return {"type": "message", "role": role, "id": f"msg_{uuid.uuid4()}", "content": [{"type": "input_text", "text": text}]}


def tools():
    """Functions, a group of them, a free-form tool, and one that only OpenAI's service runs."""
    weather = {"type": "function", "strict": False} | weather_tool()["function"]
    say = {"type": "function", "name": "say", "strict": False, "parameters": {"type": "object", "properties": {"text": {"type": "string"}}}}
    grammar = {"type": "grammar", "syntax": "lark", "definition": "start: begin hunk end"}
    return [
        weather,
        {"type": "custom", "name": "apply_patch", "description": "Edits files.", "format": grammar},
        {"type": "namespace", "name": "mcp__echo", "description": "Echoes.", "tools": [say]},
        {"type": "web_search", "external_web_access": True},
    ]


def turn(client, model, session, items):
    """One turn, streamed; the whole response as it came item by item."""
    fields = {
        "model": model,
        "input": items,
        "tools": tools(),
        "tool_choice": "auto",
        "parallel_tool_calls": True,
        "reasoning": {"summary": "auto"},
        "store": False,
        "include": ["reasoning.encrypted_content"],
        "prompt_cache_key": session,
        "stream": True,
        "extra_headers": {"session-id": session, "thread-id": session, "originator": "codex_exec"},
        "extra_body": {"client_metadata": {"session_id": session}, "temperature": 0, "max_output_tokens": 60},
    }
    raw = client.responses.with_raw_response.create(**fields)
    events = list(raw.parse())
    assert events[-1].type in ("response.completed", "response.incomplete"), events[-1]
    done = [event.item.to_dict() for event in events if event.type == "response.output_item.done"]
    assert done == [item.to_dict() for item in events[-1].response.output]
    return raw.headers["x-drover-session"], raw.headers["x-drover-backend"], done, events[-1].response.usage


def results(done):
    """What the program would answer to the calls."""
    outputs = {"function_call": "function_call_output", "custom_tool_call": "custom_tool_call_output"}
    return [
        {"type": outputs[item["type"]], "call_id": item["call_id"], "output": "Process exited with code 0\nOutput:\n20\n"}
        for item in done
        if item["type"] in outputs
    ]


@pytest.mark.parametrize("model", MODELS)
def test_conversation_with_tool_rounds(client, model):
    if model is None:
        pytest.skip("no server with the strict template")
    session = str(uuid.uuid4())
    items = [
        said("developer", "You are a coding agent running in the Codex CLI."),
        said("developer", "<skills_instructions>none</skills_instructions>"),
        said("user", "<environment_context>\n  <cwd>/home/dev</cwd>\n</environment_context>"),
        said("user", "What is the weather in London in c?"),
    ]
    call = {"type": "function_call", "id": "fc_1", "status": "completed", "name": "get_weather", "call_id": "c1"}
    rounds = [
        [{"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "I look it up."}], "encrypted_content": "gAAAA"}]
        + [call | {"arguments": json.dumps({"city": "London", "unit": "c"})}],
        [{"type": "custom_tool_call", "id": "ctc_1", "status": "completed", "call_id": "c2", "name": "apply_patch", "input": PATCH}],
        [call | {"name": "say", "namespace": "mcp__echo", "call_id": "c3", "arguments": '{"text": "hi"}'}],
    ]
    seen, cached = set(), []
    for number, history in enumerate([None, *rounds]):
        if history:
            items += history + results(history)
        if number == 2:
            # Codex tells changed permissions in the middle of a conversation.
            items.append(said("developer", "<permissions>changed</permissions>"))
        *where, done, usage = turn(client, model, session, items)
        seen.add(tuple(where))
        cached.append(usage.input_tokens_details.cached_tokens)
        # What the model really did goes into the conversation as well.
        items += done + results(done)
        items.append(said("user", f"Go on, step {number}."))
    assert len(seen) == 1, "one session on one backend"
    assert cached[-1] > cached[1] > 0, f"the prompt grows at its end only: {cached}"
