"""A small HTTP/1.1 client on asyncio that notices everything: how a body ended, and what its last event was."""

import asyncio
import json
import time
from dataclasses import dataclass, field
from urllib.parse import urlsplit


class Broken(Exception):
    """The connection ended before the answer did."""


@dataclass
class Answer:
    """What came back for one request. Times are `time.monotonic()`."""

    status: int = 0
    headers: dict | None = None
    said: list[str] = field(default_factory=list)  # the text of each event that has some
    error: str | None = None  # the error object's message
    finished: bool = False  # [DONE], or a whole answer with its finish reason
    clean: bool = False  # the body ended as HTTP wants it
    sent: float = 0.0
    first: float | None = None  # streams only
    ended: float = 0.0

    @property
    def pieces(self) -> int:
        return len(self.said)

    @property
    def text(self) -> str:
        return "".join(self.said)

    @property
    def attempts(self) -> int:
        return int((self.headers or {}).get("x-drover-attempts", 0))


async def connect(url: str):
    address = urlsplit(url)
    return await asyncio.open_connection(address.hostname, address.port)


def chat(url: str, body: dict) -> bytes:
    data = json.dumps(body).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {urlsplit(url).netloc}\r\n"
    return f"{head}Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data


async def read_head(reader) -> tuple[int, dict]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in head[1:] if ": " in line)
    return int(head[0].split(" ")[1]), headers


async def read_chunks(reader):
    """The pieces of a chunked body (RFC 9112 §7.1); ends only where the body properly ends."""
    while True:
        size = int(await reader.readuntil(b"\r\n"), 16)
        piece = (await reader.readexactly(size + 2))[:-2]
        if size == 0:
            return
        yield piece


async def ask(url: str, body: dict) -> Answer:
    """One chat completion, read to its end whatever that is."""
    answer = Answer(sent=time.monotonic())
    reader, writer = await connect(url)
    try:
        writer.write(chat(url, body))
        answer.status, answer.headers = await read_head(reader)
        if "content-length" in answer.headers:
            data = await reader.readexactly(int(answer.headers["content-length"]))
            answer.clean = True
            whole(answer, json.loads(data))
        else:
            pending = b""
            async for piece in read_chunks(reader):
                *events, pending = (pending + piece).split(b"\n\n")
                for event in events:
                    take(answer, event)
            answer.clean = not pending
    except (asyncio.IncompleteReadError, ConnectionError):
        answer.clean = False
    finally:
        answer.ended = time.monotonic()
        writer.close()
    return answer


def whole(answer: Answer, body: dict) -> None:
    if "error" in body:
        answer.error = body["error"]["message"]
    else:
        answer.said.append(body["choices"][0]["message"]["content"])
        answer.finished = all(choice["finish_reason"] for choice in body["choices"])


def take(answer: Answer, event: bytes) -> None:
    data = event.removeprefix(b"data: ")
    if data == b"[DONE]":
        answer.finished = True
        return
    body = json.loads(data)
    if "error" in body:
        answer.error = body["error"]["message"]
    elif said := "".join(choice["delta"].get("content") or "" for choice in body["choices"]):
        answer.said.append(said)
        answer.first = answer.first or time.monotonic()
