import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { collect, client, counting, model, needsGateway, until, weatherTool } from "./support.mjs";

const COUNTED = "1, 2, 3, 4, 5.";

/** One greedy, short response. */
function respond(input, fields = {}) {
  return client.responses.create({ model, input, temperature: 0, max_output_tokens: 24, store: false, ...fields });
}

const tool = { type: "function", strict: true, ...weatherTool.function };

/** A conversation in which a tiny model calls the tool, because it did so before; `pairs` of cities at once. */
function weather(rounds = [["London"], ["Rome"]], ask = ["Paris"]) {
  const question = (cities) => ({ role: "user", content: `What is the weather in ${cities.join(" and ")} in c?` });
  const items = rounds.flatMap((cities) => [
    question(cities),
    ...cities.map((city) => ({
      type: "function_call",
      call_id: `call_${city}`,
      name: "get_weather",
      arguments: `{"city": "${city}", "unit": "c"}`,
    })),
    ...cities.map((city) => ({ type: "function_call_output", call_id: `call_${city}`, output: "20" })),
    { role: "assistant", content: `It is 20 C in ${cities.join(" and ")}.` },
  ]);
  return [...items, question(ask)];
}

const callsOf = (response) => response.output.filter((item) => item.type === "function_call");

/** Sampling for `until`, without what the Responses API does not know by name. */
const untilCalls = (ask, atLeast = 1) =>
  until(async ({ temperature }) => {
    const response = await ask({ temperature });
    return callsOf(response).length >= atLeast ? response : undefined;
  }, 6);

describe("responses", needsGateway, () => {
  test("an answer has the documented shape", async () => {
    const response = await respond(counting());
    assert.equal(response.object, "response");
    assert.equal(response.status, "completed");
    assert.equal(response.output_text.trim(), COUNTED);
    assert.equal(response.usage.total_tokens, response.usage.input_tokens + response.usage.output_tokens);
  });

  test("events are numbered, and the last is the whole", async () => {
    const events = await collect(await respond(counting(), { stream: true }));
    assert.deepEqual(events.map((e) => e.sequence_number), events.map((_, i) => i));
    assert.equal(events[0].type, "response.created");
    assert.equal(events.at(-1).type, "response.completed");
  });

  test("the SDK accumulates the stream", async () => {
    const stream = client.responses.stream({ model, input: counting(), temperature: 0, max_output_tokens: 24 });
    const final = await stream.finalResponse();
    assert.equal(final.output_text.trim(), COUNTED);
  });

  test("the limit makes it incomplete", async () => {
    const response = await respond(counting(9), { max_output_tokens: 4 });
    assert.equal(response.status, "incomplete");
    assert.equal(response.incomplete_details.reason, "max_output_tokens");
  });

  test("a tool round", async () => {
    const input = weather();
    const fields = { tools: [tool], max_output_tokens: 60 };
    const response = await untilCalls((sampling) => respond(input, { ...fields, ...sampling }));
    const calls = callsOf(response);
    assert.deepEqual(JSON.parse(calls[0].arguments), { city: "Paris", unit: "c" });
    const results = calls.map((call) => ({ type: "function_call_output", call_id: call.call_id, output: "20" }));
    const answer = await respond([...input, ...response.output, ...results], fields);
    assert.match(answer.output_text, /Paris/);
  });

  test("parallel calls in the accumulated stream", async () => {
    const input = weather([["London", "Rome"], ["Oslo", "Bern"]], ["Paris", "Cairo"]);
    const fields = { model, input, tools: [tool], parallel_tool_calls: true, max_output_tokens: 120 };
    const response = await untilCalls((sampling) => client.responses.stream({ ...fields, ...sampling }).finalResponse(), 2);
    const ids = new Set(callsOf(response).map((call) => call.call_id));
    assert.equal(ids.size, callsOf(response).length);
    for (const call of callsOf(response)) assert.equal(typeof JSON.parse(call.arguments).city, "string");
  });

  test("structured output", async () => {
    const schema = {
      type: "object",
      properties: { ok: { type: "boolean" } },
      required: ["ok"],
      additionalProperties: false,
    };
    const format = { type: "json_schema", name: "verdict", strict: true, schema };
    const response = await respond("Is it ok?", { text: { format } });
    assert.equal(typeof JSON.parse(response.output_text).ok, "boolean");
  });

  test("stored state is refused by name", async () => {
    await assert.rejects(respond("hi", { previous_response_id: "resp_1" }), (error) => {
      assert.equal(error.status, 400);
      assert.equal(error.param, "previous_response_id");
      return true;
    });
    await assert.rejects(client.responses.retrieve("resp_1"), (error) => error.status === 404);
  });
});
