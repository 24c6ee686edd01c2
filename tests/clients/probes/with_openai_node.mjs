import OpenAI from "openai";
import { ASKED, PARAMETERS, getWeather } from "./weather.mjs";

// settings
const client = new OpenAI({ baseURL: process.env.OPENAI_BASE_URL, apiKey: process.env.OPENAI_API_KEY });
// end
const [model, way] = process.argv.slice(2);
const messages = [{ role: "user", content: way === "tool" ? ASKED : "Hello" }];
if (way === "stream") {
  let text = "";
  for await (const chunk of await client.chat.completions.create({ model, messages, stream: true }))
    text += chunk.choices[0]?.delta.content ?? "";
  console.log(text);
} else if (way === "tool") {
  const tools = [{ type: "function", function: { name: "get_weather", parameters: PARAMETERS } }];
  const { message } = (await client.chat.completions.create({ model, messages, tools })).choices[0];
  console.log(getWeather(JSON.parse(message.tool_calls[0].function.arguments)));
} else console.log((await client.chat.completions.create({ model, messages })).choices[0].message.content);
