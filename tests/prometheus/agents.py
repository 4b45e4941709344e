"""Simulated agents: they ask, run the tools they are told to, and ask again, until they are stopped.

What their model says is written into their first message, where `drover sim` finds it.
"""

import contextlib
import http.client
import itertools
import json
import random
import threading
import time
import urllib.parse

WORDS = "anchor birch copper delta ember fjord glade harbor indigo juniper kelp lumen maple nectar onyx pebble quartz raven".split()
TOOLS = [
    {"type": "function", "function": {"name": name, "parameters": {"type": "object", "properties": {argument: {"type": "string"}}, "required": [argument]}}}
    for name, argument in (("Bash", "command"), ("Read", "file_path"))
]
TIMEOUT_S = 60
STOP_S = 3
_count = itertools.count()


def words(number: int) -> str:
    """Text that has not been seen before, as far as loop protection is concerned."""
    return " ".join(random.choices(WORDS, k=number))


def bash(command: str) -> dict:
    return {"tool_call": {"name": "Bash", "arguments": {"command": command}}}


def script(text: str, **directive) -> str:
    """A first message, and how the model answers what follows it."""
    return f"{text} [[sim {json.dumps(directive)}]]"


def post(url: str, path: str, body: dict, headers: dict | None = None, leave_after_s: float | None = None) -> tuple[int, bytes]:
    """One request; `leave_after_s` closes the connection while it is answered."""
    address = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=leave_after_s or TIMEOUT_S)
    with contextlib.closing(connection):
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json", **(headers or {})})
        response = connection.getresponse()
        return response.status, response.read()


class Agent:
    """A conversation with tools in OpenAI's dialect."""

    def __init__(self, gateway: str, model: str, task: str, headers: dict | None = None, stream: bool = False):
        self.gateway, self.model, self.stream = gateway, model, stream
        self.headers = {"x-session-id": f"agent-{next(_count)}", **(headers or {})}
        system = "You are a careful engineer. " + "Read before you write, test after you have written. " * 40
        self.messages = [{"role": "system", "content": system}, {"role": "user", "content": task}]

    def turn(self) -> list[dict] | None:
        """Asks once; the calls the model wants, or nothing when that went wrong."""
        body = {"model": self.model, "messages": self.messages, "tools": TOOLS, "max_tokens": 400, "stream": self.stream}
        status, answer = post(self.gateway, "/v1/chat/completions", body, self.headers)
        message = joined(answer) if self.stream and status == 200 else whole(answer) if status == 200 else None
        if message is None:
            return None
        self.messages.append(message)
        return message.get("tool_calls", [])

    def run(self, result, most: int) -> None:
        """Turn after turn; `result` is what each call returns."""
        for _ in range(most):
            calls = self.turn()
            if not calls:
                return
            for call in calls:
                self.messages.append({"role": "tool", "tool_call_id": call["id"], "content": result()})


def whole(answer: bytes) -> dict:
    message = json.loads(answer)["choices"][0]["message"]
    return {key: message.get(key) for key in ("role", "content", "tool_calls") if message.get(key) or key == "content"}


def joined(stream: bytes) -> dict | None:
    """The message that a stream's deltas make; none if it broke off."""
    text, calls = "", {}
    if b"[DONE]" not in stream:
        return None
    for line in stream.split(b"\n"):
        if not line.startswith(b"data: {"):
            continue
        for choice in json.loads(line[6:]).get("choices", []):
            delta = choice["delta"]
            text += delta.get("content") or ""
            for part in delta.get("tool_calls", []):
                call = calls.setdefault(part["index"], {"id": part.get("id"), "type": "function", "function": {"name": "", "arguments": ""}})
                for key in ("name", "arguments"):
                    call["function"][key] += part["function"].get(key) or ""
    message = {"role": "assistant", "content": text}
    return message | {"tool_calls": [calls[index] for index in sorted(calls)]} if calls else message


class Crowd:
    """Threads that do the same thing again and again until they are stopped."""

    def __init__(self):
        self.stopping = threading.Event()
        self.threads: list[threading.Thread] = []

    def add(self, what, times: int = 1, pause_s: float = 0.0) -> None:
        def again() -> None:
            while not self.stopping.is_set():
                # What an agent meets is seen in the metrics; here it only must not end the load.
                with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
                    what()
                self.stopping.wait(pause_s)

        for _ in range(times):
            self.threads.append(threading.Thread(target=again, daemon=True))
            self.threads[-1].start()

    def stop(self) -> None:
        """No further requests. Those to a backend that hangs are left to themselves."""
        self.stopping.set()
        deadline = time.monotonic() + STOP_S
        for thread in self.threads:
            thread.join(max(0.0, deadline - time.monotonic()))
