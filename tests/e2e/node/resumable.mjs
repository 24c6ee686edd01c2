// clients/js with the unmodified SDK, over a network that is cut: before the proxy stands a relay that drops connections
// in the middle of an answer. With OPENAI_BASE_URL and OPENAI_API_KEY from the environment, and the built library as argument.
import http from "node:http";
import { pathToFileURL } from "node:url";
import OpenAI from "openai";

const { resumable } = await import(pathToFileURL(process.argv[2]));
const target = new URL(process.env.OPENAI_BASE_URL);
const asked = [];
let cuts = 0;

const relay = http.createServer((request, response) => {
  const { method, url, headers } = request;
  const onward = http.request({ host: target.hostname, port: target.port, method, path: url, headers }, (answer) => {
    asked.push({ method, url, status: answer.statusCode });
    response.writeHead(answer.statusCode, answer.headers);
    let left = cuts > 0 ? 200 + ((cuts * 977) % 2500) : Infinity;
    answer.on("data", (piece) => {
      response.write(piece.subarray(0, left));
      left -= piece.length;
      if (left > 0 || response.destroyed) return;
      cuts--;
      onward.destroy();
      setImmediate(() => response.destroy());
    });
    answer.on("end", () => response.end());
    answer.on("error", () => response.destroy());
  });
  onward.on("error", () => response.destroy());
  response.on("close", () => onward.destroy());
  request.pipe(onward);
});
await new Promise((resolve) => relay.listen(0, "127.0.0.1", resolve));

const baseURL = `http://127.0.0.1:${relay.address().port}${target.pathname}`;
const client = new OpenAI({ baseURL, maxRetries: 0, fetch: resumable({ random: () => 0 }) });
const question = { model: "demo", messages: [{ role: "user", content: "Grüße 👩‍👩‍👧 ".repeat(20) }], demo: { tokens: 240 }, stream: true };

async function ask() {
  let text = "";
  for await (const chunk of await client.chat.completions.create(question)) text += chunk.choices[0]?.delta.content ?? "";
  return { text, asked: asked.splice(0) };
}

const whole = await ask();
cuts = 20;
const cut = await ask();

let heard = 0;
for await (const _ of await client.chat.completions.create({ ...question, model: "demo-slow" })) {
  if (++heard === 3) break;
}
while (!asked.some(({ method }) => method === "DELETE")) await new Promise((resolve) => setTimeout(resolve, 20));

relay.closeAllConnections();
relay.close();
console.log(JSON.stringify({ whole, cut, left: cuts, stopped: asked }));
