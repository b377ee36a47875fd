// The official openai client for JavaScript against a gateway: does what it is told by name, prints one JSON result.
import OpenAI from "openai";

const [name] = process.argv.slice(2);
const client = new OpenAI({ baseURL: process.env.POSTERN_URL, apiKey: "sk-test", maxRetries: 0 });
const messages = [{ role: "user", content: "Say hello." }];
const headers = { "x-postern-tier": "weak" };
const tools = [{ type: "function", function: { name: "weather", parameters: { type: "object", properties: {} } } }];
const ask = (more = {}, options = {}) =>
  client.chat.completions.create({ model: "auto", messages, ...more }, { headers, ...options });

async function collect(stream) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return chunks;
}
const textOf = (chunks) => chunks.map((chunk) => chunk.choices[0]?.delta?.content ?? "").join("");

async function caught(promise) {
  try {
    await promise;
  } catch (error) {
    const { status, code, type, param } = error;
    const isApiError = error instanceof OpenAI.APIError;
    return { kind: error.constructor.name, isApiError, status: status ?? null, code, type, param: param ?? null };
  }
  return { kind: null };
}

const scenarios = {
  async chat() {
    const { data, response } = await client.chat.completions.create({ model: "auto", messages }, { headers }).withResponse();
    const told = Object.fromEntries([...response.headers].filter(([key]) => key.startsWith("x-postern-")));
    return { text: data.choices[0].message.content, usage: data.usage, requestId: data._request_id, headers: told };
  },
  async stream() {
    const silent = await collect(await ask({ stream: true }));
    const asked = await collect(await ask({ stream: true, stream_options: { include_usage: true } }));
    return {
      text: textOf(silent),
      usages: silent.filter((chunk) => "usage" in chunk).length,
      askedText: textOf(asked),
      askedUsage: asked.at(-1).usage,
    };
  },
  async tools() {
    const whole = await ask({ tools });
    const chunks = await collect(await ask({ tools, stream: true }));
    const pieces = chunks.flatMap((chunk) => chunk.choices[0]?.delta?.tool_calls ?? []);
    return {
      calls: whole.choices[0].message.tool_calls,
      streamed: pieces.map((piece) => piece.function.arguments).join(""),
      finish: chunks.at(-1).choices[0].finish_reason,
    };
  },
  async embeddings() {
    const answer = await client.embeddings.create({ model: "auto", input: ["a", "b"] });
    const ids = [];
    for await (const model of client.models.list()) ids.push(model.id);
    return { vectors: answer.data.map((one) => [...one.embedding]), ids: ids.sort() };
  },
  async errors() {
    return {
      unknown: await caught(client.chat.completions.create({ model: "gpt-99", messages })),
      invalid: await caught(ask({ n: 0 })),
      tooLarge: await caught(ask({ user: "x".repeat(11_000_000) })),
      limited: await caught(client.chat.completions.create({ model: "small", messages })),
      failing: await caught(client.chat.completions.create({ model: "small", messages })),
    };
  },
  async death() {
    const heard = [];
    const error = await caught(
      (async () => {
        for await (const chunk of await ask({ stream: true })) heard.push(chunk);
      })(),
    );
    return { error, text: textOf(heard) };
  },
  async retries() {
    const { data, response } = await client.chat.completions
      .create({ model: "small", messages }, { maxRetries: 2 })
      .withResponse();
    return { text: data.choices[0].message.content, attempts: response.headers.get("x-postern-attempts") };
  },
};

console.log(JSON.stringify(await scenarios[name]()));
