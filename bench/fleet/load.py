"""Conversations of coding agents: every turn sends all that was said before, and a little more."""

import collections
import http.client
import itertools
import json
import random
import statistics
import threading
import time
from dataclasses import dataclass, field
from urllib.parse import urlsplit

WORDS = "the file test run code line read write list name path error build fix call check result value open close".split()
RETRIES = 4


@dataclass
class Plan:
    """How much is asked."""

    sessions: int
    turns: int
    words: int  # that a turn adds
    max_tokens: int
    side_calls: float  # share of turns followed by a small request of another kind
    think_s: float = 0.05
    shared_words: int = 0  # of a system prompt that `hot` of the sessions share
    hot: float = 0.0
    opening_words: int = 0  # of the first turn, beyond those that each adds: a system prompt, tools, a task


@dataclass
class Turn:
    """What one turn got."""

    prompt: int
    cached: int
    could: int  # tokens of the prompt that the conversation's last turn had read already
    first_s: float
    total_s: float
    backend: str  # empty: not told


@dataclass
class Run:
    """What all got."""

    turns: list[Turn] = field(default_factory=list)
    errors: int = 0
    lost: int = 0
    last_error: str = ""
    took_s: float = 0.0

    def add(self, other: "Run") -> None:
        """The same plan once more."""
        self.turns += other.turns
        self.errors += other.errors
        self.lost += other.lost
        self.last_error = other.last_error or self.last_error
        self.took_s += other.took_s

    def cached(self) -> float:
        """Share of what could be cached."""
        return sum(min(t.cached, t.could) for t in self.turns) / max(1, sum(t.could for t in self.turns))

    def firsts(self) -> list[float]:
        """Times to the first token in seconds, of turns that have something to find in a cache."""
        return sorted(t.first_s for t in self.turns if t.could > 0) or [float("nan")]

    def first(self) -> float:
        """Their mean: a median says nothing where half of the prompts were found."""
        return statistics.fmean(self.firsts())

    def turn(self) -> float:
        """Mean time of a whole turn in seconds, of all of them."""
        return statistics.fmean(t.total_s for t in self.turns) if self.turns else float("nan")

    def busiest(self, servers: int) -> float:
        """Turns of the busiest server, for the mean of all; not known of routers that do not tell who answered."""
        counts = collections.Counter(turn.backend for turn in self.turns)
        return max(counts.values()) * servers / len(self.turns) if len(counts) > 1 else float("nan")

    def first_p99(self) -> float:
        return self.firsts()[int(0.99 * (len(self.firsts()) - 1))]


class Direct:
    """No router: the client itself picks a server, in turn or the one with the fewest requests of its own."""

    def __init__(self, urls: list[str], least: bool):
        self.urls, self.least, self.lock = urls, least, threading.Lock()
        self.next, self.inflight = itertools.count(), dict.fromkeys(urls, 0)

    def take(self) -> str:
        with self.lock:
            turn = next(self.next) % len(self.urls)
            order = self.urls[turn:] + self.urls[:turn]
            url = min(order, key=self.inflight.get) if self.least else order[0]
            self.inflight[url] += 1
            return url

    def give(self, url: str) -> None:
        with self.lock:
            self.inflight[url] -= 1

    def name(self, url: str) -> str:
        return url


class Through:
    """A router."""

    def __init__(self, url: str):
        self.url = url

    def take(self) -> str:
        return self.url

    def give(self, url: str) -> None:
        pass

    def name(self, url: str) -> str:
        """Of the server that answers: only the router knows."""
        return ""


def ask(url: str, body: dict, began: float, name: str) -> tuple[str, dict, float, str]:
    """The text, the usage, the time since `began` to the first piece of one streamed answer, and who gave it: `name` if it
    does not tell."""
    address = urlsplit(url)
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=300)
    first, text, usage, done = None, "", None, False
    try:
        connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
        response = connection.getresponse()
        backend = response.headers.get("x-drover-backend", name)
        if response.status != 200:
            raise ConnectionError(f"status {response.status}: {response.read(300)!r}")
        for line in response:
            data = line.removeprefix(b"data: ").strip()
            done |= data == b"[DONE]"
            if not data.startswith(b"{"):
                continue
            event = json.loads(data)
            if "error" in event:
                raise ConnectionError(str(event["error"]))
            usage = event.get("usage") or usage
            for choice in event.get("choices", []):
                if said := choice["delta"].get("content"):
                    first, text = first or time.monotonic(), text + said
        if not done or usage is None:
            raise ConnectionError("the stream was cut")
    finally:
        connection.close()
    return text, usage, (first or time.monotonic()) - began, backend


class Load:
    """Runs a plan; `salt` makes its texts new to every cache."""

    def __init__(self, plan: Plan, target, salt: str, model: str, half_way=lambda: None):
        self.plan, self.target, self.salt, self.model, self.half_way = plan, target, salt, model, half_way
        self.run, self.lock, self.done = Run(), threading.Lock(), 0

    def go(self) -> Run:
        began = time.monotonic()
        threads = [threading.Thread(target=self.session, args=(n,)) for n in range(self.plan.sessions)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.run.took_s = time.monotonic() - began
        return self.run

    def body(self, messages: list) -> dict:
        return {
            "model": self.model,
            "messages": messages,
            "stream": True,
            "stream_options": {"include_usage": True},
            "max_tokens": self.plan.max_tokens,
            "temperature": 0,
        }

    def one(self, messages: list):
        """A turn, tried again by the client as agents do; none when it is lost."""
        began = time.monotonic()  # tries that failed are part of the wait
        for attempt in range(RETRIES):
            url = self.target.take()
            try:
                return ask(url, self.body(messages), began, self.target.name(url))
            except (OSError, http.client.HTTPException, json.JSONDecodeError) as error:
                with self.lock:
                    self.run.errors += 1
                    self.run.last_error = str(error)
                time.sleep(0.5 * (attempt + 1))
            finally:
                self.target.give(url)
        with self.lock:
            self.run.lost += 1
        return None

    def session(self, number: int) -> None:
        plan = self.plan
        dice = random.Random(f"{self.salt} {number}")
        text = lambda words: " ".join(dice.choice(WORDS) for _ in range(words))
        messages = []
        if dice.random() < plan.hot:
            shared = random.Random(self.salt)
            system = " ".join(shared.choice(WORDS) for _ in range(plan.shared_words))
            messages.append({"role": "system", "content": system})
        said = 0
        for turn in range(plan.turns):
            opener = f"{self.salt} conversation {number}: " if turn == 0 else ""
            words = plan.words + (plan.opening_words if turn == 0 else 0)
            messages.append({"role": "user", "content": opener + text(words)})
            began = time.monotonic()
            answer = self.one(messages)
            total = time.monotonic() - began
            if answer is None:
                return
            reply, usage, first, backend = answer
            cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0)
            with self.lock:
                self.run.turns.append(Turn(usage["prompt_tokens"], cached, said, first, total, backend))
                self.done += 1
                is_half = self.done == plan.sessions * plan.turns // 2
            if is_half:
                self.half_way()
            said = usage["prompt_tokens"]
            messages.append({"role": "assistant", "content": reply})
            if dice.random() < plan.side_calls:
                title = [{"role": "user", "content": f"A title for: {text(30)}"}]
                self.one(title)
            time.sleep(dice.random() * 2 * plan.think_s)
