"""A client leaves: how long until the backend's connection is closed, which is what cancels its work."""

import asyncio
import json
import statistics
import time
import urllib.request

import client

GOAL_MS = 20


class ScriptedBackend:
    """Just enough of a llama-server; notes when its client hangs up."""

    def __init__(self):
        self.url = ""
        self.token_every_s = 0.005
        self.silent = False
        self.generating = asyncio.Event()
        self.closed: asyncio.Future = asyncio.get_running_loop().create_future()

    async def start(self) -> None:
        server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"

    def expect(self, silent: bool) -> None:
        self.silent = silent
        self.generating.clear()
        self.closed = asyncio.get_running_loop().create_future()

    async def serve(self, reader, writer) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                length = [line for line in head.split("\r\n") if line.lower().startswith("content-length:")]
                if length:
                    await reader.readexactly(int(length[0].split(":")[1]))
                if head.startswith("POST"):
                    await self.generate(reader, writer)
                    return
                body = json.dumps(self.page(head.split(" ")[1])).encode()
                answer = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
                writer.write(answer.encode() + body)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def page(self, path: str):
        if path.startswith("/props"):
            return {"total_slots": 4, "default_generation_settings": {"n_ctx": 4096}, "model_alias": "m", "build_info": "b1"}
        return [] if path.startswith("/slots") else {"status": "ok"}

    async def generate(self, reader, writer) -> None:
        hang_up = asyncio.ensure_future(reader.read(1))
        hang_up.add_done_callback(lambda _: self.closed.done() or self.closed.set_result(time.monotonic()))
        self.generating.set()
        if not self.silent:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
            chunk = {"choices": [{"index": 0, "delta": {"content": "word "}, "finish_reason": None}]}
            event = f"data: {json.dumps(chunk)}\n\n"
            while not hang_up.done():
                writer.write(f"{len(event):x}\r\n{event}\r\n".encode())
                await asyncio.wait([hang_up], timeout=self.token_every_s)
        await hang_up


async def leave(url: str, model: str, backend: ScriptedBackend, stream: bool, silent: bool) -> float:
    """Milliseconds from leaving to the backend's connection being closed."""
    backend.expect(silent)
    reader, writer = await client.connect(url)
    writer.write(client.chat(url, {"model": model, "stream": stream, "messages": [{"role": "user", "content": "Go."}]}))
    await asyncio.wait_for(backend.generating.wait(), 10)
    if stream and not silent:
        await reader.readuntil(b"word ")
    await asyncio.sleep(0.03)
    left = time.monotonic()
    writer.close()
    return (await asyncio.wait_for(backend.closed, 30) - left) * 1e3


CASES = {
    "a stream, in the middle of it": (True, False),
    "a stream, before its first byte": (True, True),
    "no stream, while it is generated": (False, False),
    "no stream, before its first byte": (False, True),
}


async def against_script(start_gateway, model: str, times: int) -> list[str]:
    """With a scripted backend in this process, whose clock is ours. Returns what went wrong."""
    backend = ScriptedBackend()
    await backend.start()
    gateway = await asyncio.to_thread(start_gateway, backend.url)
    wrong = []
    print(f"\nClient gone, until the backend's connection is closed (goal: {GOAL_MS} ms), {times} times each:")
    for name, (stream, silent) in CASES.items():
        took = sorted([await leave(gateway.url, model, backend, stream, silent) for _ in range(times)])
        median = statistics.median(took)
        print(f"  {name:34} median {median:5.1f} ms, longest {took[-1]:5.1f} ms")
        if median > GOAL_MS:
            wrong.append(f"client gone from {name}: {median:.1f} ms")
    return wrong


# A slot is idle at most so much later than the server's own time for a token.
IDLE_GOAL_MS = 50
# Prompts are read in steps of so many tokens: a server looks for clients that have gone between two steps.
BATCH = 64


class Slots:
    """The slots of servers as their logs tell: `stop processing` is written when one becomes idle.

    Reading a file disturbs a server less than asking for `/slots` every few milliseconds.
    """

    def __init__(self, servers):
        self.servers = servers
        self.files = [open(server.log, "rb") for server in servers]  # noqa: SIM115
        self.skip()

    def skip(self) -> None:
        for file in self.files:
            file.seek(0, 2)

    async def stopped(self, within_s: float = 30) -> float:
        """When the next of them became idle."""
        until = time.monotonic() + within_s
        while time.monotonic() < until:
            if any(b"stop processing" in file.read() for file in self.files):
                return time.monotonic()
            await asyncio.sleep(0.001)
        raise TimeoutError("a slot of a llama-server was still busy")

    def busy(self) -> int:
        count = 0
        for server in self.servers:
            with urllib.request.urlopen(f"{server.url}/slots", timeout=10) as response:
                count += sum(slot["is_processing"] for slot in json.load(response))
        return count


async def leaves_stream(url: str, body: dict, slots: Slots, gaps: list[float]) -> float:
    """Milliseconds from leaving in the middle of an answer to the idle slot. Adds the times between pieces to `gaps`."""
    reader, writer = await client.connect(url)
    writer.write(client.chat(url, body | {"stream": True, "max_tokens": 2000}))
    last = None
    for _ in range(6):
        await reader.readuntil(b'"content":"')
        now = time.monotonic()
        if last is not None:
            gaps.append((now - last) * 1e3)
        last = now
    slots.skip()
    left = time.monotonic()
    writer.close()
    return (await slots.stopped() - left) * 1e3


async def leaves_prefill(url: str, body: dict, slots: Slots, after_s: float) -> float:
    """The same while the prompt is read."""
    reader, writer = await client.connect(url)
    writer.write(client.chat(url, body | {"stream": True, "max_tokens": 5, "return_progress": True}))
    slots.skip()
    await asyncio.sleep(after_s)
    left = time.monotonic()
    writer.close()
    return (await slots.stopped() - left) * 1e3


def at(part: float, times: list[float]) -> float:
    return sorted(times)[min(len(times) - 1, int(part * len(times)))]


def tell(name: str, times: list[float]) -> None:
    print(f"  {name:46} p50 {at(0.5, times):6.1f} ms, p99 {at(0.99, times):6.1f} ms, longest {max(times):6.1f} ms  ({len(times)} times)")


async def slots_idle(gateway: str, servers: list, model: str, streams: int, prefills: int) -> list[str]:
    """On a real server: from a client that leaves to the idle slot, through the gateway and directly, by turns."""
    direct = servers[0].url
    slots = Slots(servers)
    # Not the same text twice: a cached prompt is not read.
    story = "Write a very long story about the sea and never stop. Number {}: "
    took: dict[tuple[str, str], list[float]] = {}
    gaps: list[float] = []

    def note(what: str, url: str, ms: float) -> None:
        took.setdefault((what, "through the gateway" if url == gateway else "directly"), []).append(ms)

    for index in range(streams):
        for url in (gateway, direct):
            body = {"model": model, "messages": [{"role": "user", "content": story.format(index)}]}
            note("a stream", url, await leaves_stream(url, body, slots, gaps if url == direct else []))
    for index in range(prefills):
        for url in (gateway, direct):
            text = f"{index} {url} " + "".join(f"item {number} of {index}, " for number in range(60))
            body = {"model": model, "messages": [{"role": "user", "content": text}]}
            note("a prompt", url, await leaves_prefill(url, body, slots, 0.3 + 0.07 * (index % 8)))
    print("\nClient gone, until the slot of a llama-server is idle:")
    tell("the server's own time between two tokens", gaps)
    for (what, path), times in took.items():
        tell(f"from {what}, {path}", times)
    own, through, alone = (at(0.99, times) for times in (gaps, took["a stream", "through the gateway"], took["a stream", "directly"]))
    above, control = through - own, alone - own
    print(f"  p99 above that of the server's own time for a token (goal: {IDLE_GOAL_MS} ms): {above:.1f} ms, directly {control:.1f} ms")
    wrong = []
    # A machine that has no time for the server is not the gateway's fault: directly it is late, too.
    if above > IDLE_GOAL_MS and above > max(control, 0) + IDLE_GOAL_MS:
        wrong.append(f"client gone: the slot was idle {above:.1f} ms later than the server's own time for a token")
    if await asyncio.to_thread(slots.busy):
        wrong.append("client gone: a slot still works for nobody")
    return wrong
