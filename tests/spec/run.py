#!/usr/bin/env python3
"""Speculation by request on real llama-servers, one that speculates and one that does not.

    run.py --gateway BIN      source the output of scripts/llama.sh first

The exit code is 1 when something is not as it should be.
"""

import argparse
import json
import os
import re
import sys
import tempfile
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "tests" / "fleet"), str(ROOT / "tests" / "spec")]
import llama_fleet as fleet  # noqa: E402
from label import Label  # noqa: E402
from run import start_gateway  # noqa: E402

# SmolLM2 as its own draft, with a made-up acceptance: text without repetition is drafted too.
DRAFT = "draft-simple"
SYNTHETIC = ["--spec-type", DRAFT, "--spec-synth-len", "3"]
WORSE = ["--spec-type", DRAFT, "--spec-synth-len", "1.3"]
# What the gateway takes for a baseline, and what it needs at most to see an effect of this size.
BASELINE, AT_MOST = 22, 60
PATHS = ("/v1/chat/completions", "/v1/messages", "/v1/responses")
TURNS = 3


def start_llama(state: Path, name: str, more: list[str], started: list[fleet.Process]) -> fleet.Process:
    model = os.environ["MODEL_SMOLLM2"]
    argv = [os.environ["LLAMA_SERVER"], "--host", "127.0.0.1", "--port", "0", "-m", model, "--alias", fleet.MODEL]
    argv += ["-t", "1", "-c", "4096", "-np", "2", "--metrics", "--slots", *(["-md", model, *more] if more else [])]
    started.append(fleet.launch(state, name, argv, env=fleet.LLAMA_ENV))
    return started[-1]


def text(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as response:
        return response.read().decode()


def ask(url: str, path: str, spec: str, stream: bool, prompt: str = "Tell me a story about a river and a mill.", tokens: int = 48) -> tuple[dict, str]:
    """Headers and body of one answer."""
    said = [{"role": "user", "content": prompt}]
    body = {"model": fleet.MODEL, "stream": stream, "max_tokens": tokens, "input" if path.endswith("responses") else "messages": said}
    if path.endswith("responses"):
        body["max_output_tokens"] = body.pop("max_tokens")
    headers = {"Content-Type": "application/json", "x-drover-spec": spec}
    request = urllib.request.Request(url + path, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=120) as response:
        return dict(response.headers), response.read().decode()


def drafted(body: str) -> int:
    """Draft tokens that llama-server's timings in an answer tell of."""
    return max((int(n) for n in re.findall(r'"draft_n":\s*(\d+)', body)), default=0)


def series(exposition: str, name: str, labels: str = "") -> float:
    """The sum of a series over all label sets that have `labels`."""
    lines = re.findall(rf"^{re.escape(name)}(\{{[^}}]*\}})? ([0-9.e+]+)$", exposition, re.M)
    return sum(float(value) for have, value in lines if labels in have)


def expect(what: str, got, wanted) -> None:
    if got != wanted:
        raise fleet.Failure(f"{what}: {got!r}, not {wanted!r}")


def each_gets_what_it_asks_for(url: str) -> None:
    for path in PATHS:
        for stream in (True, False):
            headers, body = ask(url, path, "off", stream)
            expect(f"off, {path}", (headers["x-drover-spec"], headers["x-drover-backend"], drafted(body)), ("none", "plain", 0))
            headers, _ = ask(url, path, DRAFT, stream)
            expect(f"{DRAFT}, {path}", (headers["x-drover-spec"], headers["x-drover-backend"]), (DRAFT, "drafts"))
    _, body = ask(url, PATHS[0], DRAFT, False)
    if drafted(body) == 0:
        raise fleet.Failure(f"nothing was drafted: {body[-400:]}")
    print(f"off: no drafts on {len(PATHS)} APIs; {DRAFT}: {drafted(body)} tokens drafted in one answer")


def totals_are_the_servers(url: str, admin: str, server: fleet.Process) -> None:
    for n in range(TURNS):
        ask(url, PATHS[n % len(PATHS)], DRAFT, True)
    time.sleep(0.5)
    ours, theirs = text(f"{admin}/metrics"), text(f"{server.url}/metrics")
    of = f'profile="{DRAFT}"'
    pairs = {
        "drafted": (series(ours, "drover_spec_tokens_total", f'kind="drafted",pool="p",{of}'), "num_draft_tokens_total"),
        "accepted": (series(ours, "drover_spec_tokens_total", f'kind="accepted",pool="p",{of}'), "num_accepted_tokens_total"),
        "verified drafts": (series(ours, "drover_spec_verify_steps_total", of), "num_drafts_total"),
    }
    for what, (counted, name) in pairs.items():
        said = series(theirs, f"llamacpp:spec_decode_{name}")
        expect(what, counted, said)
        print(f"{what}: {counted:.0f}, as the server's own {name}")
    rows = json.loads(text(f"{admin}/api/spec"))["strata"]
    row = next(r for r in rows if r["profile"] == DRAFT)
    print(f"accept length {row['accept_length']:.2f}, {row['decode_tokens_per_second']:.0f} tokens/s, build {row['build']}, class {row['class']}")
    expect("findings", json.loads(text(f"{admin}/api/spec/findings"))["findings"], [])


def positions_are_the_servers(admin: str, server: fleet.Process) -> None:
    def read() -> bool:
        return series(text(f"{admin}/metrics"), "drover_backend_spec_drafts") == series(text(f"{server.url}/metrics"), "llamacpp:spec_decode_num_drafts_total")

    if not fleet.wait_until(read, 30):
        raise fleet.Failure("the counts of the server were not read")
    view = next(b for b in json.loads(text(f"{admin}/api/spec"))["backends"] if b["backend"] == "drafts")
    said = series(text(f"{server.url}/metrics"), "llamacpp:spec_decode_num_accepted_tokens_per_pos_total", 'position="0"')
    expect("accepted at the first position", float(view["drafts"]["at_position"][0]), said)
    print(f"held by position: {[round(share, 2) for share in view['acceptance_by_position']]}")


def without_a_plain_one_it_is_served_and_said(url: str, admin: str) -> None:
    urllib.request.urlopen(urllib.request.Request(f"{admin}/api/backends/plain/drain", b"", method="POST"), timeout=10).close()
    headers, body = ask(url, PATHS[0], "off", False)
    expect("off without a plain backend", (headers["x-drover-spec"], headers["x-drover-backend"]), (DRAFT, "drafts"))
    if drafted(body) == 0:
        raise fleet.Failure("this build honours `speculative.n_max: 0`: docs/speculative.md is no longer right")
    expect("unavailable", series(text(f"{admin}/metrics"), "drover_spec_unavailable_total", 'reason="no_backend"'), 1)
    print("off without a plain backend: served, said and counted")


def rounds(url: str, count: int) -> None:
    """One turn on each of two backends at the same time, so often."""
    with ThreadPoolExecutor(2) as pool:
        for n in range(count):
            list(pool.map(lambda side: ask(url, PATHS[0], "auto", True, f"Story number {n}, told by {side}", 20), ("Ann", "Ben")))


def findings(admin: str) -> list[dict]:
    return json.loads(text(f"{admin}/api/spec/findings"))["findings"]


def a_worse_build_is_found_and_named(binary: str, state: Path, started: list[fleet.Process]) -> None:
    """One of two equal backends comes back under another build number and accepts less."""
    servers = [start_llama(state, name, SYNTHETIC, started) for name in ("changes", "stays")]
    for server in servers:
        fleet.wait_listening(server)
    label = Label(servers[0].url, "b11434-first")
    backends = [{"name": "changes", "url": label.url, "profile": DRAFT}, {"name": "stays", "url": servers[1].url, "profile": DRAFT}]
    url, admin = start_gateway(binary, state, [{"name": "p", "models": ["*"], "backends": backends}], started)
    began = time.monotonic()
    rounds(url, BASELINE)
    expect("findings before", findings(admin), [])
    servers[0].stop(fleet.SERVER_STOP_TIMEOUT_S)
    worse = start_llama(state, "worse", WORSE, started)
    fleet.wait_listening(worse)
    label.points_at(worse.url, "b11435-worse")
    if not fleet.wait_until(lambda: "b11435-worse" in text(f"{admin}/api/backends"), 30):
        raise fleet.Failure("the other build was not seen")
    taken = 0
    while not (found := [f for f in findings(admin) if f["signature"] == "acceptance_collapse"]):
        if taken >= AT_MOST:
            raise fleet.Failure(f"nothing was found in {taken} turns: {text(f'{admin}/api/spec')}")
        rounds(url, 2)
        taken += 2
    [finding] = found[:1]
    expect("found at", (finding["place"]["backend"], finding["place"]["build"]), ("changes", "b11435-worse"))
    expect("compared with", finding["before"]["build"], "b11434-first")
    blames = [(b["dimension"], b["value"], round(b["share"], 2)) for b in finding["blames"]]
    expect("explained by", blames[0][:2], ("build", "b11435-worse"))
    print(f"acceptance collapse: found after {taken} turns, {time.monotonic() - began:.0f} s; {finding['evidence']}; explained by {blames[:3]}")
    changed = next(e for e in json.loads(text(f"{admin}/api/spec"))["timeline"] if e["backend"] == "changes")
    expect("timeline", [c["to"] for c in changed["changes"] if c["what"] == "build"], ["b11435-worse"])
    label.stop()


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--gateway", required=True)
    binary = parser.parse_args().gateway
    for case in (control, a_worse_build_is_found_and_named):
        with tempfile.TemporaryDirectory(prefix="drover-spec.") as directory:
            started: list[fleet.Process] = []
            try:
                case(binary, Path(directory), started)
            except fleet.Failure as failure:
                print(failure)
                return 1
            finally:
                fleet.stop_all(started)
    return 0


def control(binary: str, state: Path, started: list[fleet.Process]) -> None:
    servers = [start_llama(state, "drafts", SYNTHETIC, started), start_llama(state, "plain", [], started)]
    for server in servers:
        fleet.wait_listening(server)
    backends = [{"name": s.name, "url": s.url, "profile": p} for s, p in zip(servers, (DRAFT, "none"))]
    url, admin = start_gateway(binary, state, [{"name": "p", "models": ["*"], "backends": backends}], started)
    each_gets_what_it_asks_for(url)
    totals_are_the_servers(url, admin, servers[0])
    positions_are_the_servers(admin, servers[0])
    without_a_plain_one_it_is_served_and_said(url, admin)


if __name__ == "__main__":
    sys.exit(main())
