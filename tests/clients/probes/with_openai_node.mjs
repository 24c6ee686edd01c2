import OpenAI from "openai";

// settings
const client = new OpenAI({ baseURL: process.env.OPENAI_BASE_URL, apiKey: process.env.OPENAI_API_KEY });
// end
const [model, way] = process.argv.slice(2);
const messages = [{ role: "user", content: "Hello" }];
if (way === "stream") {
  let text = "";
  for await (const chunk of await client.chat.completions.create({ model, messages, stream: true }))
    text += chunk.choices[0]?.delta.content ?? "";
  console.log(text);
} else console.log((await client.chat.completions.create({ model, messages })).choices[0].message.content);
