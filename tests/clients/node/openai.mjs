import OpenAI from "openai";
import { Transcript, abandoned, baseURL, messages, refine, run, strategy } from "./harness.mjs";

const client = new OpenAI({ baseURL, apiKey: "none", maxRetries: 0 });
const streamed = { model: refine, messages, seed: 4, stream: true, stream_options: { include_usage: true } };

function account(usage) {
  return {
    total: usage.total_tokens,
    completion: usage.completion_tokens,
    reasoning: usage.completion_tokens_details.reasoning_tokens,
    strategy: usage.counterpoint.strategy.name,
  };
}

async function whole(more) {
  const answer = await client.chat.completions.create({ model: refine, messages, seed: 4, ...more });
  const [{ message, finish_reason }] = answer.choices;
  const transcript = new Transcript();
  transcript.add("reasoning", message.reasoning_content);
  transcript.add("content", message.content);
  return transcript.with({ finish: finish_reason, usage: account(answer.usage) });
}

async function failing(body) {
  try {
    await client.chat.completions.create({ model: refine, messages, ...body });
  } catch (error) {
    return { name: error.constructor.name, status: error.status, code: error.code, param: error.param, message: error.message };
  }
}

await run({
  async models() {
    const models = [];
    for await (const model of client.models.list()) models.push(model.id);
    return { models, one: (await client.models.retrieve("actor")).id };
  },
  whole: () => whole({}),
  extra: () => whole({ strategy, budget: { max_completion_tokens: 400 } }),
  async stream() {
    const transcript = new Transcript();
    let finish, usage;
    for await (const chunk of await client.chat.completions.create(streamed)) {
      const choice = chunk.choices[0];
      transcript.add("reasoning", choice?.delta.reasoning_content);
      transcript.add("content", choice?.delta.content);
      finish = choice?.finish_reason ?? finish;
      usage = chunk.usage ?? usage;
    }
    return transcript.with({ finish, usage: account(usage) });
  },
  model: () => failing({ model: "gpt-4" }),
  parameter: () => failing({ temperature: 9 }),
  async late() {
    try {
      for await (const _ of await client.chat.completions.create(streamed));
    } catch (error) {
      return { message: error.message, code: error.code };
    }
  },
  async abort() {
    const stream = await client.chat.completions.create(streamed);
    for await (const chunk of stream) {
      if (chunk.choices[0]?.delta.reasoning_content) stream.controller.abort();
    }
    await abandoned();
  },
});
