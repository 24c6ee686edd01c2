// Streams an answer with OpenAI's SDK, which reads OPENAI_BASE_URL and OPENAI_API_KEY, the client key, by itself.
import OpenAI from "openai";

const client = new OpenAI();

try {
  const stream = await client.chat.completions.create({
    model: process.env.OPENAI_MODEL ?? "demo",
    messages: [{ role: "user", content: process.argv[2] ?? "Tell me about proxies" }],
    stream: true,
    stream_options: { include_usage: true },
  });
  let usage;
  for await (const chunk of stream) {
    // The chunk with the usage is the last one and has no choices.
    process.stdout.write(chunk.choices[0]?.delta.content ?? "");
    usage = chunk.usage ?? usage;
  }
  console.log(`\n${usage.prompt_tokens} + ${usage.completion_tokens} tokens`);
} catch (error) {
  // Refusals and streams that break off half-way both end here; `code` is what a program can rely on.
  if (!(error instanceof OpenAI.APIError)) throw error;
  console.error(`\n${error.code}: ${error.message}`);
  process.exitCode = 1;
}
