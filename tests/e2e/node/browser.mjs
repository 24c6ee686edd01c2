// The module of examples/browser under Node, whose `fetch` is the same; prints what it got as JSON.
import { pathToFileURL } from "node:url";

const { streamChat, ProxyError } = await import(pathToFileURL(process.argv[2]));
const question = {
  baseUrl: process.env.OPENAI_BASE_URL,
  key: process.env.OPENAI_API_KEY,
  model: "demo",
  messages: [{ role: "user", content: "Grüße, proxy" }],
};

async function ask(changes, seen = () => {}) {
  const pieces = [];
  try {
    for await (const piece of streamChat({ ...question, ...changes })) seen(pieces.push(piece));
    return { pieces };
  } catch (error) {
    const { code, status, retryAfter, name } = error;
    return { pieces, ours: error instanceof ProxyError, code, status, retryAfter, name };
  }
}

const stop = new AbortController();
console.log(
  JSON.stringify({
    whole: await ask({}),
    throttled: await ask({ model: "demo-error-429" }),
    brokenOff: await ask({ model: "demo-cut" }),
    stopped: await ask({ model: "demo-slow", signal: stop.signal }, (count) => count === 2 && stop.abort()),
  }),
);
