// The npm SDK, unmodified, over the endpoints beside chat; prints what it got as JSON.
import { createHash } from "node:crypto";
import { createReadStream, writeFileSync } from "node:fs";
import OpenAI, { APIUserAbortError, toFile } from "openai";

const client = new OpenAI({ maxRetries: 0 });
const model = "demo";
const messages = [{ role: "user", content: "Hello there, proxy" }];
const bytes = Buffer.alloc(512_000, Buffer.from([...Array(256).keys()]));
const digest = (content) => createHash("sha256").update(content).digest("hex");

const types = [];
let response;
for await (const event of await client.responses.create({ model, input: "Hello", stream: true })) {
  types.push(event.type);
  response = event.response ?? response;
}
await client.responses.delete(response.id);

const weather = {
  name: "weather",
  parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
  parse: JSON.parse,
  function: ({ city }) => `Sunny in ${city}`,
};
const asking = [{ role: "user", content: "What is the weather?" }];
const runner = client.chat.completions.runTools({ model, messages: asking, stream: true, tools: [{ type: "function", function: weather }] });

writeFileSync("upload.wav", bytes);
const uploaded = await client.audio.transcriptions.create({ model, file: createReadStream("upload.wav") });
const spoken = await client.audio.speech.create({ model, voice: "alloy", input: "Hello there" });
const file = await client.files.create({ file: await toFile(bytes, "Grüße.bin"), purpose: "user_data" });
const kept = Buffer.from(await (await client.files.content(file.id)).arrayBuffer());
const image = await client.images.generate({ model, prompt: "Red", size: "256x256" });

const leaving = new AbortController();
let heard = 0;
for await (const _ of await client.chat.completions.create({ model: "demo-slow", messages, stream: true }, { signal: leaving.signal })) {
  if (++heard === 2) leaving.abort();
}
const patience = AbortSignal.timeout(500);
const hanging = await client.chat.completions.create({ model: "demo-hang", messages }, { signal: patience }).catch((error) => error);

const flaky = await client.chat.completions.create({ model: "demo-flaky", messages }).withResponse();

console.log(
  JSON.stringify({
    types,
    response: response.output_text ?? response.output[0].content[0].text,
    tool: await runner.finalContent(),
    uploaded: uploaded.text.includes(digest(bytes)),
    spoken: digest(Buffer.from(await spoken.arrayBuffer())),
    file: [file.filename, digest(kept) === digest(bytes)],
    image: image.usage.output_tokens,
    heard,
    hanging: hanging instanceof APIUserAbortError,
    attempts: flaky.response.headers.get("x-attempts"),
    requestId: flaky.request_id === flaky.response.headers.get("x-inference-id"),
  }),
);
