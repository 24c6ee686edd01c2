/** A frontend as small as one can be, on another origin than the proxy. The tests call what `window.frontend` offers. */

import OpenAI from "/npm/openai/index.mjs";

const answer = document.getElementById("answer");
const seen = [];
new MutationObserver(() => answer.textContent && seen.push(answer.textContent)).observe(answer, { childList: true });
const show = (text) => text && answer.append(text);

const sdk = (baseURL, apiKey, options = {}) => new OpenAI({ baseURL, apiKey, dangerouslyAllowBrowser: true, maxRetries: 0, ...options });
const question = (model, content) => ({ model, stream: true, messages: [{ role: "user", content }] });
const settled = () => new Promise((resolve) => setTimeout(resolve, 0));

function start() {
  answer.textContent = "";
  seen.length = 0;
}

/** Read an answer with `fetch`; after `stopAfter` events it is stopped as a stop button would. */
async function withFetch(baseURL, key, model, content, stopAfter = Infinity) {
  start();
  const stop = new AbortController();
  const response = await fetch(`${baseURL}/chat/completions`, {
    method: "POST",
    headers: { authorization: `Bearer ${key}`, "content-type": "application/json" },
    body: JSON.stringify(question(model, content)),
    signal: stop.signal,
  });
  const id = response.headers.get("x-inference-id");
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let events = 0;
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return { id, events, seen: [...seen], ended: "complete" };
      const frames = (rest + value).split("\n\n");
      rest = frames.pop();
      for (const frame of frames) {
        if (!frame.startsWith("data: {")) continue;
        show(JSON.parse(frame.slice(6)).choices[0]?.delta.content);
        await settled();
        events += 1;
        if (events === stopAfter) stop.abort();
      }
    }
  } catch (error) {
    return { id, events, seen: [...seen], ended: error.name };
  }
}

/** Read an answer with the SDK; after `stopAfter` chunks its stream is stopped. */
async function withSdk(baseURL, key, model, content, stopAfter = Infinity) {
  start();
  const { data: stream, response } = await sdk(baseURL, key).chat.completions.create(question(model, content)).withResponse();
  let events = 0;
  for await (const chunk of stream) {
    show(chunk.choices[0]?.delta.content);
    await settled();
    events += 1;
    if (events === stopAfter) stream.controller.abort();
  }
  return { events, seen: [...seen], headers: Object.fromEntries(response.headers) };
}

/** What the SDK throws, as a frontend would show it. */
async function failure(baseURL, key, model) {
  start();
  try {
    for await (const chunk of await sdk(baseURL, key).chat.completions.create(question(model, "Hello"))) {
      show(chunk.choices[0]?.delta.content);
    }
    return null;
  } catch (error) {
    const { constructor, status, code, requestID, headers } = error;
    answer.append(` [${code}]`);
    return { kind: constructor.name, status, code, requestID, retryAfter: headers?.get("retry-after"), shown: answer.textContent };
  }
}

window.frontend = { withFetch, withSdk, failure };
