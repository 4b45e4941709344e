#!/usr/bin/env python3
"""Conversations of real agents through the gateway, for the chat templates of many models.

    run.py --gateway BIN [--all] [TEMPLATE...]      source the output of scripts/llama.sh first

For each template a real llama-server renders them (its model is a small one: only the template matters), behind a
gateway that has learnt what the template accepts. Every turn has to be answered, and the prompt of a turn has to be
the beginning of the next turn's, up to where the first answer began. What templates themselves drop or rewrite
later (old reasoning, most of all) is printed, not blamed. The exit code is 1 when something did not hold.
"""

import argparse
import json
import os
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))
import llama_fleet as fleet  # noqa: E402
from transcripts import CONVERSATIONS  # noqa: E402

# The families that agents meet most, and every kind of refusal known.
USUAL = [
    "Qwen3.5-4B",
    "Qwen3-Coder",
    "Mistral-Small-3.2-24B-Instruct-2506",
    "mistralai-Mistral-Nemo-Instruct-2407",
    "mistralai-Ministral-3-14B-Reasoning-2512",
    "unsloth-mistral-Devstral-Small-2507",
    "openai-gpt-oss-120b",
    "deepseek-ai-DeepSeek-V3.1",
    "GLM-4.6",
    "google-gemma-4-31B-it",
    "MiniMax-M2",
    "meta-llama-Llama-3.3-70B-Instruct",
]
LEARNT_WITHIN_S = 20


def post(url: str, body: dict) -> tuple[int, dict]:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=120) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read() or b"{}")


def template_of(url: str) -> str:
    with urllib.request.urlopen(f"{url}/props", timeout=5) as response:
        return json.load(response)["chat_template"].strip()


def learnt(admin: str) -> dict | None:
    """The template rules in `/api/backends`, once the gateway has learnt them."""

    def rules() -> dict | None:
        with urllib.request.urlopen(f"{admin}/api/backends", timeout=5) as response:
            return json.load(response)["backends"][0]["template"]["rules"]

    fleet.wait_until(lambda: rules() is not None, LEARNT_WITHIN_S)
    return rules()


def said(usage: dict) -> tuple[int, int]:
    """Tokens of the prompt, and how many of them were cached, in the usage of either dialect."""
    if "input_tokens" in usage:
        cached = usage.get("cache_read_input_tokens") or 0
        return usage["input_tokens"] + cached, cached
    cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0)
    return usage["prompt_tokens"], cached


def converse(url: str, conversation) -> tuple[list[str], list[int]]:
    """What failed, and by how many tokens each turn missed the prompt before it in the cache."""
    failed, missed, before = [], [], 0
    for number, body in enumerate(conversation.turns()):
        status, answer = post(url + conversation.path, body | {"model": fleet.MODEL, "max_tokens": 1})
        if status != 200:
            failed.append(f"{conversation.name}, turn {number + 1}: {status} {json.dumps(answer)[:200]}")
            break
        prompt, cached = said(answer["usage"])
        if number > 0:
            missed.append(max(0, before - cached))
        before = prompt
    return failed, missed


def try_template(args, template: Path) -> list[str]:
    started: list[fleet.Process] = []
    with tempfile.TemporaryDirectory(prefix="drover-templates.") as directory:
        state = Path(directory)
        fleet.TEMPLATES[fleet.MODEL] = template.name
        try:
            fleet.start_servers(state, 1, True, started)
            # llama.cpp mends a line or two of some templates: their beginnings tell them apart.
            if template_of(started[0].url)[:100] != template.read_text().strip()[:100]:
                return ["the server renders another template"]
            listen, admin = fleet.free_address(), fleet.free_address()
            gateway = fleet.start_gateway(args.gateway, listen, admin, state, list(started), started)
            rules = learnt(f"http://{admin}")
            if rules is None:
                return ["its rules were not learnt"]
            refused = ", ".join(name for name, accepts in rules.items() if not accepts) or "-"
            failures, missed = [], {}
            for conversation in CONVERSATIONS:
                failed, missed[conversation.name] = converse(gateway.url, conversation)
                failures += failed
            print(f"{template.stem:55} refuses: {refused}")
            print("    tokens of the previous prompt not found in the cache, by turn: " + str(missed), flush=True)
            return failures
        except fleet.Failure as failure:
            return [f"not started: {failure}"]
        finally:
            fleet.stop_all(started)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gateway", required=True, help="the drover binary")
    parser.add_argument("--all", action="store_true", help="every template that comes with llama.cpp")
    parser.add_argument("templates", nargs="*", help="names of templates, without .jinja")
    args = parser.parse_args()
    directory = Path(os.environ["TEMPLATES"])
    names = sorted(path.stem for path in directory.glob("*.jinja")) if args.all else args.templates or USUAL
    begun, bad = time.monotonic(), 0
    for name in names:
        failures = try_template(args, directory / f"{name}.jinja")
        for failure in failures:
            print(f"  FAILED {name}: {failure}", flush=True)
        bad += bool(failures)
    print(f"{len(names) - bad} of {len(names)} templates serve every conversation ({time.monotonic() - begun:.0f} s)")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
