// The official SDKs against a running gateway with real llama-servers behind it; ../python/conftest.py says
// which environment variables tell where.

import OpenAI from "openai";

export const url = process.env.DROVER_URL;
export const model = process.env.DROVER_MODEL;
export const backends = process.env.DROVER_BACKENDS.split(",");
export const hasGateway = Boolean(process.env.DROVER_ADMIN_URL);
export const needsGateway = { skip: hasGateway ? false : "runs against a llama-server without a gateway" };

// No retries: a test must see the first answer. (A llama-server itself closes a connection after 100 requests, under
// the feet of a client that has just sent the next one; the gateway must hide that.)
const maxRetries = hasGateway ? 0 : 2;
export const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: "sk-test", maxRetries, timeout: 120_000 });

/** One greedy, short chat completion. */
export function chat(messages, fields = {}, options = undefined) {
  return client.chat.completions.create({ model, messages, temperature: 0, max_tokens: 24, ...fields }, options);
}

/** A conversation in which even a tiny model answers `1, 2, …, to.`, because it did so before. */
export function counting(to = 5) {
  const question = { role: "user", content: `Count from 1 to ${to}.` };
  const numbers = Array.from({ length: to }, (_, i) => i + 1).join(", ");
  const answer = { role: "assistant", content: `${numbers}.` };
  return [question, answer, question, answer, question];
}

export const weatherTool = {
  type: "function",
  function: {
    name: "get_weather",
    description: "Get the weather for a city",
    parameters: {
      type: "object",
      properties: { city: { type: "string", maxLength: 12 }, unit: { type: "string", enum: ["c", "f"] } },
      required: ["city", "unit"],
      additionalProperties: false,
    },
  },
};

/** A conversation in which a tiny model calls the tool, because it did so twice before. */
export function weather() {
  const rounds = ["London", "Rome"].flatMap((city) => [
    { role: "user", content: `What is the weather in ${city} in c?` },
    {
      role: "assistant",
      content: "",
      tool_calls: [
        {
          id: `call_${city}`,
          type: "function",
          function: { name: "get_weather", arguments: `{"city": "${city}", "unit": "c"}` },
        },
      ],
    },
    { role: "tool", tool_call_id: `call_${city}`, content: "20" },
    { role: "assistant", content: `It is 20 C in ${city}.` },
  ]);
  return [...rounds, { role: "user", content: "What is the weather in Paris in c?" }];
}

/** Greedy decoding differs between a cold and a cached prompt, and a model this small may talk instead: ask again. */
export async function until(ask, tries = 4) {
  for (let attempt = 0; attempt < tries; attempt++) {
    const result = await ask({ temperature: attempt < 2 ? 0 : 0.4, seed: attempt });
    if (result) return result;
  }
  throw new Error(`no tool call in ${tries} answers`);
}

export async function collect(stream) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return chunks;
}

export const textOf = (chunks) => chunks.map((c) => c.choices[0]?.delta.content ?? "").join("");

/** Waits until so many slots of all backends work; polls slowly, as quick polling blinds llama-server to lost clients. */
export async function waitForBusySlots(count, timeoutMs) {
  const deadline = Date.now() + timeoutMs;
  for (;;) {
    const lists = await Promise.all(backends.map(async (b) => (await fetch(`${b}/slots`)).json()));
    const busy = lists.flat().filter((slot) => slot.is_processing).length;
    if (busy === count || Date.now() > deadline) return busy;
    await new Promise((resolve) => setTimeout(resolve, 1500));
  }
}
