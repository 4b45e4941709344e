"""What goes on in the fleet: a quiet time, and everything that alerts are about."""

import contextlib
import os
import random
import signal
import socket
import time
import urllib.parse
import urllib.request

from agents import Agent, Crowd, bash, post, script, words
from world import MadeUp, World

# A threshold of production, and one that a test of seconds can reach.
LOWER = {"ttft_seconds:p95_5m > 30": "ttft_seconds:p95_5m > 1.2", "cancel_idle_seconds_bucket[8s]))) > 10": "cancel_idle_seconds_bucket[8s]))) > 3"}
HOUSE = {"x-drover-profile": "house"}


def quiet(world: World, crowd: Crowd) -> None:
    """Agents at work, now and then with what happens to healthy ones too."""
    crowd.add(lambda: work(world, stream=True), times=2)
    crowd.add(lambda: work(world, stream=False, headers=HOUSE))
    crowd.add(lambda: other_dialects(world), pause_s=0.5)
    for model in ("coder", "watched"):
        crowd.add(lambda model=model: leave(world, model, after_s=0.3), pause_s=6)
    crowd.add(lambda: ask_twice(world), pause_s=3)
    crowd.add(lambda: malformed(world, "watched"), pause_s=3)
    order_rollout(world, "start")
    crowd.add(lambda: tried(world), times=2, pause_s=0.1)


def order_rollout(world: World, order: str) -> None:
    urllib.request.urlopen(urllib.request.Request(f"{world.admin}/api/rollouts/mtp/{order}", b"", method="POST"), timeout=10).close()


def tried(world: World) -> None:
    """A turn of one of many sessions, which are on the two sides of a rollout."""
    body = {"model": "tried", "max_tokens": 24, "messages": [{"role": "user", "content": words(9)}]}
    post(world.url, "/v1/chat/completions", body, {"x-session-id": f"tried-{random.randint(0, 15)}"})


def work(world: World, stream: bool, headers: dict | None = None) -> None:
    turns = [[bash(f"cargo test {words(2)}")] for _ in range(random.randint(3, 6))]
    task = script(f"Make the tests about {words(3)} pass.", turns=[*turns, [{"text": f"All of it works: {words(12)}."}]])
    Agent(world.url, "coder", task, headers, stream).run(lambda: words(30), most=8)


def other_dialects(world: World) -> None:
    post(world.url, "/v1/messages", {"model": "coder", "max_tokens": 60, "messages": [{"role": "user", "content": words(9)}]})
    post(world.url, "/v1/responses", {"model": "coder", "input": words(9), "stream": True})
    # One that some backend may run, and one that none does.
    for profile in ("off", "ngram-cache"):
        body = {"model": "coder", "max_tokens": 60, "messages": [{"role": "user", "content": words(9)}]}
        post(world.url, "/v1/chat/completions", body, {"x-drover-spec": profile})
    for pool in ("small", "flaky", "spare", "shared", "stuck"):
        post(world.url, "/v1/completions", {"model": pool, "prompt": words(9), "max_tokens": 8})


def leave(world: World, model: str, after_s: float) -> None:
    task = script(f"Tell me of {words(4)}.", steps=[{"text": words(700)}])
    with contextlib.suppress(TimeoutError):
        body = {"model": model, "stream": True, "messages": [{"role": "user", "content": task}]}
        post(world.url, "/v1/chat/completions", body, leave_after_s=after_s)


def ask_twice(world: World) -> None:
    body = {"model": "coder", "max_tokens": 20, "messages": [{"role": "user", "content": words(9)}]}
    for _ in range(2):
        post(world.url, "/v1/chat/completions", body, {"x-session-id": "twice"})


def malformed(world: World, model: str) -> None:
    """Two answers that cannot be used; then a text."""
    broken = [{"tool_call": {"name": "Bash", "arguments": '{"command": 7}'}}]
    Agent(world.url, model, script(f"List {words(4)}.", steps=broken, repeat=True)).turn()


def loop(world: World) -> None:
    """The same call with the same result, whatever it is told."""
    Agent(world.url, "coder", script(f"Find {words(4)}.", steps=[bash("grep -rn anchor src")], repeat=True)).run(lambda: "no match", most=14)


def forbidden(world: World) -> None:
    Agent(world.url, "coder", script(f"Clean {words(4)}.", steps=[bash("rm -rf build")], repeat=True), HOUSE).turn()


def outgrow(world: World) -> None:
    """More than the window of its backend takes: the middle is left out."""
    agent = Agent(world.url, "watched", "", {"x-drover-guard": "standard"})
    agent.messages[1:] = [{"role": role, "content": words(120)} for _ in range(12) for role in ("user", "assistant")]
    agent.messages.append({"role": "user", "content": "Go on."})
    agent.turn()


def crowded(world: World) -> None:
    """Long answers on one slot; refused requests come again after a moment."""
    task = script(f"Think about {words(4)}.", steps=[{"sleep_ms": 1800}, {"text": "Done."}])
    status, _ = post(world.url, "/v1/chat/completions", {"model": "small", "messages": [{"role": "user", "content": task}]})
    time.sleep(0.0 if status == 200 else 0.3)


def cut_off(world: World) -> None:
    task = script(words(4), steps=[{"text": "It begins"}, "die"], repeat=True)
    post(world.url, "/v1/chat/completions", {"model": "flaky", "stream": True, "messages": [{"role": "user", "content": task}]})
    time.sleep(0.2)


def evicted(world: World) -> None:
    """Somebody else uses the backend directly between two turns of a conversation."""
    agent = Agent(world.url, "shared", script(words(200), steps=[{"text": "ok"}], repeat=True))
    agent.turn()
    for _ in range(6):
        body = {"messages": [{"role": "user", "content": words(400)}], "max_tokens": 4}
        post(world.urls["shared0"], "/v1/chat/completions", body)
    agent.messages.append({"role": "user", "content": words(5)})
    agent.turn()


def stall(world: World) -> None:
    """The whole process is stopped for half of the time."""
    os.kill(world.gateway.pid, signal.SIGSTOP)
    time.sleep(0.4)
    os.kill(world.gateway.pid, signal.SIGCONT)


def too_many_connections(world: World) -> None:
    address = urllib.parse.urlsplit(world.url)
    with contextlib.ExitStack() as held:
        for _ in range(120):
            with contextlib.suppress(OSError):
                held.enter_context(socket.create_connection((address.hostname, address.port), timeout=2))
        time.sleep(0.2)


def bad_configuration(world: World) -> None:
    good = world.config_file.read_text()
    world.config_file.write_text("fleet: {pools: 7}")
    world.reload()
    world.config_file.write_text(good)
    world.reload()


def incidents(world: World, crowd: Crowd) -> None:
    """Everything at once, beside the agents that go on with their work."""
    MadeUp.broken = True
    world.sim("gpu1", "state", {"accept_rate": 0.05, "build_info": "b99999-bad"})
    world.sim("gpu0", "state", {"decode_tps": 50})
    world.sim("tried0", "state", {"decode_tps": 25})
    world.sim("watched0", "state", {"orphans": True})
    world.sim("flaky0", "die", {"restart_ms": 1500})
    world.sim("spare0", "die", {})
    for what, times, pause_s in [
        (loop, 2, 0), (forbidden, 2, 0.1), (crowded, 6, 0), (cut_off, 2, 0), (evicted, 1, 0.2),
        (outgrow, 1, 1), (too_many_connections, 1, 4), (bad_configuration, 1, 3), (stall, 1, 0.6),
    ]:
        crowd.add(lambda what=what: what(world), times, pause_s)
    crowd.add(lambda: malformed(world, "coder"), times=2, pause_s=0.1)
    world.sim("stuck0", "state", {"wedged": True})
    crowd.add(lambda: leave(world, "stuck", after_s=20), times=2)


def gateway_gone(world: World) -> None:
    world.gateway.stop(3)
