#!/usr/bin/env python3
"""Starts real llama-servers, and a gateway in front of them, on free loopback ports; stops them by pid.

    llama_fleet.py up --state DIR            start servers in the background and return when they are healthy
    llama_fleet.py down --state DIR          stop what `up` started
    llama_fleet.py run [--gateway BIN] -- COMMAND...
                                             servers and gateway for as long as the command runs; it finds them in
                                             DROVER_URL, DROVER_ADMIN_URL, DROVER_BACKENDS and DROVER_MODEL, and
                                             behind a gateway one more, with a strict chat template, under the name
                                             in DROVER_STRICT_MODEL
                                             (without --gateway, DROVER_URL is the first server itself)
    llama_fleet.py demo --gateway BIN        the same in the foreground, until Ctrl-C

Server, model and template come from scripts/llama.sh through the environment. Standard library only.
"""

import argparse
import contextlib
import ctypes
import itertools
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

MODEL = "smollm2"
# The same model under a template that takes a system message at the beginning only.
STRICT_MODEL = "smollm2-strict"
TEMPLATES = {MODEL: "NousResearch-Hermes-2-Pro-Llama-3-8B-tool_use.jinja", STRICT_MODEL: "Qwen3.5-4B.jinja"}
# What the servers run with, in turn: the spec profile in the gateway's configuration, and the flags for it.
PROFILES = {"none": [], "ngram-mod": ["--spec-type", "ngram-mod"]}
# Threads that wait must not spin: the machine is shared.
LLAMA_ENV = {"OMP_WAIT_POLICY": "passive"}
START_TIMEOUT_S = 120
GATEWAY_STOP_TIMEOUT_S = 15
# llama-server does not exit on SIGTERM while a non-streamed request is in flight.
SERVER_STOP_TIMEOUT_S = 3
PR_SET_PDEATHSIG = 1


class Failure(Exception):
    """Something that the user must see, with nothing to add."""


@dataclass
class Process:
    """A started program: how to reach it, how to find it again, where it logs."""

    name: str
    pid: int
    started: str
    url: str
    log: str
    profile: str = "none"
    model: str = MODEL

    def alive(self) -> bool:
        return start_time(self.pid) == self.started

    def stop(self, timeout_s: float) -> None:
        """SIGTERM, then SIGKILL after the timeout. A pid that now belongs to another process is left alone."""
        for sig, wait_s in ((signal.SIGTERM, timeout_s), (signal.SIGKILL, 5)):
            if not self.alive():
                return
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, sig)
            wait_until(lambda: not self.alive(), wait_s)


def start_time(pid: int) -> str | None:
    """The start time of a live process in clock ticks since boot (proc_pid_stat(5), field 22); None when it is gone."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else fields[19]


def wait_until(condition, timeout_s: float, every_s: float = 0.05) -> bool:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(every_s)
    return True


def spawn(argv: list[str], log: Path, env: dict[str, str], dies_with_us: bool) -> int:
    """Starts a program in its own session, so that a Ctrl-C reaches only this script, which then stops things in order."""

    def follow_parent() -> None:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)

    with open(log, "wb") as out:
        return subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=os.environ | env,
            start_new_session=True,
            preexec_fn=follow_parent if dies_with_us else None,
        ).pid


def launch(state: Path, name: str, argv: list[str], url: str = "", *, env: dict[str, str] | None = None, dies_with_us: bool = True) -> Process:
    """Starts a program that logs to `state`, to be reached at `url` where that is known."""
    log = state / f"{name}.log"
    pid = spawn(argv, log, env or {}, dies_with_us)
    return Process(name, pid, start_time(pid) or "", url, str(log))


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return response.status == 200
    except (OSError, urllib.error.URLError):
        return False


def tail(log: str, lines: int = 30) -> str:
    return "\n".join(Path(log).read_text(errors="replace").splitlines()[-lines:])


def wait_healthy(process: Process, url: str) -> None:
    wait_until(lambda: answers(url) or not process.alive(), START_TIMEOUT_S)
    if not process.alive() or not answers(url):
        raise Failure(f"{process.name} did not become ready; the end of its log:\n{tail(process.log)}")


def start_server(
    state: Path, name: str, port: str, profile: str, dies_with_us: bool, alias: str = MODEL, more: list[str] | None = None
) -> Process:
    """Starts one server on a port, `0` for one that the kernel picks; `wait_listening` tells which, and that it is ready."""
    try:
        server, model, templates = (os.environ[k] for k in ("LLAMA_SERVER", "MODEL_SMOLLM2", "TEMPLATES"))
    except KeyError as missing:
        raise Failure(f"{missing} is not set: source the output of scripts/llama.sh") from None
    argv = [server, "--host", "127.0.0.1", "--port", port, "-m", model, "--alias", alias, "--chat-template-file", f"{templates}/{TEMPLATES[alias]}"]
    # Two slots of 4096 tokens. One thread each: more only fight over a small machine.
    argv += ["-t", "1", "-c", "8192", "-np", "2", "--cache-ram", "256", "--metrics", "--slots", *PROFILES[profile], *(more or [])]
    process = launch(state, name, argv, env=LLAMA_ENV, dies_with_us=dies_with_us)
    process.profile, process.model = profile, alias
    return process


def wait_listening(process: Process) -> None:
    listening = re.compile(rb"listening on (http://127\.0\.0\.1:\d+)")
    match = None

    def bound() -> bool:
        nonlocal match
        match = listening.search(Path(process.log).read_bytes())
        return match is not None or not process.alive()

    wait_until(bound, START_TIMEOUT_S)
    if match is None:
        raise Failure(f"{process.name} did not start; the end of its log:\n{tail(process.log)}")
    process.url = match[1].decode()
    wait_healthy(process, f"{process.url}/health")


def start_servers(state: Path, count: int, dies_with_us: bool, started: list[Process]) -> None:
    """Starts the servers together, each on a port that the kernel picks, and waits for their /health."""
    profiles = itertools.cycle(PROFILES)
    for index in range(count):
        started.append(start_server(state, f"llama{index}", "0", next(profiles), dies_with_us))
    for process in started[-count:]:
        wait_listening(process)


def free_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def configuration(listen: str, admin: str, servers: list[Process]) -> dict:
    pools = []
    for model, name in ((MODEL, "default"), (STRICT_MODEL, "strict")):
        backends = [{"name": s.name, "url": s.url, "profile": s.profile} for s in servers if s.model == model]
        if backends:
            pools.append({"name": name, "models": [model], "backends": backends})
    return {
        "listen": [listen],
        "admin": {"addr": admin},
        "fleet": {"pools": pools},
        # What tests/sdk measures the effect of; the prompts of other tests have no clock.
        "guard": {"context": {"volatile": {"builtin": ["billing_header", "time_of_day"]}}},
    }


def start_gateway(binary: str, listen: str, admin: str, state: Path, servers: list[Process], started: list[Process]) -> Process:
    config = state / "drover.yaml"
    # Every JSON document is a YAML document.
    config.write_text(json.dumps(configuration(listen, admin, servers), indent=2) + "\n")
    gateway = launch(state, "drover", [binary, "serve", "--config", str(config)], f"http://{listen}")
    started.append(gateway)
    wait_healthy(gateway, f"http://{admin}/readyz")
    return gateway


def stop_all(started: list[Process]) -> None:
    """In reverse order, the gateway first: it lets its streams finish while the servers still run."""
    for process in reversed(started):
        process.stop(GATEWAY_STOP_TIMEOUT_S if process.name == "drover" else SERVER_STOP_TIMEOUT_S)


def up(args) -> int:
    state = Path(args.state)
    state.mkdir(parents=True, exist_ok=True)
    if (state / "fleet.json").exists():
        raise Failure(f"{state} already holds a fleet: stop it first with `down`")
    started: list[Process] = []
    try:
        start_servers(state, args.count, False, started)
    except BaseException:
        stop_all(started)
        raise
    (state / "fleet.json").write_text(json.dumps([vars(p) for p in started], indent=2) + "\n")
    print("\n".join(p.url for p in started))
    return 0


def down(args) -> int:
    file = Path(args.state) / "fleet.json"
    if file.exists():
        stop_all([Process(**fields) for fields in json.loads(file.read_text())])
        file.unlink()
    return 0


@contextlib.contextmanager
def fleet(args, listen: str, admin: str, strict: bool = False):
    """The servers and, when there is one, the gateway; all gone at the end. The logs stay after a failure only."""
    state = Path(tempfile.mkdtemp(prefix="drover-fleet."))
    started: list[Process] = []
    try:
        start_servers(state, args.count, True, started)
        if strict:
            started.append(start_server(state, "llama-strict", "0", "none", True, STRICT_MODEL))
            wait_listening(started[-1])
        servers = list(started)
        gateway = start_gateway(args.gateway, listen, admin, state, servers, started) if args.gateway else None
        yield servers, gateway, state
    except Failure:
        print(f"The logs are in {state}", file=sys.stderr)
        raise
    except BaseException:
        shutil.rmtree(state, ignore_errors=True)
        raise
    else:
        shutil.rmtree(state, ignore_errors=True)
    finally:
        stop_all(started)


def run(args) -> int:
    listen, admin = free_address(), free_address()
    with fleet(args, listen, admin, strict=bool(args.gateway)) as (servers, gateway, state):
        backends = ",".join(s.url for s in servers if s.model == MODEL)
        env = {"DROVER_MODEL": MODEL, "DROVER_BACKENDS": backends}
        env["DROVER_URL"] = gateway.url if gateway else servers[0].url
        if gateway:
            env["DROVER_ADMIN_URL"] = f"http://{admin}"
            env["DROVER_STRICT_MODEL"] = STRICT_MODEL
        code = subprocess.run(args.command, env=os.environ | env, stdin=subprocess.DEVNULL, check=False).returncode
        if code != 0:
            for process in [*servers, *([gateway] if gateway else [])]:
                state_now = "running" if process.alive() else "NOT RUNNING"
                print(f"\n---- {process.name} ({state_now}), the end of its log\n{tail(process.log)}", file=sys.stderr)
            raise Failure(f"{args.command[0]} failed with exit code {code}")
        return 0


def demo(args) -> int:
    with fleet(args, args.listen, args.admin) as (servers, gateway, state):
        body = json.dumps({"model": MODEL, "stream": True, "messages": [{"role": "user", "content": "Say hello."}]})
        print(f"\nGateway on {gateway.url}, in front of two real llama-servers:")
        for server in servers:
            print(f"  {server.name}  {server.url}  speculative profile {server.profile}")
        print(f"\nTry it:\n\n  curl -N {gateway.url}/v1/chat/completions -H 'content-type: application/json' -d '{body}'\n")
        print(f"Then look:\n\n  curl http://{args.admin}/api/backends\n  curl http://{args.admin}/metrics\n\nLogs are in {state}.")
        print("Ctrl-C stops everything.", flush=True)
        while all(p.alive() for p in [gateway, *servers]):
            time.sleep(0.5)
        for process in [gateway, *servers]:
            if not process.alive():
                raise Failure(f"{process.name} stopped by itself; the end of its log:\n{tail(process.log)}")
        return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    for name, handler in (("up", up), ("down", down), ("run", run), ("demo", demo)):
        sub = commands.add_parser(name)
        sub.set_defaults(handler=handler)
        if name != "down":
            sub.add_argument("--count", type=int, default=2, help="how many llama-servers")
        if name in ("up", "down"):
            sub.add_argument("--state", required=True, help="directory for logs and fleet.json (pids and addresses)")
        else:
            sub.add_argument("--gateway", required=name == "demo", help="the drover binary")
        if name == "demo":
            sub.add_argument("--listen", default="127.0.0.1:8080")
            sub.add_argument("--admin", default="127.0.0.1:9090")
        if name == "run":
            sub.add_argument("command", nargs="+")
    args = parser.parse_args()

    # SIGTERM ends a `run` or a `demo` the same way as Ctrl-C: through the clean-up.
    def interrupted(*_):
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupted)
    # A background job of a shell without job control starts with SIGINT ignored.
    signal.signal(signal.SIGINT, interrupted)
    try:
        return args.handler(args)
    except Failure as failure:
        print(f"error: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
