import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, streamText } from "ai";

// settings
const { OPENAI_BASE_URL: baseURL, OPENAI_API_KEY: apiKey } = process.env;
const proxy = createOpenAICompatible({ name: "proxy", baseURL, apiKey });
// end
const [model, way] = process.argv.slice(2);
const asked = { model: proxy(model), prompt: "Hello" };
if (way === "stream") {
  let text = "";
  for await (const piece of streamText(asked).textStream) text += piece;
  console.log(text);
} else console.log((await generateText(asked)).text);
