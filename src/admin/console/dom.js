// Trees of elements without markup: texts of clients and models can only ever become text. What is on the page is changed
// to match a new tree (by Preact), not made anew: what has the focus, is selected or is being pressed stays what it is. Rows
// of lists have keys for that.

import { h } from "./preact.js";

export { h };

/** A table; columns are [title, cell of a row, class], `key` names a row. */
export function table(columns, rows, none, key) {
  if (!rows.length) return h("p", { class: "soft" }, none);
  const head = h("tr", {}, columns.map(([title, , kind]) => h("th", { class: kind, scope: "col" }, title)));
  const line = (row) => h("tr", { key: key?.(row) }, columns.map(([, cell, kind]) => h("td", { class: kind }, cell(row) ?? "")));
  return h("div", { class: "scroll" }, h("table", {}, h("thead", {}, head), h("tbody", {}, rows.map(line))));
}

/** What is known, by name. */
export function facts(pairs) {
  return h("dl", {}, Object.entries(pairs).filter(([, value]) => value !== null && value !== undefined && value !== "").flatMap(([key, value]) => [h("dt", { key: `${key}?` }, key), h("dd", { key }, value)]));
}

export const number = (value) => (value === null || value === undefined ? "" : Number(value).toLocaleString("en"));
export const seconds = (ms) => (ms === null || ms === undefined ? "" : ms < 10000 ? `${(ms / 1000).toFixed(2)} s` : `${Math.round(ms / 1000)} s`);
export const clock = (time) => (time ? new Date(time).toLocaleTimeString() : "");
export const percent = (share) => (share === null || share === undefined ? "" : `${Math.round(share * 100)} %`);
export const toRequest = (id) => h("a", { href: `#request/${encodeURIComponent(id)}` }, id.slice(-12));
export const toSession = (id) => (id ? h("a", { href: `#session/${encodeURIComponent(id)}` }, id.slice(0, 12)) : "");

/** `KEY=VALUE&…` behind the name of a view, such as an alert's link has: what it is narrowed to. */
export const asked = (about) => Object.fromEntries([...new URLSearchParams(about ?? "")].filter(([, value]) => value));
export const toRequests = (by, text) => h("a", { href: `#requests/${new URLSearchParams(asked(by))}` }, text);

/** Says what a view is narrowed to, and leads to all of it. */
export function narrowed(view, by) {
  const said = Object.entries(by).map(([key, value]) => `${key} ${value}`);
  return said.length ? h("p", { class: "warn" }, `Only ${said.join(", ")}. `, h("a", { href: `#${view}` }, "Show all")) : null;
}
