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


def busy(backends: list[str]) -> int:
    count = 0
    for url in backends:
        with urllib.request.urlopen(f"{url}/slots", timeout=10) as response:
            count += sum(slot["is_processing"] for slot in json.load(response))
    return count


async def slots_idle(url: str, backends: list[str], body: dict, times: int) -> list[str]:
    """On real servers: until no slot works any more. (Streams are cancelled at once even while /slots is polled.)"""
    took = []
    for index in range(times):
        reader, writer = await client.connect(url)
        messages = [{"role": "user", "content": f"Write a very long story, number {index}. Never stop."}]
        writer.write(client.chat(url, body | {"stream": True, "max_tokens": 3000, "messages": messages}))
        for _ in range(3):
            await reader.readuntil(b'"content":"')
        writer.close()
        left = time.monotonic()
        while await asyncio.to_thread(busy, backends):
            if time.monotonic() - left > 10:
                return ["client gone: the slot of a llama-server was still busy after 10 s"]
        took.append((time.monotonic() - left) * 1e3)
    print(f"\nClient gone, until no slot of the servers works: median {statistics.median(took):.0f} ms, longest {max(took):.0f} ms")
    return []
