"""Backends are killed under load, one after the other, each coming back later.

What must hold, whatever the moment: a request that has received no piece of text is served by another backend; a
stream that was cut goes on on another one, saying nothing twice, or ends with an error event, properly closed;
nothing hangs.
"""

import asyncio
import collections
import os
import signal
import statistics
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import client

# A request takes a second or two; this is a hang.
HANG_S = 60
KILLS = 3


class Load:
    """So many requests, so many at a time; every fourth does not stream."""

    def __init__(self, url: str, requests: int, at_once: int, body: dict):
        self.url, self.body = url, body
        self.at_once, self.requests = at_once, requests
        self.next = 0
        self.answers: list[client.Answer] = []
        self.hung = 0

    async def run(self) -> None:
        await asyncio.gather(*(self.worker() for _ in range(self.at_once)))

    async def worker(self) -> None:
        while self.next < self.requests:
            index, self.next = self.next, self.next + 1
            question = {"role": "user", "content": f"Tell me story number {index}."}
            body = self.body | {"stream": index % 4 != 0, "messages": [question]}
            try:
                self.answers.append(await asyncio.wait_for(client.ask(self.url, body), HANG_S))
            except asyncio.TimeoutError:
                self.hung += 1

    async def started(self, count: int) -> None:
        while self.next < count:
            await asyncio.sleep(0.005)


def judge(answer: client.Answer, expected: str | None) -> str:
    """What an answer is: the words starting with FAILED are those that must not occur."""
    if answer.finished and expected is not None and answer.text != expected:
        return f"FAILED: says something else: {answer.text!r}"
    if answer.status == 200 and answer.finished and answer.clean and not answer.error:
        return "whole, after another backend had failed" if answer.attempts > 1 else "whole"
    if answer.pieces == 0:
        return f"FAILED before any text: status {answer.status}, error {answer.error!r}"
    if answer.finished:
        return "FAILED: told as complete although it was cut"
    if answer.error and answer.clean:
        return "cut, with an error event"
    return f"FAILED: cut without a proper end (error {answer.error!r}, clean {answer.clean})"


# Servers end with the thread that started them: one that lasts as long as the program.
STARTERS = ThreadPoolExecutor(1)


async def kill_and_restart(load: Load, backends: list, restart, kills: list[float]) -> None:
    for number in range(KILLS):
        await load.started(load.requests * (number + 1) // (KILLS + 1))
        position = number % len(backends)
        os.kill(backends[position].pid, signal.SIGKILL)
        kills.append(time.monotonic())
        await asyncio.sleep(1)
        restarted = asyncio.get_running_loop().run_in_executor(STARTERS, restart, backends[position])
        backends[position] = await restarted


def samples(admin: str, name: str) -> list[tuple[str, float]]:
    """Labels and value of the series of that name."""
    with urllib.request.urlopen(f"{admin}/metrics", timeout=5) as response:
        lines = response.read().decode().splitlines()
    series = [line.removeprefix(name).rpartition(" ") for line in lines if line.startswith(f"{name}{{")]
    return [(labels, float(value)) for labels, _, value in series]


def resumed(admin: str) -> int:
    """Streams that went on on another backend."""
    return int(sum(value for labels, value in samples(admin, "drover_attempts_total") if 'why="resume"' in labels))


def wait_back(admin: str, count: int, timeout_s: float) -> float | None:
    """Seconds until so many backends serve, as the gateway sees it."""
    started = time.monotonic()
    while time.monotonic() - started < timeout_s:
        states = samples(admin, "drover_backend_state")
        if sum(value for labels, value in states if 'state="ready"' in labels or 'state="busy"' in labels) == count:
            return time.monotonic() - started
        time.sleep(0.1)
    return None


def run(url: str, admin: str, backends: list, restart, *, requests: int, at_once: int, body: dict, text: str | None = None) -> list[str]:
    """Returns what went wrong. `text` is what every answer has to say, where that is known."""

    async def everything():
        load, kills = Load(url, requests, at_once, body), []
        began = time.monotonic()
        await asyncio.gather(load.run(), kill_and_restart(load, backends, restart, kills))
        return load, kills, time.monotonic() - began

    load, kills, took = asyncio.run(everything())
    judged = [(judge(answer, text), answer) for answer in load.answers]
    counts = collections.Counter(word for word, _ in judged)
    print(f"\nKilled {len(kills)} of {len(backends)} backends in turn under {requests} requests, {at_once} at a time ({took:.1f} s):")
    for word, count in counts.most_common():
        print(f"  {count:4}  {word}")
    print(f"  {load.hung:4}  hung")
    went_on = resumed(admin)
    print(f"  {went_on:4}  of the whole ones went on on another backend in the middle")
    cut = [a for word, a in judged if word.startswith("cut")]
    if cut:
        # An answer that was cut ended right after the kill that cut it.
        waits = [min(a.ended - at for at in kills if at <= a.ended) * 1e3 for a in cut]
        print(f"  from the kill to the error event: median {statistics.median(waits):.1f} ms, longest {max(waits):.1f} ms")
    moved = [a for word, a in judged if "another backend" in word]
    firsts = [(a.first - a.sent) * 1e3 for a in moved if a.first]
    if firsts:
        print(f"  first text of streams that moved: median {statistics.median(firsts):.0f} ms, longest {max(firsts):.0f} ms")
    back = wait_back(admin, len(backends), 60)
    print(f"  all backends in service again {'never' if back is None else f'{back:.1f} s'} after the last request")

    wrong = [word for word in counts if word.startswith("FAILED")]
    if load.hung:
        wrong.append(f"{load.hung} requests hung")
    if not cut and not moved and not went_on:
        wrong.append("no request was hit: the test showed nothing")
    if back is None:
        wrong.append("a backend that came back was not used again")
    return wrong
