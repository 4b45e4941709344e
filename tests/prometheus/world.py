"""Simulated backends, a gateway, a real Prometheus, and a target that makes up what a sound gateway never shows."""

import contextlib
import http.client
import http.server
import json
import re
import subprocess
import tempfile
import threading
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import llama_fleet as fleet

RULES = Path(__file__).resolve().parents[2] / "dashboards" / "prometheus" / "drover.rules.yaml"
# Backend, its pool, its speculative type, what else its configuration says.
BACKENDS = [
    ("gpu0", "coder", "draft-mtp", {}),
    ("gpu1", "coder", "draft-mtp", {}),
    ("tiny0", "small", "none", {"slots": 1}),
    ("flaky0", "flaky", "none", {}),
    ("spare0", "spare", "none", {}),
    ("watched0", "watched", "none", {"n_ctx": 2048}),
    ("shared0", "shared", "none", {}),
    ("stuck0", "stuck", "none", {}),
    ("found0", "found", "none", {}),
    ("tried0", "tried", "draft-mtp", {}),
    ("base0", "tried", "none", {}),
]
# Its pool is told its backends by a file.
FOUND = "found"
# Rules look minutes and hours back, a test has seconds.
SHORTER = {"5m": "8s", "15m": "8s", "1d": "40s", "15m:1m": "5s:1s", "1h": "12s"}


def shortened(text: str) -> str:
    """Windows, offsets and waits of an expression or of the whole file of rules."""
    text = re.sub(r"\[([\dmhd:]+)\]", lambda window: f"[{SHORTER[window[1]]}]", text)
    text = re.sub(r"offset (\w+)", lambda offset: f"offset {SHORTER[offset[1]]}", text)
    return re.sub(r"for: [1-9]\w*", "for: 2s", text)


def configuration(listen: str, admin: str, urls: dict[str, str], state: Path) -> dict:
    pools: dict[str, dict] = {}
    for name, pool, profile, more in BACKENDS:
        at = pools.setdefault(pool, {"name": pool, "models": [pool], "backends": []})
        at["backends"].append({"name": name, "url": urls[name], "profile": profile, **more})
    (state / "found.yaml").write_text(json.dumps(pools[FOUND].pop("backends")))
    pools[FOUND]["discovery"] = {"file": {"path": str(state / "found.yaml"), "every": "1s"}}
    pools["small"]["queue"] = {"max_waiting": 3}
    pools["watched"]["guard"] = "observe"
    rules = [
        {"id": "house.no_rm", "on": "tool_call", "when": 'tool.command.contains("rm -rf")', "then": {"block": {"reason": "no_rm"}}},
        {"id": "house.tests", "on": "tool_call", "mode": "dry_run", "when": 'tool.command.contains("test")', "then": {"block": {"reason": "tests"}}},
    ]
    return {
        "listen": [listen],
        "admin": {"addr": admin},
        "limits": {"max_connections": 100},
        "fleet": {
            "pools": list(pools.values()),
            "health": {"interval": "500ms", "timeout": "1s", "slots_every": "1500ms"},
            "watchdog": {"stuck_after": "4s", "orphan_after": "2s", "close_for": "1s"},
            "selection": {"min_prefix": "1KiB"},
        },
        "policy": {"rules": rules, "profiles": {"house": ["house.no_rm", "house.tests"]}},
        "audit": {"path": str(state / "audit")},
        "reload": {"watch": False},
        # Started by the scenarios. What it takes is never reached: it goes on until something breaks.
        "spec": {"rollouts": [{
            "name": "mtp", "pool": "tried", "baseline": "none", "candidate": "draft-mtp", "control": "base0", "steps": ["50%"],
            "step": {"min_sessions": 2, "min_turns": 10, "min_time": "1s", "max_time": "1h"}, "hardware_equal": True,
            "promote_when": {"decode_tps": "> +5000%"}, "never_worse": {"ttft": None},
        }]},
    }


class MadeUp(http.server.BaseHTTPRequestHandler):
    """A target with figures that only a broken gateway would have, from the moment it is told to."""

    broken = False
    scrapes = 0
    bad = 0

    def do_GET(self) -> None:  # noqa: N802  (the name http.server asks for)
        MadeUp.scrapes += 1
        MadeUp.bad += MadeUp.broken
        bad = MadeUp.bad
        lines = [
            f"drover_guard_not_evaluated_total {bad}",
            f"process_open_fds {950 if bad else 50}",
            "process_max_fds 1000",
            f'drover_overhead_seconds_bucket{{stage="total",le="0.003"}} {MadeUp.scrapes - bad}',
            f'drover_overhead_seconds_bucket{{stage="total",le="0.1"}} {MadeUp.scrapes}',
            f'drover_overhead_seconds_bucket{{stage="total",le="+Inf"}} {MadeUp.scrapes}',
        ]
        body = ("\n".join(lines) + "\n").encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_) -> None:
        pass


class World:
    """Everything that runs, and how to ask it."""

    def __init__(self, binary: str, state: Path, lower: dict[str, str] | None):
        self.started: list[fleet.Process] = []
        self.state, self.binary, self.lower = state, binary, lower
        self.urls = {name: f"http://{fleet.free_address()}" for name, *_ in BACKENDS}
        self.made_up = http.server.ThreadingHTTPServer(("127.0.0.1", 0), MadeUp)

    def start(self) -> None:
        threading.Thread(target=self.made_up.serve_forever, daemon=True).start()
        self._start_sims()
        self._start_gateway()
        if self.lower is not None:
            self._start_prometheus()

    def _spawn(self, name: str, argv: list[str], url: str, env: dict[str, str] | None = None) -> fleet.Process:
        self.started.append(fleet.launch(self.state, name, argv, url, env=env))
        return self.started[-1]

    def _start_sims(self) -> None:
        argv = [self.binary, "sim", "--decode-tps", "200", "--prefill-tps", "20000"]
        for name, _, profile, _ in BACKENDS:
            argv += ["--listen", self.urls[name].removeprefix("http://"), "--profile", profile]
        sims = self._spawn("sims", argv, "")
        for url in self.urls.values():
            fleet.wait_healthy(sims, f"{url}/health")

    def _start_gateway(self) -> None:
        listen, admin = fleet.free_address(), fleet.free_address()
        self.config, self.config_file = configuration(listen, admin, self.urls, self.state), self.state / "drover.yaml"
        self.config_file.write_text(json.dumps(self.config))
        self.url, self.admin = f"http://{listen}", f"http://{admin}"
        self.gateway = self._spawn("drover", [self.binary, "serve", "--config", str(self.config_file)], self.url)
        fleet.wait_healthy(self.gateway, f"{self.admin}/readyz")

    def start_guarded(self, token: str) -> str:
        """A second gateway, whose admin address asks for this token."""
        listen, admin = fleet.free_address(), fleet.free_address()
        config = configuration(listen, admin, self.urls, self.state)
        config["admin"]["token_env"] = "CONSOLE_TOKEN"
        file = self.state / "guarded.yaml"
        file.write_text(json.dumps(config))
        guarded = self._spawn("guarded", [self.binary, "serve", "--config", str(file)], "", {"CONSOLE_TOKEN": token})
        fleet.wait_healthy(guarded, f"http://{admin}/readyz")
        return f"http://{admin}"

    def _start_prometheus(self) -> None:
        rules = shortened(RULES.read_text())
        for high, low in self.lower.items():
            if rules.count(high) != 1:
                raise fleet.Failure(f"the rules have {rules.count(high)} times {high!r}, not once")
            rules = rules.replace(high, low)
        (self.state / "rules.yaml").write_text(rules)
        targets = [self.admin.removeprefix("http://"), f"127.0.0.1:{self.made_up.server_port}"]
        (self.state / "prometheus.yaml").write_text(json.dumps({
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "storage": {"exemplars": {"max_exemplars": 10000}},
            "rule_files": ["rules.yaml"],
            "scrape_configs": [{"job_name": "drover", "static_configs": [{"targets": targets}]}],
        }))
        address = fleet.free_address()
        self.prometheus = f"http://{address}"
        argv = ["prometheus", f"--config.file={self.state}/prometheus.yaml", f"--storage.tsdb.path={self.state}/tsdb", f"--web.listen-address={address}",
                "--enable-feature=exemplar-storage"]
        fleet.wait_healthy(self._spawn("prometheus", argv, self.prometheus), f"{self.prometheus}/-/ready")

    def ask(self, path: str, **parameters) -> dict:
        """Prometheus' answer to a question of its API (version 1)."""
        data = urllib.parse.urlencode(parameters).encode() or None
        with urllib.request.urlopen(f"{self.prometheus}/api/v1/{path}", data, timeout=20) as response:
            return json.load(response)["data"]

    def firing(self) -> dict[str, list[dict]]:
        found: dict[str, list[dict]] = {}
        for alert in self.ask("alerts")["alerts"]:
            if alert["state"] == "firing":
                found.setdefault(alert["labels"]["alertname"], []).append(alert)
        return found

    def sim(self, backend: str, path: str, body: dict) -> None:
        """Changes a simulated backend."""
        request = urllib.request.Request(f"{self.urls[backend]}/sim/{path}", json.dumps(body).encode(), {"Content-Type": "application/json"})
        with contextlib.suppress(http.client.RemoteDisconnected), urllib.request.urlopen(request, timeout=10):
            pass

    def reload(self) -> None:
        """Has the gateway load its configuration; that it refuses a bad one is no error here."""
        with contextlib.suppress(urllib.error.HTTPError), urllib.request.urlopen(f"{self.admin}/api/reload", b"", timeout=20):
            pass

    def stop(self) -> None:
        fleet.stop_all(self.started)
        self.made_up.shutdown()


@contextlib.contextmanager
def world(binary: str, lower: dict[str, str] | None = None):
    """The world, and its end, with a Prometheus where thresholds for its rules are given; what its programs said is shown when it ends badly."""
    with tempfile.TemporaryDirectory(prefix="drover-prometheus.") as directory:
        it = World(binary, Path(directory), lower)
        try:
            it.start()
            yield it
        except fleet.Failure:
            for process in it.started:
                print(f"---- {process.name}\n{fleet.tail(process.log)}")
            raise
        finally:
            it.stop()


def promtool(*arguments: str) -> None:
    done = subprocess.run(["promtool", *arguments], cwd=RULES.parent, capture_output=True, text=True, timeout=60)
    if done.returncode:
        raise fleet.Failure(f"promtool {' '.join(arguments)}:\n{done.stdout}{done.stderr}")

