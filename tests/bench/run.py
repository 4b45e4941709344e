#!/usr/bin/env python3
"""Speculative profiles side by side on real llama-servers, and what the documentation says of this build's flags.

    run.py --gateway BIN [--update] [--out DIR] [-- ARGUMENTS OF drover bench spec...]

Source the output of scripts/llama.sh first. Without further arguments it is the short form: one turn each, to see that
every profile starts, speculates, and is counted by the gateway as by its server. `--update` writes the list of flags that
the documentation is checked against. The exit code is 1 when something is not as it should be.
"""

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FLAGS = ROOT / "tests" / "fixtures" / "spec" / "llama-server-flags.txt"
PROFILES = ["none", "ngram-mod", "ngram-simple", "ngram-map-k", "ngram-map-k4v", "ngram-cache", "draft-simple"]
SHORT = ["--workload", "repetitive,prose", "--runs", "1", "--warmup", "0", "--max-tokens", "32"]
# One thread each: more only fight over a small machine. The template is the one that the other tests use.
SERVER = ["-t", "1", "-c", "4096", "--no-warmup"]


def listed(text: str) -> list[str]:
    """Flags of a help text that have not been removed, and the types of speculation."""
    flags, types, removed, names = set(), [], set(), []
    for line in text.splitlines():
        if line.startswith("-") and not line.startswith("---"):
            names = [word.rstrip(",") for word in itertools.takewhile(lambda word: word.startswith("-"), line.split())]
            flags.update(names)
        if "argument has been removed" in line:
            removed.update(names)
        if line.startswith("--spec-type "):
            types = line.split()[1].split(",")
    return sorted(flags - removed) + [f"type {name}" for name in types]


def flags_are_as_documented(update: bool) -> list[str]:
    told = subprocess.run([os.environ["LLAMA_SERVER"], "--help"], capture_output=True, text=True, check=True).stdout
    now = listed(told)
    if update:
        FLAGS.write_text("\n".join(now) + "\n")
    then = FLAGS.read_text().splitlines()
    print(f"{len(now)} flags and types of this llama-server, {len(set(now) ^ set(then))} not as listed")
    return [f"{name}: {'not listed' if name in now else 'listed, and gone'}" for name in sorted(set(now) ^ set(then))]


def side_by_side(gateway: str, out: Path, arguments: list[str]) -> list[str]:
    model, template = os.environ["MODEL_SMOLLM2"], os.environ["TEMPLATES"] + "/NousResearch-Hermes-2-Pro-Llama-3-8B-tool_use.jinja"
    command = [gateway, "bench", "spec", "--server", os.environ["LLAMA_SERVER"], "--model", model, "--draft-model", model]
    command += [f"--server-arg={a}" for a in [*SERVER, "--chat-template-file", template]]
    command += [part for name in PROFILES for part in ("--profile", name)]
    command += ["--check-totals", "--out", str(out), *(arguments or SHORT)]
    # Threads that wait must not spin: the machine is shared.
    code = subprocess.run(command, env=os.environ | {"OMP_WAIT_POLICY": "passive"}, check=False).returncode
    if code != 0:
        return [f"drover bench spec ended with {code}"]
    artifact = json.loads((out / "artifact.json").read_text())
    wrong = []
    for contestant in artifact["contestants"]:
        name, totals = contestant["name"], contestant["totals"]
        if contestant["speculates"] is not (name != "none"):
            wrong.append(f"{name}: its slots say speculative={contestant['speculates']}")
        if name == "draft-simple" and totals["server"]["drafted"] == 0:
            wrong.append(f"{name} has drafted nothing")
        failed = sum(cell["summary"]["stops"].get("failed", 0) for cell in contestant["cells"])
        if failed:
            wrong.append(f"{name}: {failed} turns failed")
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--gateway", required=True)
    parser.add_argument("--update", action="store_true")
    parser.add_argument("--out")
    parser.add_argument("arguments", nargs="*")
    args = parser.parse_args()
    wrong = flags_are_as_documented(args.update)
    with tempfile.TemporaryDirectory(prefix="drover-bench.") as directory:
        wrong += side_by_side(args.gateway, Path(args.out or directory), args.arguments)
    for line in wrong:
        print(line)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
