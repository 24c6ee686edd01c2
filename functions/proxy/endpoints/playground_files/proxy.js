/**
 * The proxy, as this page calls it.
 *
 * The client key, or access token, is a variable of this module. It goes into the `authorization` header of calls to this page's own
 * origin, and nowhere else: not into the document, an address, a storage or a log.
 */

let key = "";

/** Use `value` for the calls that follow; "" for none. */
export function useKey(value) {
  key = value.trim();
}

/** A call that failed. `status` is 0 when no answer came; `wait` is in seconds, null when none was told. */
export class Trouble extends Error {
  constructor(status, error = {}, headers = new Headers()) {
    super(error.message || "");
    this.status = status;
    this.code = error.code || "";
    this.head = head(headers);
    const wait = Number.parseFloat(headers.get("retry-after"));
    this.wait = Number.isFinite(wait) ? Math.max(0, Math.ceil(wait)) : null;
  }
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

async function call(path, options = {}) {
  if (!/^[\x21-\x7e]*$/.test(key)) throw new Trouble(401, { code: "invalid_api_key" });
  const headers = { ...options.headers, ...(key && { authorization: `Bearer ${key}` }) };
  let response;
  try {
    response = await fetch(path, { ...options, headers, credentials: "omit", referrerPolicy: "no-referrer" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Trouble(0, { code: "no_connection" });
  }
  if (!response.ok) {
    const body = await response.json().catch(() => ({}));
    throw new Trouble(response.status, body.error, response.headers);
  }
  return response;
}

/** `{models: [id], unavailable: [{server, reason}]}`: what the key may use. Throws Trouble. */
export async function models() {
  const response = await call("/v1/models");
  const list = await response.json();
  return { models: list.data.map((model) => model.id), unavailable: list.unavailable || [] };
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
 * Ask for a chat and yield `{content, reasoning, usage, finish}` as they come; `onHead` is told the headers first.
 * `question` is `{server, model, messages, temperature, noCache}`. Throws Trouble, or AbortError when `signal` says so.
 */
export async function* chat(question, signal, onHead) {
  const body = { stream: true, stream_options: { include_usage: true }, messages: question.messages };
  if (question.model) body.model = question.model;
  if (question.temperature !== null) body.temperature = question.temperature;
  const headers = { "content-type": "application/json", ...(question.noCache && { "cache-control": "no-cache" }) };
  const response = await call(chatPath(question), { method: "POST", headers, body: JSON.stringify(body), signal });
  onHead(head(response.headers));
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

/** Where a question goes: to its server, or to where its model's name leads. */
export function chatPath({ server }) {
  return `${server ? `/${encodeURIComponent(server)}` : ""}/v1/chat/completions`;
}

function piece(answer, part) {
  const choice = answer.choices?.[0];
  const said = choice?.[part] || {};
  return {
    content: said.content || said.refusal || "",
    reasoning: said.reasoning_content || said.reasoning || "",
    usage: answer.usage || null,
    finish: choice?.finish_reason || null,
  };
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
