#!/usr/bin/env python3
"""`drover doctor` on real llama-servers: one as it should be, others started carelessly, and a router.

    run.py --gateway BIN      source the output of scripts/llama.sh first

The exit code is 1 when a finding is missing or surplus.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))
import llama_fleet as fleet  # noqa: E402

# All slots here are small, so that servers start fast.
SOUND = {"small_context"}
# A server by its name: its flags besides those all have, its backend's configuration, and what is to be found.
SERVERS: dict[str, tuple[list[str], dict, set[str]]] = {
    "careless": (["-np", "1", "--no-slots"], {}, {"no_metrics", "no_slots", "single_slot", "no_alias", "no_tool_support"}),
    "ngram-map": (
        ["-np", "2", "--alias", "a", "--metrics", "--chat-template-file", "TOOLS", "--spec-type", "ngram-map-k", "--context-shift"],
        {"profile": "ngram-map-k"},
        {"ngram_map"},
    ),
    "ngram-mod": (
        ["-np", "2", "--alias", "a", "--metrics", "--chat-template-file", "TOOLS", "--spec-type", "ngram-mod"],
        {"profile": "none"},
        # The second shows once a slot has worked.
        {"spec_unexpected", "shared_ngram_pool"},
    ),
    "draft-without-model": (
        ["-np", "2", "--alias", "a", "--metrics", "--chat-template-file", "TOOLS", "--spec-type", "draft-simple"],
        {"profile": "draft-simple", "slots": 4},
        {"spec_silently_off", "slot_count"},
    ),
    "default-slots": (
        ["--alias", "a", "--metrics", "--props", "--chat-template-file", "TOOLS"],
        {},
        {"kv_unknown", "props_writable"},
    ),
}
# Two backends in a pool: their servers, and what is to be found about the pool.
PAIRS = [(("ngram-mod", "draft-without-model"), set()), (("ngram-mod", "gemma"), {"mixed_models", "mixed_templates", "mixed_aliases"})]

PRESETS = """
[*]
threads = 1
parallel = 2
metrics = 1

[shift]
model = {smollm2}
ctx-size = 65536
spec-type = ngram-map-k
context-shift = 1

[shared]
model = {smollm2}
ctx-size = 65536
kv-unified = 1
ctx-checkpoints = 0

[broken]
model = /nowhere/model.gguf
ctx-size = 65536
"""


def start(state: Path, name: str, flags: list[str], model: str = "MODEL_SMOLLM2") -> fleet.Process:
    argv = [os.environ["LLAMA_SERVER"], "--host", "127.0.0.1", "--port", "0", "-m", os.environ[model]]
    tools = f"{os.environ['TEMPLATES']}/{fleet.TEMPLATES[fleet.MODEL]}"
    argv += ["-t", "1", "-c", "2048", *(tools if flag == "TOOLS" else flag for flag in flags)]
    return fleet.launch(state, name, argv, env=fleet.LLAMA_ENV)


def start_router(state: Path) -> fleet.Process:
    presets = state / "presets.ini"
    presets.write_text(PRESETS.format(smollm2=os.environ["MODEL_SMOLLM2"]))
    argv = [os.environ["LLAMA_SERVER"], "--host", "127.0.0.1", "--port", "0", "--models-preset", str(presets), "--models-max", "1"]
    return fleet.launch(state, "router", argv, env=fleet.LLAMA_ENV)


def diagnose(binary: str, state: Path, backends: list[dict]) -> tuple[int, dict]:
    config = state / "drover.yaml"
    pool = {"name": "p", "models": ["*"], "backends": backends}
    config.write_text(json.dumps({"fleet": {"pools": [pool]}}))
    done = subprocess.run([binary, "doctor", "--config", str(config), "--json"], capture_output=True, timeout=60)
    return done.returncode, json.loads(done.stdout)


class Check:
    """Counts what is not as expected."""

    def __init__(self, binary: str, state: Path):
        self.binary, self.state, self.wrong = binary, state, 0

    def expect(self, what: str, backends: list[dict], expected: set[str], only_of: str | None = None) -> None:
        code, report = diagnose(self.binary, self.state, backends)
        about = [f for f in report["findings"] if only_of != "pool" or f["backend"] is None]
        found = {finding["id"] for finding in about}
        print(f"{what}: exit code {code}, {', '.join(sorted(found)) or 'nothing'}")
        severe = 2 if report["errors"] else 1 if report["warnings"] else 0
        if found != expected or code != severe:
            print(f"  expected {', '.join(sorted(expected))}", json.dumps(report, indent=1))
            self.wrong += 1


def ask(url: str, model: str) -> None:
    """Has the server do something: slots tell how they speculate once they have."""
    body = {"model": model, "max_tokens": 2, "messages": [{"role": "user", "content": "hi"}]}
    request = urllib.request.Request(f"{url}/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            response.read()
    except urllib.error.HTTPError as error:
        error.read()


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--gateway", required=True)
    binary = parser.parse_args().gateway
    with tempfile.TemporaryDirectory(prefix="drover-doctor.") as directory:
        state, started = Path(directory), {}
        check = Check(binary, state)
        try:
            started["sound"] = fleet.start_server(state, "sound", "0", "none", True)
            for name, (flags, _, _) in SERVERS.items():
                started[name] = start(state, name, flags)
            tools = ["--alias", "gemma", "--metrics", "-np", "2"]
            started["gemma"] = start(state, "gemma", tools, "MODEL_GEMMA")
            started["router"] = start_router(state)
            for process in started.values():
                fleet.wait_listening(process)
            ask(started["ngram-mod"].url, "a")
            check.expect("sound", [{"name": "b", "url": started["sound"].url}], SOUND)
            for name, (_, configured, expected) in SERVERS.items():
                backend = {"name": "b", "url": started[name].url} | configured
                check.expect(name, [backend], SOUND | expected)
            for names, expected in PAIRS:
                backends = [{"name": name, "url": started[name].url} for name in names]
                check.expect(" beside ".join(names), backends, expected, only_of="pool")
            router = {"url": started["router"].url}
            twice = [router | {"name": "shift", "model": "shift"}, router | {"name": "broken", "model": "broken"}]
            both = {"model_unloaded", "router_too_small", "context_shift_with_ngram_map"}
            check.expect("models of a router", twice, both)
            ask(started["router"].url, "broken")
            check.expect("and one that failed to load", twice, both | {"model_failed"})
            shared = [router | {"name": "shared", "model": "shared"}]
            check.expect("one that shares its cache", shared, {"model_unloaded", "kv_auto_unified", "no_checkpoints"})
            unknown = {"unknown_preset"}
            check.expect("a model it does not have", [router | {"name": "b", "model": "nope"}], unknown)
            check.expect("a router by itself", [router | {"name": "b"}], {"router_without_model"})
        finally:
            fleet.stop_all(list(started.values()))
    return 1 if check.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
