#!/usr/bin/env python3
"""Ways to reach a real llama-server other than one address for one model.

    run.py --gateway BIN      source the output of scripts/llama.sh first

The exit code is 1 when something is not as it should be.
"""

import argparse
import json
import os
import re
import signal
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))
import kv_unified  # noqa: E402
import llama_fleet as fleet  # noqa: E402


def start_llama(state: Path, name: str, args: list[str], started: list[fleet.Process]) -> None:
    argv = [os.environ["LLAMA_SERVER"], "-t", "1", "-c", "2048", "--metrics", "--slots", *args]
    started.append(fleet.launch(state, name, argv, env=fleet.LLAMA_ENV))


def start_gateway(binary: str, state: Path, pools: list[dict], started: list[fleet.Process], *, fleet_options: dict | None = None) -> tuple[str, str]:
    """The addresses for clients and for admins."""
    config = state / "drover.yaml"
    document = {"listen": ["127.0.0.1:0"], "admin": {"addr": "127.0.0.1:0"}, "fleet": {"pools": pools} | (fleet_options or {})}
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


def chat(url: str, model: str, headers: dict[str, str] | None = None) -> tuple[str, int]:
    """The backend that answered, and how many pieces of text came."""
    body = {"model": model, "stream": True, "max_tokens": 16, "messages": [{"role": "user", "content": "Count to ten."}]}
    request = urllib.request.Request(f"{url}/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"} | (headers or {}))
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


def one_cache(binary: str, state: Path, started: list[fleet.Process]) -> None:
    def start(state: Path, name: str, args: list[str], started: list[fleet.Process]) -> None:
        start_llama(state, name, [*args, "-m", os.environ["MODEL_SMOLLM2"], "--alias", "smollm2"], started)

    kv_unified.run(binary, state, started, start, start_gateway)


PRESETS = """
[*]
threads = 1
parallel = 2
ctx-size = 2048
metrics = 1

[smol]
model = {smollm2}
sleep-idle-seconds = 4

[smol-ngram]
model = {smollm2}
spec-type = ngram-mod

[gemma]
model = {gemma}

[broken]
model = /nowhere/model.gguf
"""


def start_router(state: Path, most: int, started: list[fleet.Process]) -> fleet.Process:
    presets = state / "presets.ini"
    presets.write_text(PRESETS.format(smollm2=os.environ["MODEL_SMOLLM2"], gemma=os.environ["MODEL_GEMMA"]))
    argv = [os.environ["LLAMA_SERVER"], "--host", "127.0.0.1", "--port", "0"]
    argv += ["--models-preset", str(presets), "--models-max", str(most)]
    router = fleet.launch(state, "router", argv, env=fleet.LLAMA_ENV)
    started.append(router)
    fleet.wait_listening(router)
    return router


def stands(router: fleet.Process) -> dict[str, str]:
    """How its models stand, as the router itself says."""
    return {model["id"]: model["status"]["value"] for model in get(f"{router.url}/v1/models")["data"]}


def becomes(admin: str, backend: str, wanted: dict) -> dict:
    """Waits until what `/api/backends` says of the backend is so."""
    found = {}

    def so() -> bool:
        listed = get(f"{admin}/api/backends")["backends"]
        found.update(next(b for b in listed if b["id"] == backend))
        return all(found[key] == value for key, value in wanted.items())

    if not fleet.wait_until(so, 60):
        raise fleet.Failure(f"{backend} does not become {wanted}: {found}")
    return found


def refused(url: str, path: str, body: dict) -> tuple[int, str]:
    """Status and body of an answer that is an error."""
    request = urllib.request.Request(url + path, json.dumps(body).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def expect(what: str, found, wanted) -> None:
    if found != wanted:
        raise fleet.Failure(f"{what}: {found!r}, not {wanted!r}")
    print(f"router: {what}: {found}")


def models_of_a_router(binary: str, state: Path, started: list[fleet.Process]) -> None:
    """Two profiles of one model and another model behind one address; one that cannot be loaded, and one unknown."""
    router = start_router(state, 3, started)

    def backend(model: str, profile: str | None = None) -> dict:
        return {"name": f"b-{model}", "url": router.url, "model": model, "profile": profile}

    pools = [
        {"name": "smol", "models": ["smol"], "backends": [backend("smol", "none"), backend("smol-ngram", "ngram-mod")]},
        {"name": "gemma", "models": ["gemma-3"], "backends": [backend("gemma")]},
        {"name": "broken", "models": ["broken"], "backends": [backend("broken")]},
        {"name": "nope", "models": ["nope"], "backends": [backend("nope")]},
    ]
    url, admin = start_gateway(binary, state, pools, started)
    for name in ("smol", "smol-ngram", "gemma"):
        shown = becomes(admin, f"b-{name}", {"preset": "unloaded", "state": "ready", "total_slots": 2, "n_ctx": 1024})
        expect(f"{name}'s build before it is loaded", shown["build"], get(f"{router.url}/props")["build_info"])
    time.sleep(6)
    expect("after several checks", set(stands(router).values()), {"unloaded"})
    expect("a model it does not have", becomes(admin, "b-nope", {"state": "down"})["trouble"], "its router knows no model of the name in `model`")

    name, pieces = chat(url, "gemma-3")
    expect("who answers for gemma-3", (name, pieces > 0), ("b-gemma", True))
    becomes(admin, "b-gemma", {"preset": "loaded"})
    expect("only that one is loaded", [m for m, s in stands(router).items() if s != "unloaded"], ["gemma"])
    for spec, wanted in (("off", "b-smol"), ("ngram-mod", "b-smol-ngram")):
        name, pieces = chat(url, "smol", {"x-drover-spec": spec})
        expect(f"x-drover-spec: {spec}", name, wanted)
    becomes(admin, "b-smol-ngram", {"preset": "loaded", "speculative": True})
    becomes(admin, "b-smol", {"speculative": False})
    expect("models for clients", sorted(m["id"] for m in get(f"{url}/v1/models")["data"]), ["broken", "gemma-3", "nope", "smol"])

    for path, kind in (("/v1/chat/completions", "server_error"), ("/v1/messages", "api_error")):
        body = {"model": "broken", "max_tokens": 4, "messages": [{"role": "user", "content": "hi"}]}
        status, text = refused(url, path, body)
        if status not in (502, 503) or kind not in text and "overloaded" not in text:
            raise fleet.Failure(f"{path} of a broken model: {status} {text}")
        print(f"router: {path} of a model that cannot be loaded: {status} {text.strip()[:120]}")
    shown = becomes(admin, "b-broken", {"preset": "failed", "state": "down"})
    expect("what is told of it", shown["trouble"], "its model failed to load (exit code 1)")

    becomes(admin, "b-smol", {"preset": "sleeping"})
    time.sleep(6)
    expect("nobody wakes it", stands(router)["smol"], "sleeping")
    expect("but a request", chat(url, "smol", {"x-drover-spec": "off"})[0], "b-smol")
    becomes(admin, "b-smol", {"preset": "loaded"})


def a_model_is_unloaded_under_a_stream(binary: str, state: Path, started: list[fleet.Process]) -> None:
    """The router ends the process of a model in the middle of an answer: another server goes on with it."""
    router = start_router(state, 3, started)
    start_llama(state, "other", ["--host", "127.0.0.1", "--port", "0", "-m", os.environ["MODEL_SMOLLM2"], "--alias", "smol", "-np", "2"], started)
    fleet.wait_listening(started[-1])
    backends = [
        {"name": "routed", "url": router.url, "model": "smol-ngram", "profile": "ngram-mod"},
        {"name": "other", "url": started[-1].url, "profile": "none"},
    ]
    url, admin = start_gateway(binary, state, [{"name": "p", "models": ["*"], "backends": backends}], started)
    body = {"model": "m", "stream": True, "max_tokens": 400, "messages": [{"role": "user", "content": "Write a long story about the sea."}]}
    headers = {"Content-Type": "application/json", "x-drover-spec": "ngram-mod"}
    request = urllib.request.Request(f"{url}/v1/chat/completions", json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=120) as response:
        expect("who begins", response.headers["x-drover-backend"], "routed")
        text = ""
        while text.count('"content":"') < 10:
            text += response.readline().decode()
        os.kill(child_of(router.pid), signal.SIGKILL)
        text += response.read().decode()
    if "proxy error" in text:
        raise fleet.Failure("the router's own words reached the client")
    whole = "data: [DONE]" in text
    resumed = sum(value for labels, value in samples(admin, "drover_attempts_total") if 'why="resume"' in labels)
    expect("the stream is whole, gone on with elsewhere", (whole, resumed), (True, 1.0))


def child_of(pid: int) -> int:
    [child] = Path(f"/proc/{pid}/task/{pid}/children").read_text().split() or child_of_threads(pid)
    return int(child)


def child_of_threads(pid: int) -> list[str]:
    """A process that another thread than the first has started."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [child for task in tasks for child in (task / "children").read_text().split()]


def samples(admin: str, name: str) -> list[tuple[str, float]]:
    with urllib.request.urlopen(f"{admin}/metrics", timeout=5) as response:
        lines = response.read().decode().splitlines()
    found = [line.removeprefix(name).rpartition(" ") for line in lines if line.startswith(f"{name}{{")]
    return [(labels, float(value)) for labels, _, value in found]


CASES = (unix_socket, one_cache, models_of_a_router, a_model_is_unloaded_under_a_stream)


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
