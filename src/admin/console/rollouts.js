// Rollouts: where each is, how sure one can be of its differences, and what may be ordered.

import { call } from "./api.js";
import { clock, facts, h, number, percent, table } from "./dom.js";

const STATES = { running: "good", promoted: "good", waiting_capacity: "warn", waiting_crossover: "warn", paused: "warn", held: "warn", rolled_back: "bad", aborted: "bad" };
const VERDICTS = { successful: "good", inconclusive: "warn", failed: "bad", error: "bad" };
const ACTIVE = ["running", "waiting_capacity", "waiting_crossover", "paused", "held"];
/** What may be ordered: [order, label, question, when]. */
const ORDERS = [
  ["start", "Start", "Start it? Part of the sessions will go to the candidate.", (state) => !ACTIVE.includes(state)],
  ["pause", "Pause", "Pause it? The shares stay as they are.", (state) => ["running", "waiting_capacity", "waiting_crossover"].includes(state)],
  ["resume", "Resume", "Let it go on?", (state) => ["paused", "held"].includes(state)],
  ["promote", "Next step", "Go on to the next step, whatever is known?", (state) => ACTIVE.includes(state)],
  ["abort", "Abort", "Give all sessions back to the baseline?", (state) => ACTIVE.includes(state) || state === "promoted"],
];

const WIDTH = 320;
const HEIGHT = 34;
const METRICS = { decode_tps: "tokens/s", ttft: "first token" };

const signed = (share) => `${share > 0 ? "+" : share < 0 ? "−" : ""}${Math.abs(share * 100).toFixed(1)} %`;

/** The number in `-3%` or `> +5%`, as a share; none of null. */
const bound = (text) => (text ? Number(text.replace(/[>%\s]/g, "")) / 100 : null);

/** An interval on an axis of differences, with the bounds that decide. */
function interval(row, limits) {
  const ends = [row.low, row.high, row.difference, limits.harm, limits.better].filter((value) => value !== null);
  const most = Math.min(3, Math.max(0.1, ...ends.map(Math.abs)) * 1.15);
  const x = (share) => WIDTH / 2 + (Math.max(-most, Math.min(most, share)) / most) * (WIDTH / 2 - 4);
  const [low, high] = [x(row.low ?? -most), x(row.high ?? most)];
  const middle = HEIGHT / 2;
  const known = row.low !== null && row.high !== null;
  const said = known ? `${signed(row.low)} to ${signed(row.high)}` : "not known yet";
  const mark = (share, kind) => (share === null ? null : h("line", { class: kind, x1: x(share), x2: x(share), y1: 3, y2: HEIGHT - 3 }));
  return h("svg", { class: "interval", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `difference ${signed(row.difference)}, ${said}` },
    h("line", { class: "axis", x1: 2, x2: WIDTH - 2, y1: middle, y2: middle }),
    h("line", { class: "zero", x1: x(0), x2: x(0), y1: 3, y2: HEIGHT - 3 }),
    mark(limits.harm, "harm"), mark(limits.better, "better"),
    h("line", { class: known ? "range" : "range open", x1: low, x2: high, y1: middle, y2: middle }),
    known ? [h("line", { class: "range", x1: low, x2: low, y1: middle - 5, y2: middle + 5 }), h("line", { class: "range", x1: high, x2: high, y1: middle - 5, y2: middle + 5 })] : null,
    h("circle", { class: "mean", cx: x(row.difference), cy: middle, r: 4 }));
}

function differences(one) {
  const { promote_when: promote, never_worse: never } = one.config;
  const limits = {
    decode_tps: { harm: bound(never.decode_tps), better: bound(promote.decode_tps) },
    ttft: { harm: bound(never.ttft), better: null },
  };
  const range = (row) => (row.low === null ? "?" : `${signed(row.low)} … ${signed(row.high)}`);
  return table([
    ["class", (row) => row.class], ["busy", (row) => (row.busy > 2 ? `${row.busy}+` : `${row.busy}`), "number"],
    ["of", (row) => METRICS[row.metric] ?? row.metric],
    ["candidate − control", (row) => interval(row, limits[row.metric] ?? { harm: null, better: null })],
    ["mean", (row) => signed(row.difference), "number"], ["certain to be within", range, "number"],
    ["turns", (row) => `${number(row.candidate[1])} / ${number(row.control[1])}`, "number"],
  ], one.estimates, "No turn of both sides yet.");
}

function sides(one) {
  const side = (name, of) => [name, percent(one.shares[name]), number(of.sessions), number(of.turns), number(of.failed)];
  return table([
    ["side", (row) => row[0]], ["share", (row) => row[1], "number"], ["sessions", (row) => row[2], "number"],
    ["turns", (row) => row[3], "number"], ["failed", (row) => row[4], "number"],
  ], [side("candidate", one.candidate), side("control", one.control)], "");
}

function card(one, order) {
  const buttons = ORDERS.filter(([, , , when]) => when(one.state)).map(([what, label, question]) =>
    h("button", { key: what, type: "button", "data-order": what, onClick: () => order(one.name, what, `${one.name}: ${question}`) }, label));
  const subject = (of) => (typeof of === "string" ? `profile ${of}` : Object.entries(of).map((pair) => pair.join(" ")).join(", "));
  return h("section", { key: one.name, class: "card rollout", "data-rollout": one.name },
    h("h3", {}, one.name, h("span", { class: STATES[one.state] ?? "soft" }, one.state.replace("_", " "))),
    one.reason ? h("p", { class: STATES[one.state] ?? "" }, one.reason) : null,
    facts({
      tried: `${subject(one.config.candidate)} against ${subject(one.config.baseline)} (control ${one.control_backend}) in pool ${one.pool}`,
      step: `${one.step + 1} of ${one.steps}: ${one.config.steps.join(", ")}`,
      runs: one.step_seconds ? `${number(one.step_seconds)} s` : "",
      slots: `${one.capacity.candidate} of ${one.capacity.all} ready ones run the candidate`,
      hardware: one.fairness.because,
    }),
    h("p", { class: "orders" }, buttons),
    sides(one), differences(one),
    one.verdicts.length ? [h("h4", {}, "Verdicts"), h("ol", { class: "timeline" }, [...one.verdicts].reverse().map((judged) => h("li", { key: judged.judged_ms },
      h("span", { class: "soft" }, `${clock(judged.judged_ms)} `), h("b", { class: VERDICTS[judged.verdict] }, `step ${judged.step + 1}: ${judged.verdict} `), judged.reason)))] : null);
}

export const rollouts = {
  title: "Rollouts",
  polls: "always",
  load: async () => {
    const { rollouts: all } = await call("/api/rollouts");
    return Promise.all(all.map((one) => call(`/api/rollouts/${encodeURIComponent(one.name)}`)));
  },
  show(known, act, all, order) {
    if (!all.length) return [h("p", { class: "soft" }, "None is configured (spec.rollouts).")];
    return [
      h("p", { class: "soft" }, "Lines: no difference, harm that rolls back (red), what a promotion takes (green). Intervals hold however often one looks."),
      all.map((one) => card(one, order)),
    ];
  },
};
