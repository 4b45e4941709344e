import assert from "node:assert/strict";
import { describe, test } from "node:test";
import Anthropic from "@anthropic-ai/sdk";
import * as support from "./support.mjs";

const { collect, hasGateway, model, needsGateway, until, url } = support;
const client = new Anthropic({ baseURL: url, apiKey: "sk-test", maxRetries: hasGateway ? 0 : 2, timeout: 120_000 });

const { name, description, parameters } = support.weatherTool.function;
const weatherTool = { name, description, input_schema: parameters };

/** One greedy, short message. */
const ask = (messages, fields = {}) => client.messages.create({ model, messages, max_tokens: 24, temperature: 0, ...fields });

function weather() {
  const rounds = ["London", "Rome"].flatMap((city) => [
    { role: "user", content: `What is the weather in ${city} in c?` },
    {
      role: "assistant",
      content: [{ type: "tool_use", id: `toolu_${city}`, name: "get_weather", input: { city, unit: "c" } }],
    },
    { role: "user", content: [{ type: "tool_result", tool_use_id: `toolu_${city}`, content: "20" }] },
    { role: "assistant", content: `It is 20 C in ${city}.` },
  ]);
  return [...rounds, { role: "user", content: "What is the weather in Paris in c?" }];
}

describe("messages", () => {
  test("an answer has the documented shape", async () => {
    const answer = await ask(support.counting());
    assert.equal(answer.type, "message");
    assert.equal(answer.stop_reason, "end_turn");
    assert.equal(answer.content.length, 1);
    assert.equal(answer.content[0].text.trim(), "1, 2, 3, 4, 5.");
  });

  test("a stop sequence is named", needsGateway, async () => {
    const answer = await ask(support.counting(), { stop_sequences: [" 4"] });
    assert.equal(answer.stop_reason, "stop_sequence");
    assert.equal(answer.stop_sequence, " 4");
    assert.equal(answer.content[0].text.trim(), "1, 2, 3,");
  });

  test("the SDK accumulates the stream", async () => {
    const stream = client.messages.stream({ model, messages: support.counting(), max_tokens: 24, temperature: 0 });
    const final = await stream.finalMessage();
    assert.equal(final.content[0].text.trim(), "1, 2, 3, 4, 5.");
    assert.equal(final.stop_reason, "end_turn");
  });

  test("stream events are in order", async () => {
    const events = await collect(await ask(support.counting(), { stream: true }));
    const kinds = events.map((e) => e.type).filter((t) => t !== "ping" && t !== "content_block_delta");
    const expected = ["message_start", "content_block_start", "content_block_stop", "message_delta", "message_stop"];
    assert.deepEqual(kinds, expected);
  });

  test("leaving a stream frees the slot", async () => {
    const story = [{ role: "user", content: "Write a very long story about a llama. Never stop." }];
    const stream = await ask(story, { stream: true, max_tokens: 3000 });
    let seen = 0;
    for await (const _ of stream) if (++seen === 5) break;
    stream.controller.abort();
    assert.equal(await support.waitForBusySlots(0, 6000), 0);
  });

  test("counted tokens are the ones charged", async () => {
    const request = { model, messages: support.counting(), system: "You count." };
    const { input_tokens: counted } = await client.messages.countTokens(request);
    const { usage } = await client.messages.create({ ...request, max_tokens: 4 });
    assert.equal(usage.input_tokens + (usage.cache_read_input_tokens ?? 0), counted);
  });
});

describe("message tools", () => {
  for (const type of ["auto", "any"]) {
    test(`a call in an answer and in a stream, ${type}`, async () => {
      const request = { model, messages: weather(), tools: [weatherTool], tool_choice: { type }, max_tokens: 60 };
      const asks = [
        (sampling) => client.messages.create({ ...request, ...sampling }),
        (sampling) => client.messages.stream({ ...request, ...sampling }).finalMessage(),
      ];
      for (const once of asks) {
        const call = await until(async ({ temperature }) => {
          const answer = await once({ temperature });
          const found = answer.content.find((block) => block.type === "tool_use");
          assert.equal(answer.stop_reason === "tool_use", Boolean(found));
          return found;
        });
        assert.equal(call.name, "get_weather");
        assert.deepEqual(call.input, { city: "Paris", unit: "c" });
      }
    });
  }
});

describe("message errors", needsGateway, () => {
  test("a context overflow makes clients compact", async () => {
    const tooLong = [{ role: "user", content: "llama ".repeat(6000) }];
    await assert.rejects(ask(tooLong), (error) => {
      assert.ok(error instanceof Anthropic.BadRequestError);
      assert.match(error.message, /prompt is too long|exceeds the available context size/);
      assert.equal(error.error.error.type, "invalid_request_error");
      return true;
    });
  });

  test("an unknown model", async () => {
    await assert.rejects(ask(support.counting(), { model: "no-such-model" }), Anthropic.NotFoundError);
  });

  test("models in the caller's shape", async () => {
    const ids = [];
    for await (const item of client.models.list()) ids.push(item.id);
    assert.ok(ids.includes(model));
  });
});
