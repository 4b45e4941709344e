#!/usr/bin/env python3
"""Rollouts on real llama-servers with a made-up acceptance: what is better is promoted, what becomes worse is rolled back, and the
gateway is killed in between.

    run.py --gateway BIN      source the output of scripts/llama.sh first

SmolLM2 is its own draft model, and `--spec-synth-len` says how many tokens a verified draft brings: the decode speed follows.
The exit code is 1 when something is not as it should be.
"""

import argparse
import json
import os
import re
import signal
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))
import llama_fleet as fleet  # noqa: E402

# How many tokens a verified draft of each profile brings.
LENGTHS = {"before": "1.3", "after": "3"}
COLLAPSED = "1.05"
SESSIONS = 12
TOKENS = 24
# Turns of one scenario, at most; a dozen of each side are enough on a quiet machine.
MOST_TURNS = 160
RESTARTS_S = 60


class House:
    """Two servers and a gateway that can be killed."""

    def __init__(self, binary: str, state: Path):
        self.binary, self.state = binary, state
        self.started: list[fleet.Process] = []
        self.addresses = {name: fleet.free_address() for name in LENGTHS}
        self.servers = {name: self.start_server(name, length) for name, length in LENGTHS.items()}
        for server in self.servers.values():
            fleet.wait_healthy(server, f"{server.url}/health")

    def start_server(self, name: str, length: str) -> fleet.Process:
        host, port = self.addresses[name].split(":")
        model = os.environ["MODEL_SMOLLM2"]
        argv = [os.environ["LLAMA_SERVER"], "--host", host, "--port", port, "-m", model, "-md", model, "--alias", fleet.MODEL]
        argv += ["-t", "1", "-c", "2048", "-np", "1", "--metrics", "--slots", "--spec-type", "draft-simple", "--spec-synth-len", length]
        server = fleet.launch(self.state, name, argv, f"http://{self.addresses[name]}", env=fleet.LLAMA_ENV)
        self.started.append(server)
        return server

    def restart_server(self, name: str, length: str) -> None:
        self.servers[name].stop(fleet.SERVER_STOP_TIMEOUT_S)
        self.servers[name] = self.start_server(name, length)
        fleet.wait_healthy(self.servers[name], f"{self.servers[name].url}/health")

    def write(self, name: str, more: dict) -> None:
        backends = [{"name": n, "url": f"http://{a}", "profile": n} for n, a in self.addresses.items()]
        rollout = {
            "name": name, "pool": "p", "baseline": "before", "candidate": "after", "control": "before", "steps": ["50%"], "hardware_equal": True,
            "step": {"min_sessions": 3, "min_turns": 10, "min_time": "2s", "max_time": "1h"}, "never_worse": {"ttft": None}, **more,
        }
        document = {
            "listen": ["127.0.0.1:0"], "admin": {"addr": "127.0.0.1:0"}, "store": {"kind": "file", "path": str(self.state / "store.db")},
            "fleet": {"pools": [{"name": "p", "models": ["*"], "backends": backends}], "health": {"interval": "500ms", "slots_every": "1500ms"}},
            "guard": {"preset": "off"},
            "spec": {"profiles": {n: {"type": "draft-simple"} for n in LENGTHS}, "rollouts": [rollout]},
        }
        self.config, self.name = self.state / f"{name}.yaml", name
        self.config.write_text(json.dumps(document))

    def start_gateway(self) -> None:
        self.gateway = fleet.launch(self.state, f"drover-{time.monotonic_ns()}", [self.binary, "serve", "--config", str(self.config)])
        self.started.append(self.gateway)
        found = None

        def bound() -> bool:
            nonlocal found
            found = re.search(r'"listen":"([^"]+)","admin":"([^"]+)"', Path(self.gateway.log).read_text())
            return found is not None or not self.gateway.alive()

        fleet.wait_until(bound, fleet.START_TIMEOUT_S)
        if found is None:
            raise fleet.Failure(f"no addresses in the log:\n{fleet.tail(self.gateway.log)}")
        self.url, self.admin = f"http://{found[1]}", f"http://{found[2]}"
        fleet.wait_healthy(self.gateway, f"{self.admin}/readyz")

    def kill(self) -> None:
        os.kill(self.gateway.pid, signal.SIGKILL)
        fleet.wait_until(lambda: not self.gateway.alive(), 10)

    def ask(self, path: str, method: str = "GET") -> dict:
        request = urllib.request.Request(f"{self.admin}{path}", b"" if method == "POST" else None, method=method)
        with urllib.request.urlopen(request, timeout=10) as response:
            return json.load(response)

    def rollout(self) -> dict:
        return self.ask(f"/api/rollouts/{self.name}")

    def turn(self, session: int) -> str:
        """The backend that served it."""
        body = {"model": fleet.MODEL, "max_tokens": TOKENS, "messages": [{"role": "user", "content": f"Tell me a long story about ship {session}."}]}
        headers = {"Content-Type": "application/json", "x-session-id": f"agent-{session}"}
        request = urllib.request.Request(f"{self.url}/v1/chat/completions", json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request, timeout=120) as response:
            response.read()
            return response.headers["x-drover-backend"]

    def work(self, turns: int, until=lambda now: False) -> tuple[int, dict]:
        """Turns of many sessions, one at a time on each server; how many it took, and the rollout then."""
        sides: dict[str, list[int]] = {}
        for session in range(SESSIONS):
            sides.setdefault(self.turn(session), []).append(session)
        if len(sides) < 2:
            return SESSIONS, self.rollout()
        done, stop, failures = [SESSIONS], threading.Event(), []

        def agent(sessions: list[int]) -> None:
            n = 0
            while not stop.is_set() and done[0] < turns:
                try:
                    self.turn(sessions[n % len(sessions)])
                except OSError as error:
                    failures.append(error)
                    return
                n, done[0] = n + 1, done[0] + 1
                if until(self.rollout()):
                    stop.set()

        agents = [threading.Thread(target=agent, args=(sessions,)) for sessions in sides.values()]
        for thread in agents:
            thread.start()
        for thread in agents:
            thread.join()
        if failures:
            raise fleet.Failure(f"a turn failed: {failures[0]}")
        return done[0], self.rollout()


def over(now: dict) -> bool:
    return now["state"] in ("promoted", "rolled_back", "held", "aborted")


def expect(what: str, got, wanted) -> None:
    if got != wanted:
        raise fleet.Failure(f"{what}: {got!r}, not {wanted!r}")


def shown(now: dict) -> str:
    rows = [row for row in now["estimates"] if row["metric"] == "decode_tps"]
    row = max(rows, key=lambda row: row["candidate"][1], default=None)
    if row is None:
        return "nothing to compare"
    bounds = [f"{100 * row[end]:+.0f} %" if row[end] is not None else "?" for end in ("low", "high")]
    return f"{row['candidate'][0]:.1f} against {row['control'][0]:.1f} tokens/s, {bounds[0]} to {bounds[1]} in {row['class']}, {row['candidate'][1]} and {row['control'][1]} turns"


def killed_in_between(house: House) -> None:
    """What came of turns is written down every two seconds."""
    before = house.rollout()
    time.sleep(2.6)
    house.kill()
    house.start_gateway()
    after = house.rollout()
    expect("after kill -9", (after["state"], after["run"], after["step"]), (before["state"], before["run"], before["step"]))
    for side in ("candidate", "control"):
        if after[side]["turns"] < before[side]["turns"]:
            raise fleet.Failure(f"turns of the {side}: {after[side]['turns']} after kill -9, {before[side]['turns']} before")
    print(f"kill -9: still {after['state']}, with {after['candidate']['turns']} and {after['control']['turns']} turns")


def an_improvement_is_promoted(house: House) -> None:
    house.write("better", {})
    house.start_gateway()
    house.ask("/api/rollouts/better/start", "POST")
    house.work(SESSIONS + 2)
    killed_in_between(house)
    turns, now = house.work(MOST_TURNS, over)
    expect(f"after {turns} turns ({shown(now)}; {now['reason']})", now["state"], "promoted")
    print(f"promoted: {now['verdicts'][-1]['reason']}; {shown(now)}")
    expect("a session after it", {house.turn(n) for n in range(4)}, {"after"})
    house.kill()
    house.start_gateway()
    expect("after kill -9", house.rollout()["state"], "promoted")
    house.kill()


def a_drop_of_acceptance_rolls_back(house: House) -> None:
    house.write("drop", {"promote_when": {"decode_tps": "> +900%"}})
    house.start_gateway()
    house.ask("/api/rollouts/drop/start", "POST")
    house.work(SESSIONS + 12)
    expect("before the drop", house.rollout()["state"], "running")
    killed_in_between(house)
    house.restart_server("after", COLLAPSED)
    begun = time.monotonic()
    fleet.wait_until(lambda: all(b["available"] for b in house.ask("/api/backends")["backends"]), RESTARTS_S)
    turns, now = house.work(MOST_TURNS, over)
    expect(f"after {turns} turns ({shown(now)})", now["state"], "rolled_back")
    judged = now["verdicts"][-1]
    expect("verdict", judged["verdict"], "failed")
    print(f"rolled back after {time.monotonic() - begun:.0f} s by {[harm['trigger'] for harm in judged['harms']]}: {now['reason']}")
    expect("sessions after it", {house.turn(n) for n in range(SESSIONS)}, {"before"})
    house.kill()
    house.start_gateway()
    expect("after kill -9", house.rollout()["state"], "rolled_back")
    expect("sessions after kill -9", {house.turn(n) for n in range(SESSIONS)}, {"before"})
    house.kill()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gateway", required=True, help="the drover binary")
    binary = parser.parse_args().gateway
    with tempfile.TemporaryDirectory(prefix="drover-rollout.") as directory:
        house = None
        try:
            house = House(binary, Path(directory))
            for case in (an_improvement_is_promoted, a_drop_of_acceptance_rolls_back):
                begun = time.monotonic()
                case(house)
                print(f"{case.__name__} ... ok ({time.monotonic() - begun:.0f} s)")
        except fleet.Failure as failure:
            print(failure)
            return 1
        finally:
            if house:
                fleet.stop_all(house.started)
    return 0


if __name__ == "__main__":
    sys.exit(main())
