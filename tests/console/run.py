#!/usr/bin/env python3
"""The console in a real browser (Debian's Chromium), on a gateway under the load of simulated agents.

    run.py --gateway BIN [--screenshots DIR] [--only CHECK …]

Run by scripts/console.sh, which brings Playwright. The exit code is 1 when something did not hold.
"""

import argparse
import contextlib
import http.server
import json
import os
import re
import shutil
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "tests" / "prometheus")]
import llama_fleet as fleet  # noqa: E402
import scenarios  # noqa: E402
from agents import Crowd, post, script, words  # noqa: E402
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright  # noqa: E402
from world import BACKENDS, World, world  # noqa: E402

TOKEN = "console-token-7"
WIDE, PHONE = {"width": 1280, "height": 860}, {"width": 390, "height": 800}
TABS = ["fleet", "live", "sessions", "spec", "rollouts", "config"]
MARKUP = '<img src=x onerror="window.hacked=1">'
expect.set_options(timeout=15_000)


def backends(it: World) -> dict[str, dict]:
    with urllib.request.urlopen(f"{it.admin}/api/backends", timeout=5) as response:
        return {b["id"]: b for b in json.load(response)["backends"]}


def shows_the_fleet(page: Page, it: World) -> None:
    page.goto(it.admin)
    expect(page).to_have_url(f"{it.admin}/console/")
    expect(page.locator("#status")).to_have_text("live")
    expect(page.locator("[data-backend]")).to_have_count(len(BACKENDS))
    card = page.locator('[data-backend="gpu0"]')
    expect(card).to_contain_text("b11434-sim")
    expect(card).to_contain_text("draft-mtp")
    expect(card.locator(".slot")).to_have_count(4)
    expect(card).to_contain_text("cache warm")
    # Live: somebody is at work, without a reload of the page.
    expect(page.locator(".slot.busy").first).to_be_visible()


def drains_after_asking(page: Page, it: World) -> None:
    page.goto(f"{it.admin}/console/#fleet")
    button = page.locator('[data-backend="spare0"] button')
    button.click()
    expect(page.locator("#ask")).to_be_visible()
    expect(page.locator("#ask-text")).to_contain_text("spare0")
    page.keyboard.press("Enter")  # on Cancel, which has the focus
    expect(page.locator("#ask")).to_be_hidden()
    assert not backends(it)["spare0"]["draining"], "drained without a yes"
    button.click()
    page.keyboard.press("Escape")
    assert not backends(it)["spare0"]["draining"], "drained by Escape"
    button.click()
    page.locator("#ask-yes").click()
    expect(page.locator('[data-backend="spare0"] h3')).to_contain_text("draining")
    assert backends(it)["spare0"]["draining"]
    page.locator('[data-backend="spare0"] button[data-action="undrain"]').click()
    page.locator("#ask-yes").click()
    expect(page.locator('[data-backend="spare0"] h3')).not_to_contain_text("draining")
    assert not backends(it)["spare0"]["draining"]


COUNT_UPDATES = """() => {
  window.updates = 0;
  new MutationObserver((all) => { window.updates += all.length > 0; }).observe(document.getElementById("view"),
    { subtree: true, childList: true, characterData: true, attributes: true });
}"""


def updates(page: Page, more: int) -> None:
    """Waits until what is shown has changed so many times more."""
    page.evaluate(COUNT_UPDATES)
    deadline = time.monotonic() + 30
    while page.evaluate("window.updates") < more:
        assert time.monotonic() < deadline, "nothing is updated"
        page.wait_for_timeout(100)


def keeps_what_is_used(page: Page, it: World) -> None:
    """What is changed is changed in place: elements, selection and keyboard stay, and a slow browser loses no click."""
    with slow(page):
        keeps_the_fleet(page, it)
        keeps_the_list(page, it)


@contextlib.contextmanager
def slow(page: Page) -> Iterator[None]:
    """A browser with a sixth of the processor."""
    session = page.context.new_cdp_session(page)
    session.send("Emulation.setCPUThrottlingRate", {"rate": 6})
    try:
        yield
    finally:
        session.send("Emulation.setCPUThrottlingRate", {"rate": 1})
        session.detach()


def press(page: Page, what: Locator, wait_ms: int) -> str:
    """Presses where it is just now, with none of Playwright's patience, for so long. What was there when the press began."""
    what.scroll_into_view_if_needed()
    box = what.bounding_box()
    if not box:
        return ""  # it has gone meanwhile
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    there = page.evaluate("([x, y]) => { const it = document.elementFromPoint(x, y)?.closest('a, button'); return it?.hash ?? it?.dataset.action }", [x, y])
    page.wait_for_timeout(wait_ms)
    page.mouse.up()
    return there or ""


def keeps_the_fleet(page: Page, it: World) -> None:
    page.goto(f"{it.admin}/console/#fleet")
    button = page.locator('[data-backend="gpu0"] button')
    button.wait_for()
    held = button.element_handle()
    page.evaluate("getSelection().selectAllChildren(document.querySelector('[data-backend=gpu0] dl'))")
    selected = page.evaluate("getSelection().toString()")
    assert "b11434-sim" in selected, selected
    updates(page, 3)
    assert held.evaluate("(it) => it.isConnected"), "an update has replaced a button"
    assert "b11434-sim" in page.evaluate("getSelection().toString()"), "an update has taken the selection"
    asked = 0
    for click in range(20):
        if press(page, button, 130 + 60 * (click % 5)) != "drain":
            continue  # what is above it has grown meanwhile
        expect(page.locator("#ask"), f"click {click} is lost").to_be_visible(timeout=5000)
        page.keyboard.press("Escape")
        expect(page.locator("#ask")).to_be_hidden()
        asked += 1
    assert asked > 10, f"{asked} of 20 clicks went to the button"
    assert not backends(it)["gpu0"]["draining"]


def keeps_the_list(page: Page, it: World) -> None:
    """A list that grows at its top moves away neither under a press nor from the keyboard."""
    page.goto(f"{it.admin}/console/#live")
    links = page.locator("#view-live table").last.locator("a[href^='#request/']")
    links.nth(2).wait_for()
    for _ in range(5):
        held = links.first.element_handle()
        held.focus()
        updates(page, 1)
        kept = held.evaluate("(it) => (it.isConnected ? it === document.activeElement : null)")
        assert kept is not False, "an update has taken the keyboard"
        if kept:
            break  # else so many came that it is no longer among the last
    assert kept, "no row outlives an update"
    for _ in range(5):
        pressed = press(page, links.nth(1), 1600)
        if pressed.startswith("#request/"):
            expect(page).to_have_url(re.compile(re.escape(pressed) + "$"))
        page.goto(f"{it.admin}/console/#live")
        links.nth(2).wait_for()


def shows_what_happens(page: Page, it: World) -> None:
    page.goto(f"{it.admin}/console/#live")
    expect(page.locator("#view-live table").first.locator("tbody tr").first).to_be_visible()
    for what in ("reask", "loop_", "house.tests", "house.no_rm"):
        expect(page.locator(".timeline")).to_contain_text(what, timeout=30_000)
    expect(page.locator("#view-live table").last).to_contain_text("gpu")
    page.locator("#view-live table").last.locator("a[href^='#request/']").first.click()
    expect(page.locator("#view-request")).to_contain_text("Why it went where it went")


def tells_a_session(page: Page, it: World) -> None:
    page.goto(f"{it.admin}/console/#sessions")
    expect(page.locator("#view-sessions tbody tr").nth(2)).to_be_visible()
    page.locator("#view-sessions tbody tr a").first.click()
    expect(page.locator("#view-session")).to_contain_text("Conversations")
    # A session that has only begun has nothing in its timeline yet: one of those that have is looked for.
    for turn in range(30):
        page.goto(f"{it.admin}/console/#sessions")
        rows = page.locator("#view-sessions tbody tr", has_text=re.compile(r"agent|x-session-id"))
        expect(rows.first).to_be_visible()
        rows.nth(turn % rows.count()).locator("a").click()
        expect(page.locator("#view-session")).to_contain_text("Timeline")
        page.wait_for_timeout(500)
        if page.locator(".timeline li").count() > 0:
            break
    expect(page.locator(".timeline li").first).to_be_visible()
    # Calls and their results, as hashes.
    page.goto(f"{it.admin}/console/#session/{session_with_calls(it)}")
    expect(page.locator(".timeline")).to_contain_text(re.compile(r"call of \w+ [0-9a-f]{16}: (failed, )?result [0-9a-f]{16}"))


def session_with_calls(it: World) -> str:
    for _ in range(60):
        with urllib.request.urlopen(f"{it.admin}/api/sessions?limit=200", timeout=5) as response:
            sessions = [one["id"] for one in json.load(response)["sessions"]]
        for session in sessions:
            with urllib.request.urlopen(f"{it.admin}/api/sessions/{session}", timeout=5) as response:
                if json.load(response).get("calls"):
                    return session
        time.sleep(0.5)
    raise AssertionError("no session has calls")


def finds_a_request(page: Page, it: World) -> None:
    task = script(f"Say {words(3)}.", steps=[{"text": "done"}])
    body = {"model": "coder", "messages": [{"role": "user", "content": task}]}
    post(it.url, "/v1/chat/completions", body, {"x-request-id": "request-of-a-client"})
    page.goto(f"{it.admin}/console/")
    page.keyboard.press("/")
    page.keyboard.type("request-of-a-client")
    page.keyboard.press("Enter")
    expect(page.locator("#view-request")).to_contain_text("request-of-a-client")
    expect(page.locator("#view-request h2").first).to_contain_text("ok")
    expect(page.locator("#view-request")).to_contain_text("because: ")
    expect(page.locator("#view-request td", has_text="chosen")).to_have_count(1)
    page.locator("#view-request summary").click()
    explained = json.loads(page.locator("#explained").inner_text())
    assert any(b in json.dumps(explained) for b in ("gpu0", "gpu1")), explained
    page.goto(f"{it.admin}/console/#request/never-was-here")
    expect(page.locator("[role=alert]")).to_contain_text("no request of this id")


def tells_what_policy_decided(page: Page, it: World) -> None:
    scenarios.forbidden(it)
    found = {}
    for _ in range(60):
        with urllib.request.urlopen(f"{it.admin}/api/requests?limit=200", timeout=5) as response:
            found = next((r for r in json.load(response)["requests"] if any("house.no_rm" in text for text in r.get("policy", []))), {})
        if found:
            break
        time.sleep(0.25)
    assert found, "no request tells of the rule"
    page.goto(f"{it.admin}/console/#request/{found['request_id']}")
    expect(page.locator("#view-request li").first).to_contain_text("block house.no_rm enforce")
    page.goto(f"{it.admin}/console/#session/{found['session']}")
    expect(page.locator(".timeline")).to_contain_text("policy: block house.no_rm")
    expect(page.locator(".timeline")).to_contain_text("profile draft-mtp")


def leads_from_an_alert_to_the_guilty(page: Page, it: World) -> None:
    """Two clicks: the alert's own link, then the class of what accepts least."""
    it.sim("gpu1", "state", {"accept_rate": 0.05, "build_info": "b99999-bad"})
    alert, deadline = None, time.monotonic() + 150
    while not alert and time.monotonic() < deadline:
        time.sleep(1)
        found = it.firing().get("DroverAcceptanceFell", [])
        alert = next((one for one in found if one["labels"]["build"] == "b99999-bad"), None)
    assert alert, "the alert does not fire"
    page.goto(alert["annotations"]["console_url"])
    expect(page.locator("#view-spec")).to_contain_text("Only pool coder, backend gpu1, profile draft-mtp, build b99999-bad.")
    rows = page.locator("#view-spec table").last.locator("tbody tr")
    expect(rows.first).to_contain_text("b99999-bad")
    guilty = rows.first.locator("a")
    kind = guilty.inner_text()
    guilty.click()
    expect(page.locator("#view-requests")).to_contain_text(f"class {kind}")
    rows = page.locator("#view-requests tbody tr")
    expect(rows.first).to_contain_text("gpu1")
    for row in rows.all():
        assert all(text in row.inner_text() for text in ("gpu1", "draft-mtp", "b99999-bad", kind)), row.inner_text()
    page.locator("#view-requests a", has_text="first token").click()
    expect(page).to_have_url(re.compile("order=ttft"))


def shows_the_configuration(page: Page, it: World) -> None:
    page.goto(f"{it.admin}/console/#config")
    expect(page.locator("#config")).to_contain_text("house.no_rm")


def rollout(it: World) -> dict:
    with urllib.request.urlopen(f"{it.admin}/api/rollouts/mtp", timeout=5) as response:
        return json.load(response)


def orders_a_rollout(page: Page, it: World) -> None:
    """Its differences are drawn, and orders are asked about first."""
    page.goto(f"{it.admin}/console/#rollouts")
    card = page.locator('[data-rollout="mtp"]')
    expect(card).to_contain_text("running")
    drawn = card.locator("svg.interval")
    expect(drawn.first).to_be_visible()
    # Known for certain, once there are enough turns of both sides: without a reload of the page.
    expect(card.locator("svg.interval circle").first).to_be_visible()
    expect(card.locator("svg .range:not(.open)").first).to_be_attached(timeout=60_000)
    assert re.search(r"difference [+−]\d", drawn.first.get_attribute("aria-label")), drawn.first.get_attribute("aria-label")
    box = drawn.first.bounding_box()
    assert box["width"] > 100 and box["height"] > 20, box
    pause = card.locator('button[data-order="pause"]')
    pause.click()
    expect(page.locator("#ask-text")).to_contain_text("mtp")
    page.keyboard.press("Enter")  # on Cancel, which has the focus
    assert rollout(it)["state"] == "running", "paused without a yes"
    pause.focus()
    page.wait_for_timeout(2500)
    assert page.evaluate("document.activeElement.dataset.order") == "pause", "an update took the focus"
    page.keyboard.press("Enter")
    page.locator("#ask-yes").click()
    expect(card).to_contain_text("paused")
    assert rollout(it)["state"] == "paused"
    card.locator('button[data-order="resume"]').click()
    page.locator("#ask-yes").click()
    expect(card).to_contain_text("running")


def obeys_the_keyboard(page: Page, it: World) -> None:
    page.goto(f"{it.admin}/console/")
    expect(page.locator("#status")).to_have_text("live")
    for number, tab in enumerate(TABS, 1):
        page.keyboard.press(str(number))
        expect(page.locator(f"#view-{tab}")).to_be_attached()
        expect(page.locator("nav a[aria-current=page]")).to_have_attribute("href", f"#{tab}")
    page.keyboard.press("1")
    button = page.locator('[data-backend="gpu1"] button')
    button.focus()
    page.wait_for_timeout(2500)
    assert page.evaluate("document.activeElement.closest('[data-backend]')?.dataset.backend") == "gpu1", "an update took the focus"


def fits_a_phone(page: Page, it: World) -> None:
    page.set_viewport_size(PHONE)
    for tab in [*TABS, "requests/order=ttft"]:
        page.goto(f"{it.admin}/console/#{tab}")
        expect(page.locator(f"#view-{tab.partition('/')[0]}")).to_be_attached()
        page.wait_for_timeout(300)
        wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert wide <= 0, f"{tab} is {wide} pixels too wide"
    page.set_viewport_size(WIDE)


def is_dark_or_light(page: Page, it: World) -> None:
    def paper() -> str:
        return page.evaluate("getComputedStyle(document.body).backgroundColor")

    page.goto(f"{it.admin}/console/")
    page.emulate_media(color_scheme="light")
    light = paper()
    page.emulate_media(color_scheme="dark")
    dark = paper()
    assert light != dark, "the system's choice changes nothing"
    page.locator("#theme").click()
    assert paper() == light, "the button changes nothing"
    page.emulate_media(color_scheme="light")


def shows_texts_as_texts(page: Page, it: World) -> None:
    page.goto(f"{it.admin}/console/#live")
    expect(page.locator("#status")).to_have_text("live")
    post(it.url, "/v1/chat/completions", {"model": MARKUP, "messages": [{"role": "user", "content": "x"}]})
    expect(page.locator("#view-live")).to_contain_text("<img src=x")
    assert page.locator("main img").count() == 0
    assert page.evaluate("window.hacked") is None


class Foreign(http.server.BaseHTTPRequestHandler):
    """A page of another origin that would drain a backend."""

    target = ""

    def do_GET(self) -> None:  # noqa: N802
        body = f"<script>fetch({json.dumps(Foreign.target)}, {{method: 'POST', mode: 'no-cors'}}).finally(() => document.title = 'tried')</script>"
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_) -> None:
        pass


def obeys_its_own_pages_only(browser: Browser, it: World) -> None:
    Foreign.target = f"{it.admin}/api/backends/gpu1/drain"
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Foreign)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    page = browser.new_page()
    page.goto(f"http://127.0.0.1:{server.server_port}/")
    expect(page).to_have_title("tried")
    page.close()
    server.shutdown()
    assert not backends(it)["gpu1"]["draining"], "a page of another origin drained a backend"


def asks_for_the_token(browser: Browser, it: World) -> None:
    admin = it.start_guarded(TOKEN)
    page = browser.new_page()
    page.goto(f"{admin}/")
    page.goto(f"{admin}/console/")
    for token in ("wrong", TOKEN):
        expect(page.locator("#login")).to_be_visible()
        assert page.locator("[data-backend]").count() == 0
        page.locator("#token").fill(token)
        page.keyboard.press("Enter")
        page.wait_for_timeout(500)
    expect(page.locator("[data-backend]")).to_have_count(len(BACKENDS))
    expect(page.locator("#login")).to_be_hidden()
    page.goto(f"{admin}/console/#config")
    expect(page.locator("#config")).to_contain_text("CONSOLE_TOKEN")
    assert TOKEN not in page.content() and TOKEN not in page.url
    page.close()


ON_ONE_PAGE = [
    shows_the_fleet, drains_after_asking, keeps_what_is_used, shows_what_happens, tells_a_session, finds_a_request, tells_what_policy_decided,
    shows_the_configuration, orders_a_rollout, obeys_the_keyboard, fits_a_phone, is_dark_or_light, shows_texts_as_texts,
    leads_from_an_alert_to_the_guilty,
]
ON_ITS_OWN = [obeys_its_own_pages_only, asks_for_the_token]


def screenshots(page: Page, it: World, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)

    def take(name: str, hash: str, wait_for: str, scheme: str = "light", size: dict = WIDE, whole: bool = False) -> None:
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size(size)
        page.goto(f"{it.admin}/console/#{hash}")
        page.locator(wait_for).first.wait_for()
        page.wait_for_timeout(1500)
        page.screenshot(path=folder / f"console-{name}.png", full_page=whole)

    take("fleet", "fleet", "[data-backend]")
    take("fleet-dark", "fleet", "[data-backend]", scheme="dark")
    take("fleet-phone", "fleet", "[data-backend]", size=PHONE)
    page.goto(f"{it.admin}/console/#live")
    page.wait_for_timeout(4000)
    take("live", "live", ".timeline li")
    take("sessions", "sessions", "#view-sessions tbody tr")
    session = page.locator("#view-sessions tbody tr a").first.get_attribute("href")
    take("session", session.removeprefix("#"), ".timeline li")
    # The one of before may be forgotten by now.
    body = {"model": "coder", "messages": [{"role": "user", "content": script(f"Say {words(3)}.", steps=[{"text": "done"}])}]}
    post(it.url, "/v1/chat/completions", body, {"x-request-id": "request-of-a-picture"})
    take("request", "request/request-of-a-picture", "#view-request table", whole=True)
    take("speculation", "spec", "#view-spec table")
    take("requests", "requests/order=ttft", "#view-requests tbody tr")
    take("config", "config", "#config")
    take("rollouts", "rollouts", "svg.interval")
    take("rollouts-dark", "rollouts", "svg.interval", scheme="dark")
    take("rollouts-phone", "rollouts", "svg.interval", size=PHONE)


def run(binary: str, folder: Path | None, only: list[str]) -> list[str]:
    wrong: list[str] = []
    chromium = shutil.which("chromium") or "chromium"
    sandbox = [] if os.geteuid() else ["--no-sandbox"]
    with world(binary, scenarios.LOWER) as it, sync_playwright() as play:
        crowd = Crowd()
        scenarios.quiet(it, crowd)
        for what in (scenarios.forbidden, scenarios.loop, lambda it: scenarios.malformed(it, "coder")):
            crowd.add(lambda what=what: what(it), pause_s=1)
        browser = play.chromium.launch(executable_path=chromium, args=sandbox)
        page = browser.new_page(viewport=WIDE)
        said: list[str] = []
        page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: said.append(str(error)))
        for check in ON_ONE_PAGE + ON_ITS_OWN:
            if only and check.__name__ not in only:
                continue
            begun = time.monotonic()
            try:
                check(page if check in ON_ONE_PAGE else browser, it)
                result = "ok"
            except AssertionError as error:
                result = "FAILED"
                wrong.append(f"{check.__name__}: {error}")
            print(f"{check.__name__} ... {result} ({time.monotonic() - begun:.1f} s)")
        # The browser itself reports the request of the id that nobody knows.
        wrong += [f"the browser's console says: {text}" for text in said if "404" not in text]
        if folder:
            screenshots(page, it, folder)
        browser.close()
        crowd.stop()
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gateway", required=True, help="the drover binary")
    parser.add_argument("--screenshots", type=Path, help="a folder for pictures of every view")
    parser.add_argument("--only", action="append", default=[], metavar="CHECK", help="a check to be made; all without it")
    args = parser.parse_args()
    try:
        wrong = run(args.gateway, args.screenshots, args.only)
    except fleet.Failure as failure:
        wrong = [str(failure)]
    for line in wrong:
        print(f"error: {line}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
