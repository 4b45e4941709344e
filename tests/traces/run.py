#!/usr/bin/env python3
"""Traces through a real OpenTelemetry collector (rotel): gateway → collector → a receiver that reads what the collector
passes on with OpenTelemetry's own Python classes.

    run.py --gateway BIN

Run by scripts/traces.sh, which brings collector and classes. Names of attributes and metrics are compared with the
published semantic conventions. The exit code is 1 when something did not hold.
"""

import argparse
import gzip
import http.server
import json
import os
import re
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "tests" / "prometheus")]
import llama_fleet as fleet  # noqa: E402
import rotel  # noqa: E402
from agents import script  # noqa: E402
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse  # noqa: E402
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status  # noqa: E402
from opentelemetry.semconv import attributes as stable  # noqa: E402
from opentelemetry.semconv._incubating import attributes as incubating  # noqa: E402
from opentelemetry.semconv._incubating.metrics import gen_ai_metrics  # noqa: E402

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
WAIT_S = 30
# Requests until one is sent to the backend that fails.
MOST = 20
# What the conventions have no name for.
OURS = "drover."


class Passed(http.server.BaseHTTPRequestHandler):
    """Takes what the collector passes on."""

    protocol_version = "HTTP/1.1"
    spans: list[tuple[dict, Span]] = []

    def do_POST(self) -> None:  # noqa: N802
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            about = plain(resource.resource.attributes)
            Passed.spans += [(about, span) for scope in resource.scope_spans for span in scope.spans]
        answer = ExportTraceServiceResponse().SerializeToString()
        self.send_response(200)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_) -> None:
        pass


class Told(http.server.BaseHTTPRequestHandler):
    """A backend that has failed, and remembers the trace it was told."""

    parents: list[str] = []

    def do_GET(self) -> None:  # noqa: N802
        body = json.dumps({"status": "ok", "default_generation_settings": {"n_ctx": 4096}, "total_slots": 2}).encode()
        slots = json.dumps([{"id": n, "n_ctx": 4096, "is_processing": False} for n in range(2)]).encode()
        self.answer(200, slots if self.path.startswith("/slots") else body)

    def do_POST(self) -> None:  # noqa: N802
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        Told.parents.append(self.headers.get("traceparent", ""))
        self.answer(500, json.dumps({"error": {"code": 500, "type": "server_error", "message": "Compute error."}}).encode())

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_) -> None:
        pass


def plain(attributes) -> dict:
    def value(any_value):
        kind = any_value.WhichOneof("value")
        got = getattr(any_value, kind)
        return [value(one) for one in got.values] if kind == "array_value" else got

    return {one.key: value(one.value) for one in attributes}


def conventional(*packages) -> set[str]:
    """Every attribute that the published package names."""
    names: set[str] = set()
    for package in packages:
        for file in Path(package.__path__[0]).glob("*_attributes.py"):
            names |= set(re.findall(r'^[A-Z0-9_]+: Final = "([a-z0-9_.]+)"', file.read_text(), re.MULTILINE))
    return names


def serve(handler) -> str:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}"


def collector(state: Path, started: list, onward: str) -> str:
    """Its address for OTLP over HTTP."""
    address, unused = fleet.free_address(), fleet.free_address()
    agent = Path(rotel.__path__[0]) / "rotel-agent"
    os.chmod(agent, 0o755)
    argv = [str(agent), "start", "--otlp-http-endpoint", address, "--otlp-grpc-endpoint", unused, "--exporter", "otlp",
            "--otlp-exporter-protocol", "http", "--otlp-exporter-endpoint", onward, "--pid-file", str(state / "rotel.pid"), "--log-file", str(state / "rotel.log")]
    started.append(fleet.launch(state, "collector", argv, f"http://{address}"))
    return f"http://{address}"


def wait_open(url: str) -> None:
    import socket

    host, port = url.removeprefix("http://").split(":")
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        try:
            socket.create_connection((host, int(port)), timeout=1).close()
            return
        except OSError:
            time.sleep(0.1)
    raise fleet.Failure(f"nobody listens at {url}")


def ask(url: str, body: dict, headers: dict) -> str:
    """The id of the request."""
    request = urllib.request.Request(f"{url}/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json", **headers})
    with urllib.request.urlopen(request, timeout=60) as response:
        response.read()
        return response.headers["x-request-id"]


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as response:
        return response.read().decode()


def metrics_of(admin: str) -> set[str]:
    return set(re.findall(r"^# TYPE (gen_ai_\w+) ", get(f"{admin}/metrics"), re.MULTILINE))


class Checks:
    """What did not hold."""

    def __init__(self):
        self.wrong: list[str] = []
        self.count = 0

    def that(self, holds: bool, what: str) -> None:
        self.count += 1
        if not holds:
            self.wrong.append(what)


def check(spans: list[tuple[dict, Span]], ids: list[str], check: Checks) -> None:
    turns = [span for _, span in spans if span.kind == Span.SPAN_KIND_SERVER]
    check.that(all(about.get("service.name") == "front" for about, _ in spans), "service.name is lost")
    by_id = {plain(turn.attributes)["drover.request_id"]: turn for turn in turns}
    check.that(set(ids) <= set(by_id) and len(by_id) == len(turns), f"{set(ids)} are not all among {set(by_id)}")
    known = conventional(stable, incubating)
    check.that("gen_ai.operation.name" in known and len(known) > 300, "the conventions have not been read")
    for _, span in spans:
        foreign = [key for key in plain(span.attributes) if key not in known and not key.startswith(OURS)]
        check.that(not foreign, f"{span.name} has attributes that no convention names: {foreign}")
        for event in span.events:
            foreign = [key for key in plain(event.attributes) if key not in known and not key.startswith(OURS)]
            check.that(not foreign, f"{event.name} has {foreign}")
        check.that(0 < span.start_time_unix_nano <= span.end_time_unix_nano, f"{span.name} ends before it begins")
    failed_over, called = (by_id[id] for id in ids)
    check.that(failed_over.trace_id.hex() == TRACE and failed_over.parent_span_id.hex() == PARENT, "the client's trace does not go on")
    attempts = [span for _, span in spans if span.parent_span_id == failed_over.span_id]
    whys = [plain(span.attributes)["drover.attempt.why"] for span in sorted(attempts, key=lambda span: span.start_time_unix_nano)]
    check.that(whys == ["first", "failover"], f"attempts: {whys}")
    check.that([s.status.code for s in attempts].count(Status.STATUS_CODE_ERROR) == 1, "the failed attempt is no error")
    told = [parent.split("-") for parent in Told.parents]
    first = min(attempts, key=lambda span: span.start_time_unix_nano, default=None)
    check.that(first is not None and ["00", TRACE, first.span_id.hex(), "01"] in told, f"the backend was told {told}")
    events = [event.name for event in called.events]
    for name in ("first_token", "drover.intervention", "drover.policy"):
        check.that(name in events, f"{name} is not among the events {events}")
    has = plain(failed_over.attributes)
    for key in ("gen_ai.request.model", "gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens", "gen_ai.response.finish_reasons", "gen_ai.provider.name"):
        check.that(key in has, f"{key} is missing in {sorted(has)}")
    text = " ".join(span.SerializeToString().decode("latin-1") for _, span in spans)
    check.that("secret" not in text, "a text of the conversation is in a span")


def configuration(listen: str, admin: str, urls: list[str], otlp: str) -> dict:
    rule = {"id": "look", "on": "tool_call", "mode": "dry_run", "when": 'tool.name == "ls"', "then": {"block": {"reason": "no"}}}
    backends = [{"name": f"b{n}", "url": url, "profile": "none"} for n, url in enumerate(urls)]
    pools = [{"name": "p", "models": ["m"], "backends": backends}, {"name": "q", "models": ["q"], "backends": [{"name": "alone", "url": urls[1]}]}]
    return {
        "listen": [listen], "admin": {"addr": admin}, "fleet": {"pools": pools},
        "guard": {"preset": "standard"}, "policy": {"rules": [rule], "profiles": {"p": ["look"]}, "profile": "p"},
        "telemetry": {"otlp": {"endpoint": otlp, "service": "front"}},
    }


def run(binary: str, state: Path, started: list) -> Checks:
    otlp = collector(state, started, serve(Passed))
    sim = fleet.free_address()
    process = fleet.launch(state, "sim", [binary, "sim", "--listen", sim], f"http://{sim}")
    started.append(process)
    fleet.wait_healthy(process, f"http://{sim}/health")
    wait_open(otlp)
    listen, admin = fleet.free_address(), fleet.free_address()
    (state / "drover.yaml").write_text(json.dumps(configuration(listen, admin, [serve(Told), f"http://{sim}"], otlp)))
    gateway = fleet.launch(state, "drover", [binary, "serve", "--config", str(state / "drover.yaml")], f"http://{listen}")
    started.append(gateway)
    fleet.wait_healthy(gateway, f"http://{admin}/readyz")
    url, checks = f"http://{listen}", Checks()
    told: list[str] = []
    # Until one of them meets the backend that fails.
    while not Told.parents and len(told) < MOST:
        hello = {"model": "m", "stream": True, "messages": [{"role": "user", "content": f"secret hello {len(told)}"}]}
        told.append(ask(url, hello, {"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "a=1"}))
    if not Told.parents:
        raise fleet.Failure(get(f"http://{admin}/api/backends"))
    ids = told[-1:]
    schema = {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]}
    # A call that its schema does not allow, then one that it does.
    task = script("List it.", steps=[{"tool_call": {"name": "ls", "arguments": '{"path": 7}'}}, {"tool_call": {"name": "ls", "arguments": {"path": "secret"}}}])
    ids.append(ask(url, {"model": "q", "messages": [{"role": "user", "content": task}], "tools": [{"type": "function", "function": {"name": "ls", "parameters": schema}}]}, {}))
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline and sum(span.kind == Span.SPAN_KIND_SERVER for _, span in Passed.spans) <= len(told):
        time.sleep(0.2)
    time.sleep(1)
    check(Passed.spans, ids, checks)
    published = {value.replace(".", "_") for key, value in vars(gen_ai_metrics).items() if key.isupper() and isinstance(value, str)}
    for name in sorted(metrics_of(f"http://{admin}")):
        checks.that(re.sub(r"_seconds$", "", name) in published, f"the metric {name} is not in the conventions")
    return checks


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gateway", required=True)
    args = parser.parse_args()
    started: list[fleet.Process] = []
    with tempfile.TemporaryDirectory(prefix="drover-traces.") as directory:
        try:
            checks = run(args.gateway, Path(directory), started)
        except fleet.Failure:
            for process in started:
                print(f"---- {process.name}\n{fleet.tail(process.log)}")
            raise
        finally:
            fleet.stop_all(started)
    print(f"traces: {len(Passed.spans)} spans through the collector, {checks.count} checks, {len(checks.wrong)} did not hold")
    for line in checks.wrong:
        print(f"error: {line}", file=sys.stderr)
    return 1 if checks.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
