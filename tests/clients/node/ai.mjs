import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, streamText } from "ai";
import { Transcript, abandoned, baseURL, messages, refine, run, strategy } from "./harness.mjs";

const provider = createOpenAICompatible({ name: "counterpoint", baseURL, apiKey: "none", includeUsage: true });
const call = { model: provider(refine), messages, seed: 4, maxRetries: 0 };

function account(usage) {
  return {
    total: usage.totalTokens,
    completion: usage.outputTokens,
    reasoning: usage.outputTokenDetails.reasoningTokens,
    strategy: usage.raw.counterpoint.strategy.name,
  };
}

async function whole(more) {
  const answer = await generateText({ ...call, ...more });
  const transcript = new Transcript();
  transcript.add("reasoning", answer.reasoningText);
  transcript.add("content", answer.text);
  return transcript.with({ finish: answer.finishReason, usage: account(answer.usage) });
}

async function failing(more) {
  try {
    await generateText({ ...call, ...more });
  } catch (error) {
    const { code, param } = JSON.parse(error.responseBody).error;
    return { name: error.name, status: error.statusCode, code, param, message: error.message };
  }
}

await run({
  whole: () => whole({}),
  extra: () => whole({ providerOptions: { counterpoint: { strategy, budget: { max_completion_tokens: 400 } } } }),
  async stream() {
    const transcript = new Transcript();
    let finish, usage;
    for await (const part of streamText(call).fullStream) {
      if (part.type === "reasoning-delta") transcript.add("reasoning", part.text);
      if (part.type === "text-delta") transcript.add("content", part.text);
      if (part.type === "finish") [finish, usage] = [part.finishReason, part.totalUsage];
      if (part.type === "finish-step") usage = part.usage;
      if (part.type === "error") throw part.error;
    }
    return transcript.with({ finish, usage: account(usage) });
  },
  model: () => failing({ model: provider("gpt-4") }),
  parameter: () => failing({ temperature: 9 }),
  async late() {
    for await (const part of streamText({ ...call, onError() {} }).fullStream) {
      if (part.type === "error") {
        const { message, code } = part.error;
        return { message, code };
      }
    }
  },
  async abort() {
    const controller = new AbortController();
    for await (const part of streamText({ ...call, abortSignal: controller.signal }).fullStream) {
      if (part.type === "reasoning-delta") controller.abort();
      if (part.type === "error") throw part.error;
    }
    await abandoned();
  },
});
