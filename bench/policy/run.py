#!/usr/bin/env python3
"""What policy costs where it has nothing to say, and how fast its audit log is verified.

    run.py --gateway BIN [--rounds N] [--only times|instructions|verify …] [--out FILE]

Four gateways stand before one simulated backend without waits and are asked in turns, one request at a time:

without   no `policy`
control   the same again: what differs between these two is the machine
unused    `policy: {}`: the engine is there, and no profile is in force
idle      ten rules in force, none of which has anything to say: the answers have no calls

times         medians of what the gateway says it worked (`x-drover-overhead-us`) and of the whole request, the client's time included;
              differences to `without` are of rounds, and their median
instructions  of one request, all threads of the gateway together, counted by valgrind's callgrind between two dumps
verify        `drover audit verify` of 100,000 records that this script has written by what docs/policy.md says of their form

The exit code is 1 when an unused engine takes over 1 % more instructions than none, or the log is not found sound.
"""

import argparse
import hashlib
import http.client
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))
import llama_fleet as fleet  # noqa: E402

MOST_RATIO = 1.01
RECORDS = 100_000

COMMANDS = ["git push --force", "git reset --hard", "terraform apply", "kubectl delete", "docker rm", "npm publish", "git commit"]


def rule(number: int, command: str) -> dict:
    when = f'tool.class == "shell" && shell.runs(tool.command, ["{command}"])'
    return {"id": f"r{number}", "on": "tool_call", "when": when, "then": {"block": {"reason": "no"}}}


RULES = [rule(number, command) for number, command in enumerate(COMMANDS)]
IN_FORCE = [one["id"] for one in RULES] + ["worktree.enforce", "commit.no_secrets", "commit.message_format"]
POLICIES = {
    "without": None,
    "control": None,
    "unused": {},
    "idle": {"root": "/r", "profile": "p", "profiles": {"p": IN_FORCE}, "rules": RULES},
}


def tool(number: int) -> dict:
    fields = {f"field_{n}": {"type": "string", "description": "What this field says, in some words. " * 4} for n in range(8)}
    function = {"name": f"tool_{number}", "description": "Does something.", "parameters": {"type": "object", "properties": fields}}
    return {"type": "function", "function": function}


def chat() -> dict:
    messages = [{"role": "system", "content": "You are terse. " * 110}, {"role": "user", "content": "Go on, please."}]
    return {"model": "m", "max_tokens": 8, "messages": messages}


def agent() -> dict:
    """A turn of about 200 KB with 40 tools and 60 calls behind it."""
    messages: list[dict] = [{"role": "system", "content": "You are a coding agent."}, {"role": "user", "content": "Mend it."}]
    for number in range(60):
        arguments = json.dumps({"command": f"cargo test part_{number} 2>&1 | tail -20"})
        call = {"id": f"c{number}", "type": "function", "function": {"name": "Bash", "arguments": arguments}}
        messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
        messages.append({"role": "tool", "tool_call_id": f"c{number}", "content": "test part ... ok\n" * 120})
    return {"model": "m", "max_tokens": 8, "messages": messages, "tools": [tool(number) for number in range(40)]}


# What is asked, and how often in a round.
LOADS = {"2 KB": (chat, 150), "200 KB, 60 calls": (agent, 40)}


class World:
    """A simulated backend and gateways before it; `wrapper` goes before their command lines."""

    def __init__(self, binary: str, state: Path, started: list, wrapper: list[str]) -> None:
        self.binary, self.state, self.started, self.wrapper = binary, state, started, wrapper
        rules = [{"script": {"steps": [{"text": "Well, then."}], "repeat": True}}]
        (state / "rules.json").write_text(json.dumps(rules))
        self.backend = fleet.free_address()
        argv = [binary, "sim", "--listen", self.backend, "--slots", "8", "--rules", str(state / "rules.json")]
        process = fleet.launch(state, "sim", argv, f"http://{self.backend}")
        started.append(process)
        fleet.wait_healthy(process, f"http://{self.backend}/health")

    def gateway(self, name: str, policy: dict | None) -> tuple[str, fleet.Process]:
        listen, admin = fleet.free_address(), fleet.free_address()
        pool = {"name": "p", "models": ["*"], "backends": [{"name": "b", "url": f"http://{self.backend}"}]}
        config = {"listen": [listen], "admin": {"addr": admin}, "fleet": {"pools": [pool]}, "telemetry": {"level": "off"}}
        if policy is not None:
            config["policy"] = policy
        file = self.state / f"{name}.yaml"
        file.write_text(json.dumps(config))
        argv = [*self.wrapper, self.binary, "serve", "--config", str(file)]
        process = fleet.launch(self.state, name, argv, f"http://{listen}")
        self.started.append(process)
        fleet.wait_healthy(process, f"http://{admin}/readyz")
        return listen, process


@contextmanager
def world(binary: str, wrapper: list[str]) -> Iterator[World]:
    with tempfile.TemporaryDirectory(prefix="drover-policy.") as directory:
        started: list[fleet.Process] = []
        try:
            yield World(binary, Path(directory), started, wrapper)
        finally:
            fleet.stop_all(started)


class Client:
    """One connection, one request at a time."""

    def __init__(self, address: str, body: dict) -> None:
        self.connection = http.client.HTTPConnection(address, timeout=60)
        self.body = json.dumps(body)

    def ask(self) -> tuple[float, float]:
        """What the gateway worked, and how long all took, in µs."""
        begun = time.perf_counter()
        headers = {"Content-Type": "application/json", "x-session-id": "bench"}
        self.connection.request("POST", "/v1/chat/completions", self.body, headers)
        response = self.connection.getresponse()
        answer = response.read()
        took = (time.perf_counter() - begun) * 1e6
        if response.status != 200:
            raise fleet.Failure(f"status {response.status}: {answer[:500]!r}")
        return float(response.headers["x-drover-overhead-us"]), took


def medians(client: Client, count: int) -> tuple[float, float]:
    own, whole = zip(*(client.ask() for _ in range(count)))
    return statistics.median(own), statistics.median(whole)


def times(binary: str, rounds: int) -> dict:
    found = {}
    names = list(POLICIES)
    with world(binary, []) as here:
        addresses = {name: here.gateway(name, policy)[0] for name, policy in POLICIES.items()}
        for load, (body, count) in LOADS.items():
            clients = {name: Client(address, body()) for name, address in addresses.items()}
            seen: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
            for number in range(-1, rounds):
                turn = number % len(names)
                for name in names[turn:] + names[:turn]:
                    one = medians(clients[name], count)
                    if number >= 0:
                        seen[name].append(one)
            found[load] = {name: told(seen[name], seen["without"]) for name in names}
    return found


def told(rounds: list[tuple[float, float]], without: list[tuple[float, float]]) -> dict:
    def middle(part: int) -> float:
        return round(statistics.median(one[part] for one in rounds), 1)

    def added(part: int) -> float:
        # Of neighbours in time, whose machine was equally busy.
        return round(statistics.median(one[part] - other[part] for one, other in zip(rounds, without)), 1)

    return {"own_us": middle(0), "own_added_us": added(0), "whole_us": middle(1), "whole_added_us": added(1)}


def instructions(binary: str, _: int) -> dict:
    found: dict[str, dict[str, float]] = {load: {} for load in LOADS}
    for name, policy in POLICIES.items():
        with world(binary, []) as here:
            out = here.state / "callgrind.out"
            here.wrapper = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}"]
            address, process = here.gateway(name, policy)
            for load, (body, count) in LOADS.items():
                client = Client(address, body())
                for _ in range(count // 2):
                    client.ask()
                blocks = [block(out, process.pid, client, count) for _ in range(3)]
                found[load][name] = round(statistics.median(blocks))
    for load in found.values():
        load |= {f"{name}_ratio": round(load[name] / load["without"], 4) for name in ("control", "unused", "idle")}
    return found


def block(out: Path, pid: int, client: Client, count: int) -> float:
    """Instructions of one request: what is counted from one dump to the next."""
    dump(pid)
    for _ in range(count):
        client.ask()
    known = set(out.parent.glob(f"{out.name}.*"))
    dump(pid)
    fleet.wait_until(lambda: set(out.parent.glob(f"{out.name}.*")) > known, 20)
    (newest,) = set(out.parent.glob(f"{out.name}.*")) - known
    total = None
    for line in newest.read_text().splitlines():
        if line.startswith("totals:"):
            total = int(line.split()[1])
    if total is None:
        raise fleet.Failure(f"{newest} has no total")
    return total / count


def dump(pid: int) -> None:
    subprocess.run(["callgrind_control", "--dump", str(pid)], check=True, capture_output=True, timeout=60)


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def write_log(directory: Path) -> int:
    """A log of RECORDS decisions, and its size."""
    evidence = compact({"root": "/r", "is_agent": False})
    before = "0" * 64
    lines = []
    for seq in range(1, RECORDS + 1):
        arguments = compact({"command": f"cargo test part_{seq} 2>&1 | tail -20", "description": "Run the tests of this part"})
        record = {
            "ts": "2026-01-02T03:04:05.678Z", "seq": seq, "request_id": f"{seq:032x}", "session": f"{seq % 50:020x}", "principal": "dev",
            "profile": "build", "rule": "-", "version": "-", "stage": "tool_call", "level": "optional", "mode": "enforce", "tool": "Bash",
            "decision": "allow", "reason": "", "old": arguments, "new": None, "evidence_hash": digest(evidence), "latency_us": 7,
            "prev_hash": before,
        }  # fmt: skip
        body = compact(record)[:-1]
        before = digest(body)
        lines.append(f'{body},"hash":"{before}"}}\n')
    (directory / "audit-000000000001.jsonl").write_text("".join(lines))
    cited = f'{{"hash":"{digest(evidence)}","evidence":{evidence}}}\n'
    (directory / "audit-000000000001.evidence").write_text(cited)
    head = f'{{"head":{compact({"first_seq": 1, "first_prev": "0" * 64, "seq": RECORDS, "hash": before})}'
    (directory / "audit.head").write_text(f'{head},"check":"{digest(head)}"}}'.ljust(511) + "\n")
    return sum(len(line) for line in lines)


def verify(binary: str, rounds: int) -> dict:
    with tempfile.TemporaryDirectory(prefix="drover-audit.") as directory:
        size = write_log(Path(directory))
        took = []
        for _ in range(rounds):
            begun = time.perf_counter()
            done = subprocess.run([binary, "audit", "verify", directory], capture_output=True, text=True, timeout=300)
            took.append(time.perf_counter() - begun)
            if done.returncode or "sound" not in done.stdout:
                raise fleet.Failure(f"verify: {done.stdout}{done.stderr}")
    seconds = statistics.median(took)
    return {"records": RECORDS, "bytes": size, "seconds": round(seconds, 3), "records_per_s": round(RECORDS / seconds)}


def show(name: str, found: dict) -> None:
    if name == "verify":
        print(f"verify: {found['records']:,} records, {found['bytes'] / 1e6:.0f} MB: {found['seconds']} s, {found['records_per_s']:,} records/s")
        return
    for load, row in found.items():
        print(f"{name}, {load}: {json.dumps(row)}", flush=True)


def main() -> int:
    measures = {"times": times, "instructions": instructions, "verify": verify}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gateway", required=True)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--only", action="append", choices=list(measures), help="measure this; all without it")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    wanted = args.only or list(measures)
    if "instructions" in wanted and not shutil.which("callgrind_control"):
        print("error: valgrind is missing: apt-get install valgrind", file=sys.stderr)
        return 64
    results = {}
    for name in wanted:
        results[name] = measures[name](args.gateway, args.rounds)
        show(name, results[name])
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps({"schema": 1, "cores": os.cpu_count(), "rounds": args.rounds, **results}, indent=1) + "\n")
    dear = [row["unused_ratio"] > MOST_RATIO for row in results.get("instructions", {}).values()]
    return 1 if any(dear) else 0


if __name__ == "__main__":
    sys.exit(main())
