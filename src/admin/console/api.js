// Talking to the gateway. The token lives as long as the tab, and is never in an address.

const KEY = "drover-admin-token";

export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export const setToken = (token) => sessionStorage.setItem(KEY, token);

function ask(path, method) {
  const token = sessionStorage.getItem(KEY);
  const headers = token ? { authorization: `Bearer ${token}` } : {};
  return fetch(path, { method, headers, cache: "no-store", credentials: "omit" });
}

/** JSON of an endpoint. */
export async function call(path, method = "GET") {
  const response = await ask(path, method);
  const body = await response.json().catch(() => ({}));
  if (!response.ok) throw new Refused(response.status, body.error?.message ?? `status ${response.status}`);
  return body;
}

/** Server-sent events; `fetch` and not EventSource, which cannot send a token. Returns when the stream ends. */
export async function events(take) {
  const response = await ask("/api/events", "GET");
  if (!response.ok) throw new Refused(response.status, `status ${response.status}`);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let pending = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (pending + value).split("\n\n");
    pending = parts.pop();
    for (const part of parts) {
      const [kind, data] = part.split("\n");
      take(kind.slice("event: ".length), JSON.parse(data.slice("data: ".length)));
    }
  }
}
