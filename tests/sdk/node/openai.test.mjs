import assert from "node:assert/strict";
import { describe, test } from "node:test";
import OpenAI from "openai";
import * as support from "./support.mjs";

const { chat, client, collect, counting, model, needsGateway, textOf, until, weather, weatherTool } = support;

describe("chat completions", () => {
  test("an answer has the documented shape", async () => {
    const answer = await chat(counting());
    assert.equal(answer.object, "chat.completion");
    assert.equal(answer.choices.length, 1);
    assert.equal(answer.choices[0].finish_reason, "stop");
    assert.equal(answer.choices[0].message.role, "assistant");
    assert.equal(answer.choices[0].message.content.trim(), "1, 2, 3, 4, 5.");
    assert.equal(answer.usage.total_tokens, answer.usage.prompt_tokens + answer.usage.completion_tokens);
  });

  test("max_completion_tokens limits", async () => {
    const answer = await client.chat.completions.create({
      model,
      messages: counting(9),
      temperature: 0,
      max_completion_tokens: 4,
    });
    assert.equal(answer.choices[0].finish_reason, "length");
    assert.equal(answer.usage.completion_tokens, 4);
  });

  test("a developer message means a system message", async () => {
    const ask = (role) => chat([{ role, content: "You count." }, ...counting()]);
    const answers = [await ask("developer"), await ask("system")];
    assert.equal(answers[0].usage.prompt_tokens, answers[1].usage.prompt_tokens);
  });

  test("two choices", async () => {
    const answer = await chat(counting(), { n: 2 });
    assert.deepEqual(answer.choices.map((c) => c.index).sort(), [0, 1]);
  });

  test("a stop sequence ends the text before it", async () => {
    const answer = await chat(counting(), { stop: [" 4"] });
    assert.equal(answer.choices[0].message.content.trim(), "1, 2, 3,");
    assert.equal(answer.choices[0].finish_reason, "stop");
  });

  test("a JSON schema constrains", async () => {
    const schema = {
      type: "object",
      properties: { ok: { type: "boolean" } },
      required: ["ok"],
      additionalProperties: false,
    };
    const answer = await client.chat.completions.parse({
      model,
      messages: [{ role: "user", content: "Is water wet?" }],
      response_format: { type: "json_schema", json_schema: { name: "verdict", strict: true, schema } },
      temperature: 0,
      max_tokens: 40,
    });
    assert.equal(typeof JSON.parse(answer.choices[0].message.content).ok, "boolean");
  });

  test("unknown fields are no error", async () => {
    const answer = await chat(counting(), { a_field_of_tomorrow: { deep: [1, null] } });
    assert.ok(answer.choices[0].message.content);
  });
});

describe("streams", () => {
  test("chunks have the documented shape", async () => {
    const chunks = await collect(await chat(counting(), { stream: true }));
    assert.equal(chunks[0].choices[0].delta.role, "assistant");
    assert.equal(textOf(chunks).trim(), "1, 2, 3, 4, 5.");
    assert.equal(chunks.at(-1).choices[0].finish_reason, "stop");
    assert.ok(chunks.every((c) => !c.usage), "usage was not asked for");
  });

  test("the usage chunk is the last", async () => {
    const chunks = await collect(await chat(counting(), { stream: true, stream_options: { include_usage: true } }));
    assert.deepEqual(chunks.at(-1).choices, []);
    assert.ok(chunks.at(-1).usage.completion_tokens > 0);
    assert.equal(typeof chunks.at(-1).usage.prompt_tokens_details.cached_tokens, "number");
  });

  test("the SDK accumulates the stream", async () => {
    const stream = client.chat.completions.stream({ model, messages: counting(), temperature: 0, max_tokens: 24 });
    const final = await stream.finalChatCompletion();
    assert.equal(final.choices[0].message.content.trim(), "1, 2, 3, 4, 5.");
  });

  test("two choices", async () => {
    const chunks = await collect(await chat(counting(), { n: 2, stream: true }));
    const ended = chunks.flatMap((c) => c.choices).filter((c) => c.finish_reason);
    assert.deepEqual(ended.map((c) => c.index).sort(), [0, 1]);
  });

  test("stream and answer cost the same", async () => {
    // Brings the prompt into the cache of every backend first.
    for (let i = 0; i < 3 * support.backends.length; i++) await chat(counting());
    const whole = (await chat(counting())).usage;
    const chunks = await collect(await chat(counting(), { stream: true, stream_options: { include_usage: true } }));
    assert.deepEqual(chunks.at(-1).usage, whole);
    assert.ok(whole.prompt_tokens_details.cached_tokens > 0);
  });

  test("leaving frees the slot", async () => {
    const story = [{ role: "user", content: "Write a very long story about a llama. Never stop." }];
    const stream = await chat(story, { stream: true, max_tokens: 3000, frequency_penalty: 0.5 });
    let seen = 0;
    for await (const _ of stream) if (++seen === 5) break;
    stream.controller.abort();
    assert.equal(await support.waitForBusySlots(0, 6000), 0);
  });

  test("side by side", async () => {
    const texts = await Promise.all(
      [3, 4, 5, 3, 4, 5].map(async (to) => textOf(await collect(await chat(counting(to), { stream: true })))),
    );
    for (const text of texts) assert.match(text.trim(), /^1, 2, 3/);
  });
});

describe("tools", () => {
  const fields = { tools: [weatherTool], max_tokens: 60 };

  for (const tool_choice of ["auto", "required"]) {
    test(`a call, ${tool_choice}`, async () => {
      const call = await until(async (sampling) => {
        const [choice] = (await chat(weather(), { ...fields, tool_choice, ...sampling })).choices;
        assert.equal(choice.finish_reason === "tool_calls", Boolean(choice.message.tool_calls?.length));
        return choice.message.tool_calls?.[0];
      });
      assert.equal(call.function.name, "get_weather");
      assert.deepEqual(JSON.parse(call.function.arguments), { city: "Paris", unit: "c" });
    });

    test(`a call in a stream, ${tool_choice}`, async () => {
      const call = await until(async (sampling) => {
        const request = { model, messages: weather(), ...fields, tool_choice, ...sampling };
        const final = await client.chat.completions.stream(request).finalChatCompletion();
        return final.choices[0].message.tool_calls?.[0];
      });
      assert.ok(call.id);
      assert.equal(call.function.name, "get_weather");
      assert.deepEqual(JSON.parse(call.function.arguments), { city: "Paris", unit: "c" });
    });
  }

  test("a whole round trip by the SDK's tool runner", async () => {
    const asked = [];
    const tool = {
      type: "function",
      function: {
        ...weatherTool.function,
        parse: JSON.parse,
        function: (input) => {
          asked.push(input);
          return "20";
        },
      },
    };
    await until(async (sampling) => {
      const runner = client.chat.completions.runTools(
        { model, messages: weather(), ...fields, tools: [tool], ...sampling },
        { maxChatCompletions: 2 },
      );
      const final = await runner.finalChatCompletion();
      return asked.length > 0 && final;
    });
    assert.deepEqual(asked[0], { city: "Paris", unit: "c" });
  });

  test("a call cut by the limit is no finished call", async () => {
    const answer = await chat(weather(), { ...fields, tool_choice: "required", max_tokens: 14 });
    assert.equal(answer.choices[0].finish_reason, "length");
  });
});

describe("errors", () => {
  const body = (error) => {
    assert.ok(error.error?.message && error.error?.type, `no error object: ${error.message}`);
    return true;
  };

  for (const stream of [false, true]) {
    test(`a context overflow is a readable bad request, stream: ${stream}`, async () => {
      const tooLong = [{ role: "user", content: "llama ".repeat(6000) }];
      await assert.rejects(chat(tooLong, { stream }), (error) => {
        assert.ok(error instanceof OpenAI.BadRequestError);
        assert.match(error.message, /exceeds the available context size|prompt is too long/);
        return body(error);
      });
    });
  }

  test("an unknown path", async () => {
    await assert.rejects(client.get("/no/such/path"), (error) => error instanceof OpenAI.NotFoundError && body(error));
  });

  test("an unknown model", needsGateway, async () => {
    const request = client.chat.completions.create({ model: "no-such-model", messages: counting() });
    await assert.rejects(request, (error) => error instanceof OpenAI.NotFoundError && body(error));
  });

  test("a wrong type", async () => {
    const request = chat(counting(), { max_tokens: "many" });
    await assert.rejects(request, (error) => error instanceof OpenAI.BadRequestError && body(error));
  });

  test("embeddings of a model without them", async () => {
    const request = client.embeddings.create({ model, input: "text" });
    await assert.rejects(request, (error) => error instanceof OpenAI.APIError && error.status === 501 && body(error));
  });

  test("a request that the client gives up", async () => {
    const abort = new AbortController();
    setTimeout(() => abort.abort(), 300);
    const story = [{ role: "user", content: "Write a very long story about a llama. Never stop." }];
    const request = chat(story, { max_tokens: 3000, frequency_penalty: 0.5 }, { signal: abort.signal });
    await assert.rejects(request, OpenAI.APIUserAbortError);
    assert.equal(await support.waitForBusySlots(0, 6000), 0);
  });
});

describe("other endpoints", () => {
  test("models", async () => {
    const ids = [];
    for await (const item of client.models.list()) ids.push(item.id);
    assert.ok(ids.includes(model));
  });

  test("completions", async () => {
    const request = { model, prompt: "1, 2, 3, 4, 5,", max_tokens: 6, temperature: 0 };
    const answer = await client.completions.create(request);
    assert.match(answer.choices[0].text, /6/);
    const chunks = await collect(await client.completions.create({ ...request, stream: true }));
    assert.match(chunks.map((c) => c.choices[0]?.text ?? "").join(""), /6/);
  });
});
