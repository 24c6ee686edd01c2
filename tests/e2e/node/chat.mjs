// The npm SDK, unmodified, with OPENAI_BASE_URL and OPENAI_API_KEY from the environment; prints what it got as JSON.
import OpenAI, { APIError } from "openai";

const client = new OpenAI({ maxRetries: 0 });
const request = { model: "demo", messages: [{ role: "user", content: "Hello there, proxy" }] };

const whole = await client.chat.completions.create(request);

const texts = [];
for await (const chunk of await client.chat.completions.create({ ...request, stream: true })) {
  texts.push(chunk.choices[0].delta.content ?? "");
}

let usage;
const counted = { ...request, stream: true, stream_options: { include_usage: true } };
for await (const chunk of await client.chat.completions.create(counted)) {
  usage = chunk.usage ?? usage;
}

const failed = await client.chat.completions.create({ ...request, model: "demo-error-429" }).catch((error) => error);

let brokenOff;
try {
  for await (const _ of await client.chat.completions.create({ ...request, model: "demo-cut", stream: true }));
} catch (error) {
  brokenOff = error instanceof APIError ? error.code : String(error);
}

const embedding = await client.embeddings.create({ model: "demo", input: "Hello" });

console.log(
  JSON.stringify({
    whole: whole.choices[0].message.content,
    streamed: texts.join(""),
    chunks: texts.length,
    usage,
    failed: [failed.status, failed.code],
    brokenOff,
    dimensions: embedding.data[0].embedding.length,
  }),
);
