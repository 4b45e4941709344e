"""A real llama-server whose slots share a small KV cache: more turns at once than it holds.

Without reservations answers are lost (`Context size has been exceeded.`, all of them at once); with them none is, on
the same load. With `kv: auto` the first overflow tells what the server is, and what it took goes on.
"""

import asyncio
import json
import re
import sys
import time
import urllib.request
from pathlib import Path

import llama_fleet as fleet

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "chaos"))
import client  # noqa: E402

# Five turns of about 50 + 64 tokens in a cache of 256.
CACHE, SLOTS, TURNS, ANSWER = 256, 4, 5, 64


def overflows(log: str) -> int:
    """How often the server says that it overflowed."""
    return len(re.findall("Context size has been exceeded. off", Path(log).read_text(errors="replace")))


def metric(admin: str, name: str) -> float:
    with urllib.request.urlopen(f"{admin}/metrics", timeout=10) as response:
        lines = [line for line in response.read().decode().splitlines() if re.match(rf"{name}[ {{]", line)]
    return sum(float(line.rpartition(" ")[2]) for line in lines)


async def load(url: str) -> tuple[int, float]:
    """How many of the answers came whole."""
    ask = "Write a very long story about a fox and a river, with many chapters. Tell of the weather, too, and do not stop. Number "
    body = {"model": "smollm2", "stream": True, "max_tokens": ANSWER, "temperature": 0.8, "ignore_eos": True}
    bodies = [body | {"messages": [{"role": "user", "content": f"{ask} {n}."}]} for n in range(TURNS)]
    began = time.monotonic()
    answers = await asyncio.gather(*[client.ask(url, body) for body in bodies])
    return sum(answer.finished and answer.error is None for answer in answers), time.monotonic() - began


def run(binary: str, state: Path, started: list, start_llama, start_gateway) -> None:
    # Without --cache-ram idle slots keep what they hold until somebody needs the room.
    start_llama(state, "unified", ["--host", "127.0.0.1", "--port", "0", "-c", str(CACHE), "-np", str(SLOTS), "--kv-unified", "--cache-ram", "0"], started)
    server = started[-1]
    fleet.wait_listening(server)
    for name, kv, options, expect in (
        ("without reservations", "unified", {"reserve": False, "resume": False}, "lost"),
        ("with reservations", "unified", {}, "whole"),
        ("found out (kv: auto)", "auto", {}, "whole"),
    ):
        backend = {"name": "unified", "url": server.url, "kv": kv}
        directory = state / f"{kv}-{len(started)}"
        directory.mkdir()
        pools = [{"name": "p", "models": ["*"], "backends": [backend]}]
        url, admin = start_gateway(binary, directory, pools, started, fleet_options=options)
        before, faults = overflows(server.log), metric(admin, "drover_kv_overflows_total")
        whole, took = asyncio.run(load(url))
        seen, told = overflows(server.log) - before, metric(admin, "drover_kv_overflows_total") - faults
        lost = metric(admin, "drover_kv_overflow_answers_total")
        print(f"kv unified: {name}: {whole} of {TURNS} answers whole, {seen} overflow(s) of the server, {told:.0f} told, {lost:.0f} answers hit, {took:.1f} s")
        if told != seen:
            raise fleet.Failure("an overflow is one fault")
        if expect == "lost" and (whole == TURNS or seen == 0):
            raise fleet.Failure("nothing was lost: this shows nothing")
        if expect == "whole" and (whole < TURNS or (seen > 0 and kv != "auto")):
            raise fleet.Failure("an answer was lost, or the cache overflowed")
    [backend] = json.load(urllib.request.urlopen(f"{admin}/api/backends", timeout=10))["backends"]
    if (backend["kv"], backend["kv_tokens"], backend["kv_held"]) != ("unified", CACHE, 0):
        raise fleet.Failure(f"not as it should be: {backend}")
