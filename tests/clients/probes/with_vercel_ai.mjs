import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, jsonSchema, stepCountIs, streamText, tool } from "ai";
import { ASKED, PARAMETERS, getWeather } from "./weather.mjs";

// settings
const { OPENAI_BASE_URL: baseURL, OPENAI_API_KEY: apiKey } = process.env;
const proxy = createOpenAICompatible({ name: "proxy", baseURL, apiKey });
// end
const [name, way] = process.argv.slice(2);
const model = proxy(name);
if (way === "stream") {
  let text = "";
  for await (const piece of streamText({ model, prompt: "Hello" }).textStream) text += piece;
  console.log(text);
} else if (way === "tool") {
  const tools = { get_weather: tool({ inputSchema: jsonSchema(PARAMETERS), execute: getWeather }) };
  console.log((await generateText({ model, prompt: ASKED, tools, stopWhen: stepCountIs(3) })).text);
} else console.log((await generateText({ model, prompt: "Hello" })).text);
