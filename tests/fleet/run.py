#!/usr/bin/env python3
"""Ways to reach a real llama-server other than one address for one model.

    run.py --gateway BIN      source the output of scripts/llama.sh first

The exit code is 1 when something is not as it should be.
"""

import argparse
import json
import os
import re
import sys
import tempfile
import urllib.request
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))
import llama_fleet as fleet  # noqa: E402


def start_llama(state: Path, name: str, args: list[str], started: list[fleet.Process]) -> None:
    argv = [os.environ["LLAMA_SERVER"], "-t", "1", "-c", "2048", "--metrics", "--slots", *args]
    started.append(fleet.launch(state, name, argv, env=fleet.LLAMA_ENV))


def start_gateway(binary: str, state: Path, pools: list[dict], started: list[fleet.Process]) -> tuple[str, str]:
    """The addresses for clients and for admins."""
    config = state / "drover.yaml"
    document = {"listen": ["127.0.0.1:0"], "admin": {"addr": "127.0.0.1:0"}, "fleet": {"pools": pools}}
    config.write_text(json.dumps(document))
    gateway = fleet.launch(state, "drover", [binary, "serve", "--config", str(config)])
    started.append(gateway)
    found = None

    def bound() -> bool:
        nonlocal found
        found = re.search(r'"listen":"([^"]+)","admin":"([^"]+)"', Path(gateway.log).read_text())
        return found is not None or not gateway.alive()

    fleet.wait_until(bound, fleet.START_TIMEOUT_S)
    if found is None:
        raise fleet.Failure(f"no addresses in the log:\n{fleet.tail(gateway.log)}")
    fleet.wait_healthy(gateway, f"http://{found[2]}/readyz")
    return f"http://{found[1]}", f"http://{found[2]}"


def get(url: str) -> dict:
    with urllib.request.urlopen(url, timeout=10) as response:
        return json.load(response)


def chat(url: str, model: str) -> tuple[str, int]:
    """The backend that answered, and how many pieces of text came."""
    body = {"model": model, "stream": True, "max_tokens": 16, "messages": [{"role": "user", "content": "Count to ten."}]}
    request = urllib.request.Request(f"{url}/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=120) as response:
        text = response.read().decode()
        if "data: [DONE]" not in text:
            raise fleet.Failure(f"the stream broke off: {text[-300:]}")
        return response.headers["x-drover-backend"], text.count('"content":"')


def unix_socket(binary: str, state: Path, started: list[fleet.Process]) -> None:
    path = state / "llama.sock"
    start_llama(state, "socket", ["--host", str(path), "-m", os.environ["MODEL_SMOLLM2"], "--alias", "smollm2", "-np", "2"], started)
    pools = [{"name": "p", "models": ["*"], "backends": [{"url": f"unix:{path}"}]}]
    url, admin = start_gateway(binary, state, pools, started)
    [backend] = get(f"{admin}/api/backends")["backends"]
    print(f"unix socket: {backend['id']} at {backend['address']}: {backend['state']}, {backend['total_slots']} slots, {backend['build']}")
    name, pieces = chat(url, "smollm2")
    if (backend["state"], backend["total_slots"], name) != ("ready", 2, "llama.sock") or pieces == 0:
        raise fleet.Failure(f"not as it should be: {backend}, {name}, {pieces} pieces")
    print(f"unix socket: {name} streamed {pieces} pieces")


CASES = (unix_socket,)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--gateway", required=True)
    binary = parser.parse_args().gateway
    failed = 0
    for case in CASES:
        with tempfile.TemporaryDirectory(prefix="drover-fleet.") as directory:
            started: list[fleet.Process] = []
            try:
                case(binary, Path(directory), started)
            except fleet.Failure as failure:
                print(f"{case.__name__}: {failure}")
                failed += 1
            finally:
                fleet.stop_all(started)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
