/**
 * The proxy, as this page calls it.
 *
 * The client key, or access token, is a variable of this module. It goes into the `authorization` header of calls to this page's own
 * origin, and nowhere else: not into the document, an address, a storage or a log.
 */

import { showAllowance } from "./allowance.js";
import { keep, kept, streaming } from "./resuming.js";

let key = "";

/** Use `value` for the calls that follow; "" for none. */
export function useKey(value) {
  key = bare(value);
}

/** Keep the chats of this tab for a reload. */
export function keepChats(chats) {
  if (key) keep(chats, key);
}

/** The chats that were kept for who has this key. */
export const keptChats = () => kept(key);

/** A key as it was given out: people paste it with quotes, with `Bearer` before it, broken over lines. */
function bare(value) {
  const seen = value.replace(/[\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u2064\ufeff]/g, "").trim();
  const unquoted = (text) => text.replace(/^["'`“”‘’«»]+|["'`“”‘’«»,;]+$/g, "");
  return unquoted(unquoted(seen).replace(/^(?:authorization\s*:\s*)?(?:bearer\s+)?/i, "")).replace(/\s+/g, "");
}

/** A call that failed. `status` is 0 when no answer came; `wait` is in seconds, null when none was told. */
export class Trouble extends Error {
  constructor(status, error = {}, headers = new Headers()) {
    super(textOf(error?.message));
    this.status = status;
    this.code = String(error?.code ?? "");
    this.param = textOf(error?.param);
    this.head = head(headers);
    this.wait = waitOf(headers.get("retry-after"));
  }
}

/** Seconds that a `retry-after` asks for, which is a number of them or a date; null where it is neither. */
function waitOf(text) {
  const seconds = /^\s*\d/.test(text || "") ? Number.parseFloat(text) : (Date.parse(text || "") - Date.now()) / 1000;
  return Number.isFinite(seconds) ? Math.max(0, Math.ceil(seconds)) : null;
}

/** What the headers of an answer tell. Names that were not sent are null. */
function head(headers) {
  return {
    id: headers.get("x-inference-id"),
    requestId: headers.get("x-request-id"),
    upstreamRequestId: headers.get("x-upstream-request-id"),
    server: headers.get("x-served-by"),
    model: headers.get("x-served-model"),
    attempts: headers.get("x-attempts"),
    cache: headers.get("x-cache"),
    cacheReason: headers.get("x-cache-reason"),
    cacheSaved: headers.get("x-cache-saved"),
    age: headers.get("age"),
    timing: headers.get("server-timing"),
  };
}

async function call(path, options = {}, ask = fetch) {
  if (!/^[\x21-\x7e]*$/.test(key)) throw new Trouble(401, { code: "invalid_api_key" });
  const headers = { ...options.headers, ...(key && { authorization: `Bearer ${key}` }) };
  let response;
  try {
    response = await ask(path, { ...options, headers, credentials: "omit", referrerPolicy: "no-referrer" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Trouble(0, { code: "no_connection" });
  }
  showAllowance(response.headers);
  if (!response.ok) {
    const body = await response.json().catch(() => null);
    throw new Trouble(response.status, body?.error, response.headers);
  }
  return response;
}

/** `{models: [id], unavailable: [{server, reason}]}`: what the key may use. Throws Trouble. */
export async function models() {
  const response = await call("/v1/models");
  const list = await response.json().catch(() => null);
  if (!Array.isArray(list?.data)) throw new Trouble(response.status, { code: "no_list_of_models" }, response.headers);
  const ids = list.data.map((model) => textOf(model?.id)).filter(Boolean);
  return { models: ids, unavailable: Array.isArray(list.unavailable) ? list.unavailable : [] };
}

const SIGN_IN = "/playground/sign-in";

/** `[{user, name, tier}]`: who may sign in, which only the local stack tells. */
export async function people() {
  const response = await fetch(SIGN_IN, { credentials: "omit" }).catch(() => null);
  return response?.ok ? response.json() : [];
}

/** The access token of one of `people`; "" where there is none. */
export async function tokenOf(user) {
  const response = await fetch(SIGN_IN, { method: "POST", body: user, credentials: "omit" }).catch(() => null);
  return (response?.ok && (await response.json()).access_token) || "";
}

/** The receipt of an answer, or null while there is none. Throws Trouble. */
export async function receipt(id, signal) {
  try {
    return await (await call(`/v1/receipts/${encodeURIComponent(id)}`, { signal })).json();
  } catch (error) {
    if (error.code === "receipt_not_found") return null;
    throw error;
  }
}

/**
 * Ask for a chat and yield `{content, reasoning, calls, usage, finish}` as they come; `onHead` is told the headers first.
 * `question` is `{server, model, messages, temperature, maxTokens, more, noCache}`. Throws Trouble, or AbortError when
 * `signal` says so.
 */
export async function* chat(question, signal, onHead) {
  const response = await asked(question, signal);
  onHead(head(response.headers));
  yield* pieces(response);
}

/** The answer at `url` that this tab had begun, from its beginning: `{head, pieces}`; null where it cannot be had. */
export async function continued(url, signal) {
  const response = await call(url, { signal }, streaming).catch(() => null);
  return response && { head: head(response.headers), pieces: pieces(response) };
}

async function* pieces(response) {
  if (!(response.headers.get("content-type") || "").startsWith("text/event-stream")) {
    yield piece(await response.json(), "message");
    return;
  }
  for await (const data of serverSentEvents(texts(response.body))) {
    if (data === "[DONE]") return;
    const chunk = JSON.parse(data);
    if (chunk.error) throw new Trouble(200, chunk.error, response.headers);
    yield piece(chunk, "delta");
  }
}

/** The one place where a chat is asked for. A model that wants `max_tokens` under its newer name says so, and gets it. */
async function asked(question, signal) {
  const { path, headers, body } = requestOf(question);
  try {
    return await call(path, { method: "POST", headers, body: JSON.stringify(body), signal }, streaming);
  } catch (error) {
    const isRefused = error.param === "max_tokens" && error.message.includes("max_completion_tokens");
    if (!isRefused || !("max_tokens" in body) || newerName.has(modelOf(question))) throw error;
    newerName.add(modelOf(question));
    return asked(question, signal);
  }
}

/** The models that have refused `max_tokens`, which most servers know, for `max_completion_tokens`. */
const newerName = new Set();
const modelOf = ({ server, model }) => JSON.stringify([server, model]);

/** What is sent for a question, but for the key: to its server, or to where its model's name leads. */
export function requestOf(question) {
  const { server, model, messages, temperature = null, maxTokens = null, more = {}, noCache = false } = question;
  const body = { stream: true, messages };
  if (model) body.model = model;
  if (temperature !== null) body.temperature = temperature;
  if (maxTokens !== null) body[newerName.has(modelOf(question)) ? "max_completion_tokens" : "max_tokens"] = maxTokens;
  Object.assign(body, more);
  if (body.stream === true) body.stream_options ??= { include_usage: true };
  return {
    base: `${server ? `/${encodeURIComponent(server)}` : ""}/v1`,
    path: `${server ? `/${encodeURIComponent(server)}` : ""}/v1/chat/completions`,
    headers: { "content-type": "application/json", ...(noCache && { "cache-control": "no-cache" }) },
    body,
  };
}

function piece(answer, part) {
  const choice = Array.isArray(answer.choices) ? answer.choices.find((each) => !each?.index) : null; // one of several
  const said = choice?.[part] || {};
  const { text, thoughts } = partsOf(said.content);
  return {
    content: text || textOf(said.refusal),
    reasoning: textOf(said.reasoning_content) || textOf(said.reasoning) || thoughts,
    calls: Array.isArray(said.tool_calls) ? said.tool_calls : [],
    usage: answer.usage || null,
    finish: textOf(choice?.finish_reason) || null,
  };
}

const textOf = (value) => (typeof value === "string" ? value : "");

/** Content that is a text, or a list of parts as some servers send it: what is said, and what was thought. */
function partsOf(content) {
  if (!Array.isArray(content)) return { text: textOf(content), thoughts: "" };
  const found = { text: "", thoughts: "" };
  for (const part of content) {
    if (typeof part === "string") found.text += part;
    else if (part?.thinking) found.thoughts += textOf(part.thinking) || partsOf(part.thinking).text;
    else found.text += textOf(part?.text) || textOf(part?.refusal);
  }
  return found;
}

async function* texts(body) {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      yield decoder.decode(value, { stream: true });
    }
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Trouble(0, { code: "connection_lost" });
  }
}

/** The data of each whole event. https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream */
async function* serverSentEvents(pieces) {
  let rest = "";
  let data = [];
  for await (const text of pieces) {
    const lines = (rest + text).split(/\r\n|\n|\r(?!$)/);
    rest = lines.pop();
    for (const line of lines) {
      if (line.startsWith("data:")) data.push(line.slice(line[5] === " " ? 6 : 5));
      else if (line === "" && data.length) {
        yield data.join("\n");
        data = [];
      }
    }
  }
}
