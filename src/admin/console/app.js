// The page: which view is shown, what is known, and what happens meanwhile.

import { call, events, Refused, setToken } from "./api.js";
import { h } from "./dom.js";
import { render } from "./preact.js";
import * as views from "./views.js";

const TABS = ["fleet", "live", "sessions", "spec", "rollouts", "config"];
const KEPT = 100;
const RETRY_MS = 2000;
const POLL_MS = 2000;
// A press that never ends, such as one that becomes a drag out of the window, holds nothing up for longer.
const HELD_MS = 5000;

const known = { fleet: null, live: [], requests: [], happened: [] };
const at = (id) => document.getElementById(id);
let shown = { name: "fleet", id: null, data: null, error: null };
let arrived = 0;
let news = true;
let pressed = 0;
let isDue = false;

// Those whose rest is `KEY=VALUE&…`, where each value is decoded by itself.
const NARROWED = ["spec", "requests"];

/** `#session/ID` names a view and what it is about, `#spec/backend=gpu1` what it is narrowed to. */
function place() {
  const [name, ...rest] = location.hash.slice(1).split("/");
  const about = rest.join("/");
  return { name: views[name] ? name : "fleet", id: rest.length ? (NARROWED.includes(name) ? about : decodeURIComponent(about)) : null };
}

async function open() {
  const { name, id } = place();
  const wanted = { name, id, data: null, error: null };
  shown = wanted;
  wanted.polled = Date.now();
  drawTabs();
  if (views[name].load) {
    try {
      wanted.data = await views[name].load(id);
    } catch (error) {
      if (error.status === 401) return login();
      wanted.error = error.message;
    }
  }
  if (shown === wanted) draw();
}

function drawTabs() {
  const link = (name, index) => h("a", { key: name, href: `#${name}`, title: `key ${index + 1}`, "aria-current": shown.name === name ? "page" : null }, views[name].title);
  render(TABS.map(link), at("nav"));
}

/** Draws soon, once for all that has changed until then. */
function draw() {
  if (isDue) return;
  isDue = true;
  requestAnimationFrame(drawNow);
}

function drawNow() {
  // A list that moves under a press would make a click on something else of it, or on nothing.
  const held = HELD_MS - (Date.now() - pressed);
  if (held > 0) {
    setTimeout(() => requestAnimationFrame(drawNow), Math.min(held, 50));
    return;
  }
  isDue = false;
  const view = views[shown.name];
  const isWaiting = view.load && !shown.data;
  const content = shown.error ? h("p", { class: "bad", role: "alert" }, shown.error) : isWaiting ? h("p", { class: "soft" }, "Waiting for the gateway …") : view.show(known, act, shown.data, order);
  render(h("div", { key: `${shown.name}/${shown.id}`, id: `view-${shown.name}` }, content), at("view"));
}

/** Looks again, and draws what has changed. */
async function poll() {
  const wanted = shown;
  // A gateway that is slow is not asked faster than it answers.
  if (wanted.isPolled) return;
  wanted.isPolled = true;
  wanted.polled = Date.now();
  news = false;
  try {
    wanted.data = await views[wanted.name].load(wanted.id);
    wanted.error = null;
  } catch (error) {
    if (error.status !== 401) wanted.error = error.message;
  }
  wanted.isPolled = false;
  if (shown === wanted) draw();
}

/** Asks, and then gives an order to a rollout. */
async function order(rollout, what, question) {
  if (!(await sure(question))) return;
  try {
    await call(`/api/rollouts/${encodeURIComponent(rollout)}/${what}`, "POST");
    say(`${rollout}: ${what} done`);
  } catch (error) {
    say(`${rollout}: ${error.message}`);
  }
  await poll();
}

/** Asks, and then changes what a backend may do. */
async function act(backend, action) {
  const what = action === "drain" ? `Send no new requests to ${backend}? Those it has go on.` : `Send requests to ${backend} again?`;
  if (!(await sure(what))) return;
  try {
    await call(`/api/backends/${encodeURIComponent(backend)}/${action}`, "POST");
    say(`${backend}: ${action} done`);
  } catch (error) {
    say(`${backend}: ${error.message}`);
  }
}

function sure(text) {
  at("ask-text").textContent = text;
  const dialog = at("ask");
  return new Promise((answer) => {
    at("ask-yes").onclick = () => dialog.close("yes");
    at("ask-no").onclick = () => dialog.close("no");
    dialog.returnValue = "no";
    dialog.onclose = () => answer(dialog.returnValue === "yes");
    dialog.showModal();
    at("ask-no").focus();
  });
}

function say(text) {
  // It is read aloud whenever it is written.
  if (at("status").textContent !== text) at("status").textContent = text;
}

function login() {
  if (!at("login").open) at("login").showModal();
}

function take(kind, data) {
  // Numbered, as things that happen have no other name.
  const first = (all) => [{ ...data, kind, number: (arrived += 1) }, ...all].slice(0, KEPT);
  if (kind === "fleet") known.fleet = data;
  else if (kind === "live") known.live = data.turns;
  else if (kind === "request") known.requests = first(known.requests);
  else if (kind === "intervention" || kind === "policy") known.happened = first(known.happened);
  if (kind !== "fleet" && kind !== "live") {
    news = true;
    return;
  }
  say("live");
  const view = views[shown.name];
  if (view.live) draw();
  if (view.polls && (news || view.polls === "always") && Date.now() - (shown.polled ?? 0) > POLL_MS) poll();
}

async function listen() {
  for (;;) {
    try {
      await events(take);
      say("the gateway has ended the stream");
    } catch (error) {
      if (error instanceof Refused && error.status === 401) {
        say("a token is needed");
        return login();
      }
      say("the gateway does not answer");
    }
    await new Promise((later) => setTimeout(later, RETRY_MS));
  }
}

function keys(event) {
  if (event.target.matches("input") || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  if (event.key === "/") {
    event.preventDefault();
    at("request-id").focus();
  } else if (TABS[Number(event.key) - 1]) {
    location.hash = TABS[Number(event.key) - 1];
    at("view").focus();
  }
}

function theme() {
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const now = document.documentElement.dataset.theme ?? (dark ? "dark" : "light");
  document.documentElement.dataset.theme = now === "dark" ? "light" : "dark";
}

addEventListener("hashchange", open);
addEventListener("pointerdown", (event) => {
  if (event.button === 0) pressed = Date.now();
});
for (const end of ["pointerup", "pointercancel", "blur"]) {
  addEventListener(end, () => {
    // What is pressed has its click first.
    setTimeout(() => (pressed = 0));
  });
}
addEventListener("keydown", keys);
at("theme").addEventListener("click", theme);
at("search").addEventListener("submit", (event) => {
  event.preventDefault();
  const id = at("request-id").value.trim();
  if (id) location.hash = `request/${encodeURIComponent(id)}`;
});
at("login-form").addEventListener("submit", () => {
  setToken(at("token").value);
  at("token").value = "";
  open();
  listen();
});
open();
listen();
