// Streams an answer with the Vercel AI SDK. In a web application this runs on the server, so that the key stays there;
// `result.toUIMessageStreamResponse()` is then what a route answers to the SDK's `useChat`.
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { APICallError, streamText } from "ai";

// Not `@ai-sdk/openai`: that one prefers the Responses API, which not every server behind the proxy speaks.
const proxy = createOpenAICompatible({
  name: "openai-proxy",
  baseURL: process.env.OPENAI_BASE_URL,
  apiKey: process.env.OPENAI_API_KEY,
  includeUsage: true,
});

const result = streamText({
  model: proxy(process.env.OPENAI_MODEL ?? "demo"),
  prompt: process.argv[2] ?? "Tell me about proxies",
  maxRetries: 0, // the proxy has repeated what failed at a server; a throttle is for the user to see
  onError: () => {}, // shown below; by default the whole request is printed
});

// `textStream` ends without a word when a stream breaks off; `fullStream` says why.
for await (const part of result.fullStream) {
  if (part.type === "text-delta") process.stdout.write(part.text);
  if (part.type === "finish" && part.finishReason !== "error") {
    console.log(`\n${part.totalUsage.inputTokens} + ${part.totalUsage.outputTokens} tokens`);
  }
  if (part.type === "error") {
    // A refusal is an APICallError with the proxy's error object; of a stream that breaks off there is only the message.
    const code = APICallError.isInstance(part.error) ? part.error.data?.error.code : "stream";
    console.error(`\n${code}: ${part.error.message ?? part.error}`);
    process.exitCode = 1;
  }
}
