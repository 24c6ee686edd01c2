// Anthropic's npm SDK, unmodified, with ANTHROPIC_BASE_URL and ANTHROPIC_API_KEY from the environment; prints what it got as JSON.
import Anthropic, { APIError } from "@anthropic-ai/sdk";

const client = new Anthropic({ maxRetries: 0 });
const request = { model: "demo", max_tokens: 100, messages: [{ role: "user", content: "Hello there, proxy" }] };

const whole = await client.messages.create(request);

const texts = [];
const stream = client.messages.stream(request).on("text", (text) => texts.push(text));
const streamed = await stream.finalMessage();

const counted = await client.messages.countTokens({ model: request.model, messages: request.messages });
const limited = await client.messages.create({ ...request, model: "demo-error-429" }).catch((error) => error);
const stranger = new Anthropic({ maxRetries: 0, apiKey: "opx-nobody" });
const refused = await stranger.messages.create(request).catch((error) => error);

let brokenOff;
try {
  for await (const _ of await client.messages.create({ ...request, model: "demo-cut", stream: true }));
} catch (error) {
  brokenOff = error instanceof APIError ? error.error?.error?.type ?? String(error) : String(error);
}

console.log(
  JSON.stringify({
    whole: whole.content[0].text,
    streamed: texts.join(""),
    pieces: texts.length,
    usage: [streamed.usage.input_tokens, streamed.usage.output_tokens],
    counted: counted.input_tokens,
    failed: [limited.status, limited.error?.error?.type],
    refused: [refused.status, refused.error?.error?.type],
    brokenOff,
  }),
);
