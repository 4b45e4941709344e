"""Conversations in the shapes that agents send, turn by turn; each turn repeats the one before and adds to it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

TOOL = {"type": "object", "properties": {"command": {"type": "string"}}, "required": ["command"]}
SYSTEM = "You are a careful engineer. " * 12


@dataclass
class Conversation:
    """A client's endpoint, and its requests in their order."""

    name: str
    path: str
    turns: Callable[[], Iterator[dict]]


def anthropic() -> Iterator[dict]:
    """Claude Code: blocks, two calls at once, text beside results, a system message in the middle."""
    body = {"system": [{"type": "text", "text": SYSTEM}], "tools": [{"name": "Bash", "input_schema": TOOL}]}
    messages: list[dict] = [
        {"role": "user", "content": [{"type": "text", "text": "<system-reminder>a</system-reminder>"}, {"type": "text", "text": "Fix the build."}]}
    ]
    yield body | {"messages": list(messages)}
    for turn in range(4):
        ids = [f"toolu_01{turn}{n}abcdefghijklmnopq" for n in range(2)]
        calls = [{"type": "tool_use", "id": id, "name": "Bash", "input": {"command": f"make {turn} {id[-18:]}"}} for id in ids]
        thoughts = [{"type": "thinking", "thinking": f"Step {turn} is next.", "signature": "s"}, {"type": "text", "text": f"I run step {turn}."}]
        messages.append({"role": "assistant", "content": [*thoughts, *calls]})
        results: list[dict] = [{"type": "tool_result", "tool_use_id": id, "content": f"error {turn}: no such file", "is_error": turn == 1} for id in ids]
        if turn == 2:
            results.append({"type": "text", "text": "<system-reminder>The user opened a file.</system-reminder>"})
        messages.append({"role": "user", "content": results})
        if turn == 3:
            messages.append({"role": "system", "content": "Be brief from now on."})
            messages.append({"role": "user", "content": "Go on."})
        yield body | {"messages": list(messages)}


def openai() -> Iterator[dict]:
    """OpenCode and Codex: developer messages anywhere, tool messages, two user messages in a row."""
    tools = [{"type": "function", "function": {"name": "bash", "parameters": TOOL}}]
    messages: list[dict] = [
        {"role": "developer", "content": SYSTEM},
        {"role": "developer", "content": "The sandbox is read-only."},
        {"role": "user", "content": "<environment_context>cwd</environment_context>"},
        {"role": "user", "content": "Find the bug."},
    ]
    yield {"messages": list(messages), "tools": tools}
    for turn in range(4):
        id = f"call_{turn}_0123456789abcdefghijkl"
        function = {"name": "bash", "arguments": '{"command":"grep -n bug src/%d.rs"}' % turn}
        messages.append({"role": "assistant", "content": None, "tool_calls": [{"id": id, "type": "function", "function": function}]})
        messages.append({"role": "tool", "tool_call_id": id, "content": f"src/{turn}.rs:7: bug"})
        if turn == 1:
            messages.append({"role": "developer", "content": "The sandbox is writable now."})
        if turn == 2:
            messages.append({"role": "assistant", "content": "Found it."})
            messages.append({"role": "user", "content": "Then mend it."})
        yield {"messages": list(messages), "tools": tools}


def healed() -> Iterator[dict]:
    """A history with what goes wrong: it begins with the assistant, and holds a call that was cut short."""
    tools = [{"type": "function", "function": {"name": "bash", "parameters": TOOL}}]
    function = {"name": "bash", "arguments": '{"command": "cat <<EOF'}
    messages = [
        {"role": "assistant", "content": "Welcome back."},
        {"role": "user", "content": "Write the file."},
        {"role": "assistant", "content": "", "tool_calls": [{"id": "functions.bash:0", "type": "function", "function": function}]},
        {"role": "tool", "tool_call_id": "functions.bash:0", "content": "invalid arguments"},
    ]
    yield {"messages": list(messages), "tools": tools}
    messages += [{"role": "assistant", "content": "I try again."}, {"role": "user", "content": "Yes."}]
    yield {"messages": list(messages), "tools": tools}


CONVERSATIONS = [
    Conversation("anthropic", "/v1/messages", anthropic),
    Conversation("openai", "/v1/chat/completions", openai),
    Conversation("healed", "/v1/chat/completions", healed),
]
