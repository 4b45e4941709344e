#!/usr/bin/env python3
"""`drover doctor` on real llama-servers: one as it should be, one started carelessly.

    run.py --gateway BIN      source the output of scripts/llama.sh first

The exit code is 1 when a finding is missing or surplus.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))
import llama_fleet as fleet  # noqa: E402

# Its slots are small, so that it starts fast.
SOUND = {"small_context"}
CARELESS = SOUND | {"no_metrics", "no_slots", "single_slot", "no_alias", "no_tool_support"}


def careless(state: Path) -> fleet.Process:
    argv = [os.environ["LLAMA_SERVER"], "--host", "127.0.0.1", "--port", "0", "-m", os.environ["MODEL_SMOLLM2"]]
    argv += ["-t", "1", "-c", "2048", "-np", "1", "--no-slots"]
    return fleet.launch(state, "careless", argv, env=fleet.LLAMA_ENV)


def diagnose(binary: str, state: Path, url: str) -> tuple[int, dict]:
    config = state / "drover.yaml"
    pool = {"name": "p", "models": ["*"], "backends": [{"name": "b", "url": url}]}
    config.write_text(json.dumps({"fleet": {"pools": [pool]}}))
    done = subprocess.run([binary, "doctor", "--config", str(config), "--json"], capture_output=True, timeout=60)
    return done.returncode, json.loads(done.stdout)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--gateway", required=True)
    binary = parser.parse_args().gateway
    wrong = 0
    with tempfile.TemporaryDirectory(prefix="drover-doctor.") as directory:
        state, started = Path(directory), []
        try:
            started.append(fleet.start_server(state, "sound", "0", "none", True))
            started.append(careless(state))
            for process in started:
                fleet.wait_listening(process)
            for process, expected in zip(started, (SOUND, CARELESS)):
                code, report = diagnose(binary, state, process.url)
                found = {finding["id"] for finding in report["findings"]}
                print(f"{process.name}: exit code {code}, {', '.join(sorted(found))}")
                severe = 2 if report["errors"] else 1 if report["warnings"] else 0
                if found != expected or code != severe:
                    print(f"  expected {', '.join(sorted(expected))}", json.dumps(report, indent=1))
                    wrong += 1
        finally:
            fleet.stop_all(started)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
