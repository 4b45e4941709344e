// What each view shows. A view is a function of what is known; `load` fetches what it needs besides.

import { call } from "./api.js";
import { asked, clock, facts, h, narrowed, number, percent, seconds, table, toRequest, toRequests, toSession } from "./dom.js";

export { rollouts } from "./rollouts.js";

// What is older is in the sessions.
const SHOWN = 24;

const STATES = { ready: "good", busy: "good", loading: "warn", unknown: "warn", wedged: "bad", down: "bad" };
const figure = (value, digits = 1) => (value === null || value === undefined ? "" : value.toFixed(digits));
const OUTCOMES = { ok: "good", client_gone: "soft", client_error: "warn", denied: "warn" };

export const fleet = {
  title: "Fleet",
  live: true,
  show(known, act) {
    const now = known.fleet;
    if (!now) return [h("p", { class: "soft" }, "Waiting for the gateway …")];
    const pools = [...new Set(now.backends.map((backend) => backend.pool))];
    return [
      now.draining ? h("p", { class: "warn" }, "This gateway is draining: it takes no new connections.") : null,
      h("p", { class: "soft" }, `Drover ${now.version} · ${number(now.sessions)} sessions · ${known.live.length} turns under way`),
      pools.map((pool) => h("section", { key: pool },
        h("h2", {}, pool, " ", h("span", { class: "soft" }, waiting(now, pool))),
        h("div", { class: "cards" }, now.backends.filter((b) => b.pool === pool).map((b) => backend(b, act))))),
    ];
  },
};

function waiting(now, pool) {
  const parts = now.queues.filter((queue) => queue.pool === pool && queue.waiting).map((queue) => `${queue.waiting} ${queue.class}`);
  return parts.length ? `${parts.join(", ")} waiting` : "nobody waits";
}

function backend(b, act) {
  const slots = b.total_slots ?? 0;
  const busy = Math.max(b.inflight + b.other_slots, b.idle_slots === null ? 0 : slots - b.idle_slots);
  const others = Math.min(b.other_slots, busy);
  const held = (n) => (n < busy - others ? "slot busy" : n < busy ? "slot other" : "slot");
  const squares = Array.from({ length: Math.min(slots, 64) }, (_, n) => h("span", { class: held(n) }));
  const marks = [b.draining && "draining", b.leaving && "leaving", b.ejected && "ejected"].filter(Boolean).join(", ");
  const action = b.draining ? "undrain" : "drain";
  return h("section", { key: b.id, class: "card", "data-backend": b.id },
    h("h3", {}, b.id, h("span", { class: STATES[b.state] ?? "" }, marks ? `${b.state}, ${marks}` : b.state)),
    h("div", { class: "slots", role: "img", "aria-label": `${busy} of ${slots} slots busy${others ? `, ${others} with requests of others` : ""}` }, squares),
    b.kv_used === null ? null : h("label", { class: "soft" }, `cache warm: ${percent(b.kv_used)}`, h("meter", { min: 0, max: 1, value: b.kv_used })),
    facts({ "in flight": `${b.inflight}`, "slots of others": b.other_slots ? number(b.other_slots) : null, address: b.address, build: b.build, model: b.model, profile: b.profile, context: b.n_ctx && number(b.n_ctx), trouble: b.trouble }),
    h("button", { type: "button", "data-action": action, onClick: () => act(b.id, action) }, b.draining ? "Take back" : "Drain"));
}

const REQUESTS = [
  ["when", (r) => clock(r.time)],
  ["request", (r) => toRequest(r.request_id)],
  ["outcome", (r) => h("span", { class: OUTCOMES[r.outcome] ?? "bad" }, r.outcome)],
  ["model", (r) => r.model],
  ["backend", (r) => r.backend],
  ["session", (r) => toSession(r.session)],
  ["first token", (r) => seconds(r.ttft_ms), "number"],
  ["total", (r) => seconds(r.total_ms), "number"],
  ["in / cached / out", (r) => (r.tokens_in ? `${number(r.tokens_in)} / ${number(r.tokens_cached)} / ${number(r.tokens_out)}` : ""), "number"],
  ["attempts", (r) => r.attempts, "number"],
  ["guards", (r) => (r.interventions ?? []).join(", "), "wide"],
];

export const live = {
  title: "Live",
  live: true,
  show(known) {
    return [
      h("h2", {}, "Turns under way"),
      table([
        ["since", (t) => seconds(Date.now() - t.since_ms), "number"],
        ["request", (t) => toRequest(t.request_id)],
        ["dialect", (t) => t.dialect],
        ["model", (t) => t.model],
        ["backend", (t) => t.backend ?? "waiting"],
        ["attempts", (t) => t.attempts, "number"],
        ["session", (t) => toSession(t.session)],
      ], known.live, "None.", (t) => `${t.request_id} ${t.since_ms}`),
      h("h2", {}, "Loops, repairs and decisions of policy"),
      happened(known.happened),
      h("h2", {}, "Last requests"),
      table(REQUESTS, known.requests, "None since this page was opened.", (r) => r.number),
    ];
  },
};

function happened(all) {
  if (!all.length) return h("p", { class: "soft" }, "None since this page was opened.");
  const line = (one) => h("li", { key: one.number },
    h("span", { class: "soft" }, clock(one.at), " "),
    one.kind === "policy"
      ? [h("b", { class: one.decision === "block" ? "bad" : "warn" }, `${one.decision} `), `${one.rule} `, one.tool ? `${one.tool} ` : "", one.mode === "dry_run" ? "(dry run) " : "", one.reason ? `${one.reason} ` : ""]
      : [h("b", { class: "warn" }, `${one.what} `), one.mode === "observe" ? "(observed) " : ""],
    toRequest(one.request_id));
  return h("ol", { class: "timeline" }, all.slice(0, SHOWN).map(line));
}

const ORDERS = { latest: "the latest", total: "the longest", ttft: "the longest to their first token", overhead: "those with most time of the gateway itself" };

export const requests = {
  title: null,
  polls: "news",
  load: async (about) => {
    const query = new URLSearchParams(asked(about));
    query.set("limit", "200");
    return { about: asked(about), requests: (await call(`/api/requests?${query}`)).requests };
  },
  show(known, act, { about, requests: all }) {
    const { order = "latest", from, to, ...by } = about;
    const between = from || to ? ` between ${clock(Number(from ?? 0))} and ${clock(Number(to ?? Date.now()))}` : "";
    return [
      h("h2", {}, `Requests${between}`),
      narrowed("requests", by),
      h("p", {}, "First ", Object.entries(ORDERS).map(([name, text], n) => [n ? " · " : "", name === order ? h("b", {}, text) : toRequests({ ...about, order: name }, text)])),
      table([...REQUESTS.slice(0, 5), ["profile", (r) => r.profile], ["build", (r) => r.build], ["class", (r) => r.class], ...REQUESTS.slice(5)], all, "None of those that are remembered.", (r) => `${r.request_id} ${r.time}`),
    ];
  },
};

export const sessions = {
  title: "Sessions",
  polls: "news",
  load: () => call("/api/sessions?limit=200"),
  show(known, act, { total, sessions: all }) {
    return [
      h("p", { class: "soft" }, `${number(total)} remembered, the last ${all.length} of them`),
      table([
        ["session", (s) => toSession(s.id)],
        ["last seen", (s) => clock(s.last_seen)],
        ["of", (s) => s.principal],
        ["known by", (s) => s.field ?? s.source],
        ["turns", (s) => number(s.turns), "number"],
        ["a minute", (s) => number(s.requests_per_minute), "number"],
        ["conversations", (s) => number(s.lineage_count), "number"],
        ["interventions", (s) => number(s.intervention_count), "number"],
        ["in / cached / out", (s) => `${number(s.tokens_in)} / ${number(s.tokens_cached)} / ${number(s.tokens_out)}`, "number"],
      ], all, "No session is remembered.", (s) => s.id),
    ];
  },
};

/** What there is to say of a turn in one line. */
function turn(r) {
  const ran = r.profile ? ` · profile ${r.profile}` : "";
  const kind = r.class ? ` · ${r.class}` : "";
  return `${r.outcome} · ${r.backend ?? "no backend"}${ran}${kind} · ${seconds(r.total_ms)} · ${number(r.tokens_in)} in, ${number(r.tokens_cached)} cached, ${number(r.tokens_out)} out`;
}

export const session = {
  title: null,
  polls: "news",
  load: async (id) => {
    const at = encodeURIComponent(id);
    const [view, list] = await Promise.all([call(`/api/sessions/${at}`), call(`/api/requests?limit=200&session=${at}`)]);
    return { view, requests: list.requests };
  },
  show(known, act, { view, requests }) {
    const entry = (at, request_id, kind, text) => ({ at, request_id, kind, text });
    const done = view.interventions.map((one) => entry(one.at, one.request_id, "warn", `${one.kind}${one.mode === "observe" ? " (observed)" : ""}`));
    const ended = (r) => new Date(Date.parse(r.time) + r.total_ms).toISOString();
    const turns = requests.map((r) => entry(ended(r), r.request_id, OUTCOMES[r.outcome] === "good" ? "" : OUTCOMES[r.outcome] ?? "bad", turn(r)));
    const decision = (one) => `policy: ${one.decision} ${one.rule}${one.tool ? ` of ${one.tool}` : ""}${one.reason ? `: ${one.reason}` : ""}${one.mode === "dry_run" ? " (dry run)" : ""}`;
    const decided = (view.decisions ?? []).map((one) => entry(one.at, one.request_id, one.decision === "block" ? "bad" : "warn", decision(one)));
    const came = (call) => (call.result ? `${call.failed ? "failed, " : ""}result ${call.result}` : "no result");
    const calls = (view.calls ?? []).map((one) => entry(one.at, one.request_id, one.failed ? "warn" : "", `call of ${one.tool} ${one.call}: ${came(one)}`));
    const timeline = [...turns, ...calls, ...done, ...decided].sort((a, b) => b.at.localeCompare(a.at));
    return [
      h("h2", {}, `Session ${view.id}`),
      facts({ of: view.principal, "known by": view.field ?? view.source, "first seen": clock(view.first_seen), "last seen": clock(view.last_seen), turns: number(view.turns), retries: number(view.retries) }),
      h("h2", {}, "Conversations"),
      table([
        ["conversation", (l) => l.id], ["kind", (l) => l.kind], ["lives on", (l) => l.backend], ["turns", (l) => number(l.turns), "number"],
        ["messages", (l) => number(l.messages), "number"], ["left out", (l) => number(l.messages_left_out), "number"],
        ["loop protection", (l) => l.loop_protection?.rung ?? l.loop_protection?.phase ?? ""],
      ], view.lineages, "None."),
      view.policy ? [h("h2", {}, "Policy"), h("pre", {}, JSON.stringify(view.policy, null, 2))] : null,
      h("h2", {}, "Timeline"),
      h("ol", { class: "timeline" }, timeline.map((one) => h("li", { key: `${one.at} ${one.request_id} ${one.text}` }, h("span", { class: "soft" }, clock(one.at), " "), h("span", { class: one.kind }, one.text), " ", toRequest(one.request_id)))),
    ];
  },
};

const CANDIDATES = [
  ["backend", (c) => c.backend], ["", (c) => h("span", { class: c.standing === "chosen" ? "good" : "" }, c.standing)],
  ["in flight", (c) => number(c.inflight), "number"], ["of others", (c) => number(c.others), "number"], ["slots", (c) => number(c.slots), "number"], ["warm conversations", (c) => number(c.warm), "number"],
  ["load", (c) => figure(c.load, 2), "number"], ["within bound", (c) => (c.within_bound ? "yes" : "no")], ["affinity", (c) => figure(c.affinity, 2), "number"],
];

/** One choice of a backend for each attempt, and what each candidate had to say for itself. */
function explanation(explained) {
  const one = (d, n) => [
    h("h3", {}, `Attempt ${n + 1}: ${d.chosen}, because: ${d.reason}`),
    facts({
      "has its cache": d.sticky, "left to the main conversation": d.spare, "expected from the cache": `${number(d.predicted_cached_tokens)} tokens`,
      waited: d.waited && `${d.waited.seconds.toFixed(2)} s behind ${d.waited.ahead}`,
      "asked for": d.spec && `${d.spec.asked} (${d.spec.cause})${d.spec.unserved ? `, not met: ${d.spec.unserved}` : ""}`,
    }),
    table(CANDIDATES, d.candidates, "There was none."),
  ];
  const found = explained.prompt_tokens === null ? null : h("p", {}, `The prompt had ${number(explained.prompt_tokens)} tokens; ${number(explained.cached_tokens)} of them were found in the cache.`);
  return [found, explained.decisions.map(one), h("details", {}, h("summary", {}, "As JSON"), h("pre", { id: "explained" }, JSON.stringify(explained, null, 2)))];
}

export const request = {
  title: null,
  load: (id) => call(`/api/requests/${encodeURIComponent(id)}`),
  show(known, act, { request: r, explained, interventions }) {
    const plain = Object.fromEntries(Object.entries(r).filter(([, value]) => typeof value !== "object").map(([key, value]) => [key, `${value}`]));
    return [
      h("h2", {}, "Request ", h("span", { class: OUTCOMES[r.outcome] ?? "bad" }, r.outcome)),
      h("p", {}, r.session ? ["Session ", toSession(r.session)] : "It belongs to no session."),
      facts(plain),
      h("h2", {}, "What guards did"),
      table([["kind", (i) => i.kind], ["mode", (i) => i.mode], ["attempt", (i) => `${i.attempt}`, "number"], ["before", (i) => i.before?.text ?? "", "wide"], ["after", (i) => i.after?.text ?? "", "wide"]], interventions, "Nothing."),
      h("h2", {}, "What policy decided"),
      (r.policy ?? []).length ? h("ul", {}, r.policy.map((text) => h("li", { class: text.startsWith("block") ? "bad" : "warn" }, text))) : h("p", { class: "soft" }, "Nothing."),
      h("h2", {}, "Why it went where it went"),
      explained ? explanation(explained) : h("p", { class: "soft" }, "Not remembered."),
    ];
  },
};

const blame = (b) => `${b.dimension} ${b.value} (${percent(b.share)})`;

export const spec = {
  title: "Speculation",
  polls: "news",
  load: async (about) => {
    const [strata, found] = await Promise.all([call("/api/spec"), call("/api/spec/findings")]);
    const by = asked(about);
    const fits = (row) => Object.entries(by).every(([key, value]) => row[key] === undefined || row[key] === value);
    // What accepts least comes first.
    const worst = (a, b) => (a.acceptance ?? 2) - (b.acceptance ?? 2);
    return { by, backends: strata.backends.filter(fits), timeline: strata.timeline.filter(fits), strata: strata.strata.filter(fits).sort(worst), findings: found.findings.filter((f) => fits(f.place)) };
  },
  show(known, act, { by, strata, backends, timeline, findings }) {
    return [
      narrowed("spec", by),
      h("h2", {}, "Findings"),
      table([
        ["finding", (f) => h("b", { class: "bad" }, f.signature)], ["backend", (f) => f.place.backend],
        ["profile", (f) => f.place.profile], ["build", (f) => f.place.build],
        ["evidence", (f) => f.evidence, "wide"], ["explained by", (f) => f.blames.slice(0, 3).map(blame).join(", "), "wide"],
        ["likely cause", (f) => f.cause, "wide"], ["what to do", (f) => f.remedy, "wide"],
      ], findings, "Nothing has become worse.", (f) => [f.signature, f.place.backend, f.place.profile, f.place.build, f.evidence.split(":")[0]].join(" ")),
      h("h2", {}, "What changed on backends"),
      table([
        ["when", (e) => new Date(e.at * 1000).toLocaleString()], ["backend", (e) => e.backend], ["pool", (e) => e.pool],
        ["what", (e) => e.changes.map((c) => (c.from === null ? `${c.what} ${c.to}` : `${c.what}: ${c.from} → ${c.to}`)).join(", "), "wide"],
      ], timeline.slice(0, 50), "Nothing is known yet.", (e) => `${e.at} ${e.backend}`),
      h("h2", {}, "Backends"),
      table([
        ["backend", (b) => b.backend], ["profile", (b) => b.profile], ["build", (b) => b.build], ["model", (b) => b.model], ["flags", (b) => b.flags],
        ["honours off", (b) => b.honours_off], ["drafts", (b) => (b.drafts ? number(b.drafts.drafts) : ""), "number"],
        ["held at position 1, 2, …", (b) => b.acceptance_by_position.slice(0, 8).map(percent).join(" "), "wide"],
      ], backends, "There is no backend.", (b) => b.backend),
      h("h2", {}, "By backend, profile, build and kind of request"),
      h("p", { class: "soft" }, "What accepts least comes first; a class leads to its requests. Means of rates are geometric. Busy: requests on the backend when the turn began."),
      table([
        ["backend", (r) => r.backend], ["profile", (r) => r.profile], ["build", (r) => r.build], ["class", (r) => toRequests({ pool: r.pool, backend: r.backend, profile: r.profile, build: r.build, class: r.class }, r.class)],
        ["busy", (r) => (r.busy > 2 ? `${r.busy}+` : `${r.busy}`), "number"], ["turns", (r) => number(r.turns), "number"],
        ["tokens/s", (r) => figure(r.decode_tokens_per_second), "number"], ["prompt tokens/s", (r) => figure(r.prefill_tokens_per_second), "number"],
        ["accept length", (r) => figure(r.accept_length, 2), "number"], ["accepted", (r) => (r.acceptance === null ? "" : percent(r.acceptance)), "number"],
        ["rolled back", (r) => number(r.drafts.drafted - r.drafts.accepted), "number"], ["asked again", (r) => number(r.malformed), "number"],
      ], strata, "No turn has been answered yet.", (r) => [r.pool, r.backend, r.profile, r.build, r.class, r.busy].join(" ")),
    ];
  },
};

export const config = {
  title: "Configuration",
  load: () => call("/api/config"),
  show: (known, act, effective) => [h("p", { class: "soft" }, "In effect now, secrets redacted."), h("pre", { id: "config" }, JSON.stringify(effective, null, 2))],
};
