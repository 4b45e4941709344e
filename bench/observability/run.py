#!/usr/bin/env python3
"""What being seen costs: throughput with everything on against everything off, and a scrape of a large fleet.

    run.py --gateway BIN [--rounds N] [--sessions N] [--only paced|streams|short|scrape …] [--out FILE]

On is: access log, the last requests, traces of every turn sent to a receiver, a scrape a second, a console that follows.
Off is none of it. Two gateways with it off and one with it on run side by side before one simulated backend and are asked in turns,
by ab (Debian's apache2-utils); off against off is the control, which would be 1 on a quiet machine. Three loads:

paced    streams of 128 tokens at 100 tokens a second, 64 at once: what a GPU gives, so that the gateway waits for the backend
streams  the same streams as fast as everything goes, 16 at once: the gateway's throughput
short    whole answers of 40 words as fast as everything goes, 8 at once: hardly anything but beginnings and ends of requests, which
         are what being seen costs

Receiver, Prometheus and console take bytes and do no more with them, but they run on the same machine, and take their part of it;
`cpu_ratio` leaves them out: processor time of the gateway for a request, off against on. What each of them got is told, and a run in
which one of them got nothing is none. The exit code is 1 when a goal is missed: ratio of each load at least 0.97 (of `short`, the worst
case, 0.9), a scrape in less than 50 ms.
"""

import argparse
import contextlib
import http.server
import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))
import llama_fleet as fleet  # noqa: E402

RATIOS = {"paced": 0.97, "streams": 0.97, "short": 0.9}
SCRAPE_MS = 50
BACKENDS = 64


@dataclass(frozen=True)
class Load:
    """What is asked, how much of it at once and in a round, and how fast the backend is."""

    stream: bool
    words: int
    at_once: int
    requests: int
    sim: tuple[str, ...]

    def body(self) -> dict:
        text = "Say something. " * 40
        return {"model": "m", "max_tokens": 4 * self.words, "stream": self.stream, "messages": [{"role": "user", "content": text}]}

    def rules(self) -> list:
        return [{"script": {"steps": [{"text": "one two three four five six seven eight nine ten " * (self.words // 10)}], "repeat": True}}]


LOADS = {
    "paced": Load(stream=True, words=130, at_once=64, requests=256, sim=("--decode-tps", "100", "--prefill-tps", "5000")),
    "streams": Load(stream=True, words=130, at_once=16, requests=600, sim=()),
    "short": Load(stream=False, words=40, at_once=8, requests=3000, sim=()),
}


class Receiver(http.server.BaseHTTPRequestHandler):
    """Takes traces, and nothing else."""

    protocol_version = "HTTP/1.1"
    taken = 0

    def do_POST(self) -> None:  # noqa: N802
        Receiver.taken += len(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_) -> None:
        pass


def spawn(state: Path, started: list, name: str, argv: list[str], url: str, health: str) -> fleet.Process:
    process = fleet.launch(state, name, argv, url)
    started.append(process)
    fleet.wait_healthy(process, health)
    return process


def gateway(binary: str, state: Path, started: list, name: str, backends: list[str], telemetry: dict) -> tuple[str, str, int]:
    """The addresses for clients and admins, and the pid."""
    listen, admin = fleet.free_address(), fleet.free_address()
    pool = {"name": "p", "models": ["*"], "backends": [{"name": f"b{n}", "url": url} for n, url in enumerate(backends)]}
    config = {"listen": [listen], "admin": {"addr": admin}, "fleet": {"pools": [pool]}, "telemetry": telemetry}
    file = state / f"{name}.yaml"
    file.write_text(json.dumps(config))
    process = spawn(state, started, name, [binary, "serve", "--config", str(file)], f"http://{listen}", f"http://{admin}/readyz")
    return f"http://{listen}", f"http://{admin}", process.pid


def cpu_seconds(pid: int) -> float:
    """What a process has used (proc_pid_stat(5), fields 14 and 15)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def ab(url: str, body: Path, load: Load) -> float:
    """Requests a second."""
    # ab speaks HTTP/1.0, where the end of a stream is the end of its connection.
    keep = [] if load.stream else ["-k"]
    argv = ["ab", "-q", *keep, "-c", str(load.at_once), "-n", str(load.requests), "-p", str(body), "-T", "application/json"]
    done = subprocess.run([*argv, f"{url}/v1/chat/completions"], capture_output=True, text=True, timeout=300)
    rate = re.search(r"Requests per second:\s+([\d.]+)", done.stdout)
    if not rate or "Non-2xx" in done.stdout:
        raise fleet.Failure(f"ab: {done.stdout}{done.stderr}")
    return float(rate[1])


def get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=20) as response:
        return response.read()


def watch(admin: str, stop: threading.Event) -> dict[str, int]:
    """A Prometheus and a console. Bytes that each of them has got."""
    got = {"scraped": 0, "events": 0}

    def scrape() -> None:
        while not stop.wait(1):
            got["scraped"] += len(get(f"{admin}/metrics"))

    def follow() -> None:
        # Not line by line: what Python needs for that would be measured with the gateway.
        host, _, port = admin.removeprefix("http://").rpartition(":")
        with socket.create_connection((host, int(port)), timeout=20) as events:
            events.sendall(f"GET /api/events HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
            while not stop.is_set() and (data := events.recv(1 << 20)):
                got["events"] += len(data)

    for what in (scrape, follow):
        threading.Thread(target=what, daemon=True).start()
    return got


def throughput(binary: str, state: Path, started: list, rounds: int, load: Load) -> dict:
    receiver = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=receiver.serve_forever, daemon=True).start()
    (state / "rules.json").write_text(json.dumps(load.rules()))
    body = state / "body.json"
    body.write_text(json.dumps(load.body()))
    address = fleet.free_address()
    sim = [binary, "sim", "--listen", address, "--slots", "64", "--rules", str(state / "rules.json"), *load.sim]
    spawn(state, started, "sim", sim, f"http://{address}", f"http://{address}/health")
    otlp = {"endpoint": f"http://127.0.0.1:{receiver.server_port}"}
    nothing = {"level": "off", "recent_requests": 0}
    seen = {"off": nothing, "control": nothing, "on": {"otlp": otlp}}
    all_of = {name: gateway(binary, state, started, name, [f"http://{address}"], telemetry) for name, telemetry in seen.items()}
    stop = threading.Event()
    got = watch(all_of["on"][1], stop)
    rates: dict[str, list[float]] = {name: [] for name in seen}
    cost: dict[str, list[float]] = {name: [] for name in seen}
    names = list(seen)
    for number in range(-1, rounds):
        for name in names[number % 3:] + names[:number % 3]:
            url, _, pid = all_of[name]
            before = cpu_seconds(pid)
            rate = ab(url, body, load)
            if number >= 0:
                rates[name].append(rate)
                cost[name].append((cpu_seconds(pid) - before) / load.requests * 1e6)
    stop.set()

    def median_of(values: dict, part: str, whole: str) -> float:
        # Of neighbours in time, whose machine was equally busy.
        return statistics.median(one / other for one, other in zip(values[part], values[whole]))

    found = {f"{name}_per_s": [round(rate, 1) for rate in rates[name]] for name in names}
    found |= {"ratio": median_of(rates, "on", "off"), "control_ratio": median_of(rates, "control", "off")}
    found |= {f"cpu_{name}_us": statistics.median(cost[name]) for name in names}
    found |= {"cpu_ratio": median_of(cost, "off", "on"), "cpu_control_ratio": median_of(cost, "off", "control")}
    traces = dict(re.findall(r'drover_traces_total\{result="(\w+)"\} (\d+)', get(f"{all_of['on'][1]}/metrics").decode()))
    got |= {"traces": Receiver.taken, "lines": (state / "on.log").stat().st_size}
    if not all(got.values()):
        raise fleet.Failure(f"not everything was seen: {got}")
    return found | {"traces": traces, "bytes": got}


def free_addresses(count: int) -> list[str]:
    """All different, which one after the other they need not be."""
    with contextlib.ExitStack() as held:
        probes = [held.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [f"127.0.0.1:{probe.getsockname()[1]}" for probe in probes]


def scraped(binary: str, state: Path, started: list, sessions: int) -> dict:
    addresses = free_addresses(BACKENDS)
    argv = [binary, "sim", "--slots", "64"]
    for address in addresses:
        argv += ["--listen", address]
    spawn(state, started, "sims", argv, "", f"http://{addresses[-1]}/health")
    url, admin, _ = gateway(binary, state, started, "large", [f"http://{a}" for a in addresses], {"level": "off"})
    body = {"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": "hi"}]}
    fill(url, body, sessions)
    found = int(json.loads(get(f"{admin}/api/sessions?limit=1"))["total"])
    times = []
    for _ in range(50):
        begun = time.perf_counter()
        size = len(get(f"{admin}/metrics"))
        times.append((time.perf_counter() - begun) * 1000)
    return {"backends": BACKENDS, "sessions": found, "bytes": size, "median_ms": statistics.median(times), "worst_ms": max(times)}


def fill(url: str, body: dict, sessions: int) -> None:
    """A session a request: the name travels in a header, over connections that stay open."""
    import http.client
    import urllib.parse

    data, address = json.dumps(body), urllib.parse.urlsplit(url)

    def part(numbers: range) -> None:
        connection = http.client.HTTPConnection(address.hostname, address.port, timeout=60)
        for number in numbers:
            connection.request("POST", "/v1/chat/completions", data, {"Content-Type": "application/json", "x-session-id": f"s{number}"})
            response = connection.getresponse()
            response.read()
            if response.status != 200:
                raise fleet.Failure(f"status {response.status}")

    workers = 4
    pids = []
    for worker in range(workers):
        pid = os.fork()
        if pid == 0:
            try:
                part(range(worker, sessions, workers))
                os._exit(0)
            finally:
                os._exit(1)
        pids.append(pid)
    if any(os.waitpid(pid, 0)[1] for pid in pids):
        raise fleet.Failure("not every session could be made")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gateway", required=True)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--sessions", type=int, default=100_000)
    parser.add_argument("--only", action="append", choices=[*LOADS, "scrape"], help="measure this; all without it")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    if not shutil.which("ab"):
        print("error: ab is missing: apt-get install apache2-utils", file=sys.stderr)
        return 64
    measures = {name: lambda *world, load=load: throughput(*world, args.rounds, load) for name, load in LOADS.items()}
    measures["scrape"] = lambda *world: scraped(*world, args.sessions)
    results = {}
    for name in args.only or measures:
        with tempfile.TemporaryDirectory(prefix="drover-observability.") as directory:
            started: list[fleet.Process] = []
            try:
                results[name] = measures[name](args.gateway, Path(directory), started)
            finally:
                fleet.stop_all(started)
        print(f"{name}: {json.dumps(results[name])}", flush=True)
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps({"schema": 1, "cores": os.cpu_count(), **results}, indent=1) + "\n")
    slow = [results[name]["ratio"] < RATIOS[name] for name in LOADS if name in results]
    slow += [results["scrape"]["median_ms"] >= SCRAPE_MS] if "scrape" in results else []
    return 1 if any(slow) else 0


if __name__ == "__main__":
    sys.exit(main())
