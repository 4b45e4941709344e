#!/usr/bin/env python3
"""How well prompts find their caches: Drover against other routers, and against no router, on the same servers.

    run.py --gateway BIN [--llama [--cache-ram MIB]] [--servers N] [--rounds N] [--cases N,...] [--only NAME,...] [--routers DIR]

Without --llama the servers are simulated ones with a modelled prefill; beyond 16 they and the agents take their time, since
one machine plays them all. Each round runs everything once, with texts of its own, and what is printed is of all rounds. DIR has virtual environments `smg`, `vr` and
`sg` with smg, vllm-router and sglang-router (scripts/routers.sh makes them); those not there are left out. The exit
code is 1 when Drover is not ahead.
"""

import argparse
import contextlib
import os
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))
import llama_fleet as fleet  # noqa: E402
from load import Direct, Load, Plan, Run, Through  # noqa: E402

SLOTS = {False: 4, True: 2}
# Time to the first token against the better of round robin and least connections.
FIRST_GOAL = 0.4
EASY_GOAL = 0.98
# Cached share: where everything stays where it is, which conversations the restarted server had decides about as much.
SAME = 0.001
HARD = "1.5 times as many, side calls, a restart"
HOT = "six in ten share their beginning"
AGENTS = "a slot for each, long beginnings and small steps"
# Turns of the busiest server, for the mean of all.
BUSIEST_GOAL = 1.25


def plans(llama: bool, slots: int, slower: float) -> dict[str, Plan]:
    if llama:
        # About 120 tokens a second are read: conversations grow to 1,200 tokens.
        easy = Plan(sessions=slots, turns=5, words=170, max_tokens=8, side_calls=0.0)
        hard = Plan(sessions=slots * 3 // 2, turns=5, words=170, max_tokens=8, side_calls=0.3)
    else:
        # Conversations grow to 6,000 tokens in steps of the size of a tool's result.
        think_s = 0.05 * slower
        easy = Plan(sessions=slots, turns=12, words=370, max_tokens=16, side_calls=0.0, think_s=think_s)
        hard = Plan(sessions=slots * 3 // 2, turns=12, words=370, max_tokens=16, side_calls=0.3, think_s=think_s)
    hot = Plan(sessions=slots, turns=6, words=easy.words, max_tokens=easy.max_tokens, side_calls=0.0, think_s=easy.think_s)
    hot.hot, hot.shared_words = 0.6, easy.words * (2 if llama else 5)
    # As agents do: most of a prompt is there from the beginning, and tools take their time.
    agents = Plan(sessions=slots, turns=6, words=easy.words // 3, max_tokens=8, side_calls=0.0, think_s=20 * easy.think_s)
    agents.opening_words = 3 * easy.words
    return {"a slot for each": easy, HARD: hard, HOT: hot, AGENTS: agents}


class Servers:
    """The servers behind everything."""

    def __init__(self, args, state: Path, started: list):
        self.args, self.state, self.started = args, state, started
        self.restarting: threading.Thread | None = None
        self.all = [self.start(n, fleet.free_address()) for n in range(args.servers)]

    def start(self, number: int, address: str) -> fleet.Process:
        if self.args.llama:
            server = fleet.start_server(self.state, f"llama{number}", address.rpartition(":")[2], "none", False, more=self.memory())
            self.started.append(server)
            fleet.wait_listening(server)
        else:
            # As a mid-size model on one GPU: it reads 3,000 tokens a second.
            # Evicted conversations stay in host memory, as with llama-server's default `--cache-ram 8192`: 8 GiB of such
            # a model's KV cache, 128 KiB a token.
            speed = [str(round(tps / self.args.slower)) for tps in (3000, 60)]
            sim = ["--slots", str(SLOTS[False]), "--prefill-tps", speed[0], "--decode-tps", speed[1], "--load-time", "2s"]
            sim += ["--cache-ram-tokens", "65536"]
            argv = [self.args.gateway, "sim", "--listen", address, "--name", f"sim{number}", "--alias", fleet.MODEL, *sim]
            server = fleet.launch(self.state, f"sim{number}", argv, f"http://{address}", dies_with_us=False)
            self.started.append(server)
        fleet.wait_healthy(server, f"{server.url}/health")
        return server

    def memory(self) -> list[str]:
        """Of a real server for conversations that have no slot."""
        return ["--cache-ram", str(self.args.cache_ram)] if self.args.cache_ram else []

    def restart(self) -> None:
        """The first one dies and comes back, with empty caches."""

        def again():
            dead = self.all[0]
            os.kill(dead.pid, signal.SIGKILL)
            time.sleep(1)
            self.all[0] = self.start(0, dead.url.removeprefix("http://"))

        self.restarting = threading.Thread(target=again)
        self.restarting.start()

    def wait(self) -> None:
        """Until all are there again."""
        if self.restarting:
            self.restarting.join()


@contextlib.contextmanager
def router(name: str, args, state: Path, servers: Servers):
    """Something that takes requests for the servers."""
    urls = [server.url for server in servers.all]
    if name in ("round robin", "least connections"):
        yield Direct(urls, least=name == "least connections")
        return
    started: list = []
    listen, admin = fleet.free_address(), fleet.free_address()
    host, port = listen.split(":")
    try:
        if name == "drover":
            front = fleet.start_gateway(args.gateway, listen, admin, state, servers.all, started)
            yield Through(front.url)
            return
        binary, launch = {
            "smg": ("smg/bin/smg", ["launch"]),
            "vllm-router": ("vr/bin/vllm-router", []),
            "sglang-router": ("sg/bin/sglang-router", ["launch"]),
        }[name]
        metrics = ["--prometheus-host", "127.0.0.1", "--prometheus-port", admin.rpartition(":")[2]]
        workers = ["--worker-urls", *urls, "--policy", "cache_aware"]
        argv = [str(Path(args.routers) / binary), *launch, "--host", host, "--port", port, *workers, *metrics]
        process = fleet.launch(state, name, argv, f"http://{listen}")
        started.append(process)
        fleet.wait_healthy(process, f"{process.url}/health")
        time.sleep(3)  # until it knows its workers
        yield Through(process.url)
    finally:
        fleet.stop_all(started)


def names(args) -> list[str]:
    there = {"smg": "smg/bin/smg", "vllm-router": "vr/bin/vllm-router", "sglang-router": "sg/bin/sglang-router"}
    others = [name for name, binary in there.items() if (Path(args.routers) / binary).exists()]
    all_names = ["drover", *others, "least connections", "round robin"]
    only = (args.only or "").replace("-connections", " connections").replace("round-robin", "round robin")
    return [name for name in all_names if not only or name in only.split(",")]


def compare(title: str, plan: Plan, args, state: Path, servers: Servers) -> dict[str, Run]:
    print(f"\n{title}: {plan.sessions} conversations, {plan.turns} turns, {args.servers} servers, rounds: {args.rounds}", flush=True)
    runs = {name: Run() for name in names(args)}
    for turn in range(args.rounds):
        for number, (name, total) in enumerate(runs.items()):
            with router(name, args, state, servers) as target:
                half_way = servers.restart if title == HARD else lambda: None
                run = Load(plan, target, f"{title[:1]}{number} {turn}", fleet.MODEL, half_way).go()
                servers.wait()
            total.add(run)
            if args.rounds > 1:
                print(f"  round {turn + 1}: {name:20} {run.cached():8.2%} {run.first():10.2f} s", flush=True)
    print(f"{'':20} {'cached':>8} {'first token':>12} {'p99':>9} {'turn':>9} {'busiest':>8} {'errors':>7} {'lost':>5} {'took':>8}")
    for name, run in runs.items():
        figures = f"{run.first():10.2f} s {run.first_p99():7.2f} s {run.turn():7.2f} s {run.busiest(args.servers):8.2f} {run.errors:7} {run.lost:5} {run.took_s:6.1f} s  {run.last_error[:60]}"
        print(f"{name:20} {run.cached():8.2%} {figures}", flush=True)
    return runs


def too_uneven(ours: Run, runs: dict[str, Run], servers: int) -> list[str]:
    wrong, least = [], runs.get("least connections")
    if ours.busiest(servers) > BUSIEST_GOAL:
        wrong.append(f"{HOT}: the busiest server has {ours.busiest(servers):.2f} of the mean, the goal is {BUSIEST_GOAL}")
    if least and ours.first_p99() > least.first_p99():
        wrong.append(f"{HOT}: first token p99 {ours.first_p99():.2f} s, {least.first_p99():.2f} s by least connections")
    return wrong


def judge(title: str, runs: dict[str, Run], servers: int, llama: bool) -> list[str]:
    wrong, ours = [], runs.get("drover")
    if ours is None:
        return wrong
    if title == HOT:
        return too_uneven(ours, runs, servers)
    if title != HARD and ours.cached() < EASY_GOAL:
        wrong.append(f"{title}: {ours.cached():.1%} cached, the goal is {EASY_GOAL:.0%}")
    for name, run in runs.items():
        if title == HARD and name != "drover" and run.cached() > ours.cached() + SAME:
            wrong.append(f"{title}: {name} has {run.cached():.2%} cached, Drover {ours.cached():.2%}")
    plain = [runs[name].first() for name in ("round robin", "least connections") if name in runs]
    if plain:
        ratio = ours.first() / min(plain)
        print(f"time to the first token against the better of those without a cache in mind: {ratio:.2f}")
        # Two servers find half of everything by chance, and a short conversation that grows fast has little to find.
        if ratio > FIRST_GOAL and (not llama or title == AGENTS):
            wrong.append(f"{title}: first token at {ratio:.2f} of theirs, the goal is {FIRST_GOAL}")
    if ours.lost:
        wrong.append(f"{title}: {ours.lost} turns lost")
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gateway", required=True, help="the drover binary")
    parser.add_argument("--llama", action="store_true", help="real llama-servers (source scripts/llama.sh's output)")
    parser.add_argument("--cache-ram", type=int, help="MiB of host memory for idle conversations of each real server; default: 256, room for ten")
    parser.add_argument("--servers", type=int, help="default: 2 real ones, 8 simulated ones")
    parser.add_argument("--rounds", type=int, help="default: 3 on real servers, 1 on simulated ones")
    parser.add_argument("--cases", default="1,2,3", help="which of the cases, separated by commas; 4: agents' long beginnings")
    parser.add_argument("--only", help="names, separated by commas")
    parser.add_argument("--routers", default=str(Path.home() / ".cache/drover/routers"))
    args = parser.parse_args()
    args.servers = args.servers or (2 if args.llama else 8)
    args.rounds = args.rounds or (3 if args.llama else 1)
    args.slower = max(1, args.servers / 16)
    wrong, started = [], []
    with tempfile.TemporaryDirectory(prefix="drover-fleet-bench.") as state:
        try:
            servers = Servers(args, Path(state), started)
            cases = plans(args.llama, args.servers * SLOTS[args.llama], args.slower)
            chosen = [list(cases)[int(case) - 1] for case in args.cases.split(",")]
            for title, plan in ((title, cases[title]) for title in chosen):
                wrong += judge(title, compare(title, plan, args, Path(state), servers), args.servers, args.llama)
        finally:
            fleet.stop_all(started)
    for line in wrong:
        print(f"error: {line}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
