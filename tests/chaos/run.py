#!/usr/bin/env python3
"""What happens when parts of a running fleet go away: a backend is killed, a client leaves.

    run.py --gateway BIN                 on two simulated servers
    run.py --gateway BIN --llama         on two real ones (source the output of scripts/llama.sh first)
                     [--requests N] [--at-once N] [--leave N] [--only-leave]

The second form first shows that a server goes on with the beginning of an answer, which resuming rests on.

Prints figures; the exit code is 1 when something did not hold.
"""

import argparse
import asyncio
import contextlib
import json
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))
import client_gone  # noqa: E402
import continues  # noqa: E402
import kill_backend  # noqa: E402
import llama_fleet as fleet  # noqa: E402

# About a second an answer, a fifth of it before the first token.
SIM = ["--alias", fleet.MODEL, "--slots", "16", "--prefill-tps", "150", "--decode-tps", "80"]
STORY = "".join(f"and so on {number}, " for number in range(20))
SIM_ANSWER = [{"script": {"steps": [{"text": STORY}], "repeat": True}}]


@contextlib.contextmanager
def processes():
    """A directory for logs, and a list of what to stop at the end."""
    started: list[fleet.Process] = []
    with tempfile.TemporaryDirectory(prefix="drover-chaos.") as state:
        try:
            yield Path(state), started
        except fleet.Failure:
            for process in started:
                print(f"---- {process.name}\n{fleet.tail(process.log)}", file=sys.stderr)
            raise
        finally:
            fleet.stop_all(started)


def start_sim(binary: str, state: Path, name: str, address: str, started: list) -> fleet.Process:
    rules = state / "rules.json"
    rules.write_text(json.dumps(SIM_ANSWER))
    argv = [binary, "sim", "--listen", address, "--name", name, "--rules", str(rules), *SIM]
    process = fleet.launch(state, name, argv, f"http://{address}")
    started.append(process)
    fleet.wait_healthy(process, f"{process.url}/health")
    return process


def gateway(args, state: Path, servers: list, started: list) -> tuple[fleet.Process, str]:
    listen, admin = fleet.free_address(), fleet.free_address()
    return fleet.start_gateway(args.gateway, listen, admin, state, servers, started), f"http://{admin}"


def on_sims(args) -> list[str]:
    with processes() as (state, started):
        sims = [start_sim(args.gateway, state, f"sim{i}", fleet.free_address(), started) for i in range(2)]

        def restart(dead):
            return start_sim(args.gateway, state, dead.name, dead.url.removeprefix("http://"), started)

        front, admin = gateway(args, state, sims, started)
        load = {"requests": args.requests, "at_once": args.at_once, "body": {"model": fleet.MODEL}, "text": STORY}
        wrong = kill_backend.run(front.url, admin, sims, restart, **load)
    with processes() as (state, started):

        def before(url):
            scripted = fleet.Process("scripted", 0, "", url, "")
            return gateway(args, state, [scripted], started)[0]

        return wrong + asyncio.run(client_gone.against_script(before, fleet.MODEL, times=20))


def leaving_llama(args) -> list[str]:
    """One server that reads prompts in small steps, so that there is something to measure on a CPU."""
    with processes() as (state, started):
        batch = str(client_gone.BATCH)
        server = fleet.start_server(state, "llama", "0", "none", True, more=["-b", batch, "-ub", batch])
        started.append(server)
        fleet.wait_listening(server)
        front, _ = gateway(args, state, [server], started)
        return asyncio.run(client_gone.slots_idle(front.url, [server], fleet.MODEL, args.leave, max(args.leave // 5, 1)))


def on_llama(args) -> list[str]:
    wrong = leaving_llama(args)
    if args.only_leave:
        return wrong
    with processes() as (state, started):
        fleet.start_servers(state, 2, True, started)
        servers = list(started)
        front, admin = gateway(args, state, servers, started)
        wrong += asyncio.run(continues.check(servers[0].url))

        def restart(dead):
            server = fleet.start_server(state, dead.name, dead.url.rpartition(":")[2], dead.profile, True)
            started.append(server)
            fleet.wait_listening(server)
            return server

        body = {"model": fleet.MODEL, "max_tokens": 32, "temperature": 0.8}
        load = {"requests": args.requests, "at_once": args.at_once, "body": body}
        return wrong + kill_backend.run(front.url, admin, servers, restart, **load)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gateway", required=True, help="the drover binary")
    parser.add_argument("--llama", action="store_true", help="on real llama-servers")
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--at-once", type=int, default=16)
    parser.add_argument("--leave", type=int, default=100, help="clients that leave a real server's stream")
    parser.add_argument("--only-leave", action="store_true", help="with --llama: nothing but that")
    args = parser.parse_args()
    try:
        wrong = on_llama(args) if args.llama else on_sims(args)
    except fleet.Failure as failure:
        wrong = [str(failure)]
    for line in wrong:
        print(f"error: {line}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
