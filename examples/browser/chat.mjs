// A streamed chat with nothing but `fetch`: works in browsers and in Node, without a build step.

/** What the proxy refuses, and what breaks off half-way. `code` is what a program can rely on. */
export class ProxyError extends Error {
  constructor({ message, code }, { status, retryAfter } = {}) {
    super(message);
    this.code = code;
    this.status = status;
    this.retryAfter = retryAfter; // seconds, where the proxy says when to come back
  }
}

/**
 * The pieces of an answer, as they come. Abort `signal` to stop: the connection closes and the proxy stops the server.
 *
 * @param {{baseUrl: string, key: string, model: string, messages: object[], signal?: AbortSignal}} question
 * @returns {AsyncGenerator<string>}
 */
export async function* streamChat({ baseUrl, key, model, messages, signal }) {
  const response = await fetch(`${baseUrl}/chat/completions`, {
    method: "POST",
    headers: { authorization: `Bearer ${key}`, "content-type": "application/json" },
    body: JSON.stringify({ model, messages, stream: true }),
    signal,
  });
  if (!response.ok) throw await refusal(response);
  for await (const data of serverSentEvents(response.body)) {
    if (data === "[DONE]") return;
    const chunk = JSON.parse(data);
    // The status was 200 long ago: what breaks now comes as a frame of the stream.
    if (chunk.error) throw new ProxyError(chunk.error);
    const text = chunk.choices?.[0]?.delta?.content;
    if (text) yield text;
  }
  throw new ProxyError({ message: "The connection was cut.", code: "connection_cut" });
}

async function refusal(response) {
  const retryAfter = Number(response.headers.get("retry-after")) || undefined;
  // What stands between a browser and the proxy may answer with something else than JSON.
  const body = await response.json().catch(() => ({}));
  const error = body.error ?? { message: `The proxy answered ${response.status}.`, code: "unknown" };
  return new ProxyError(error, { status: response.status, retryAfter });
}

/** The data of each event. A piece of the network is no event: it may hold several, or half a character of one. */
async function* serverSentEvents(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const lines = (rest + value).split("\n");
      rest = lines.pop();
      for (const line of lines) {
        // Lines that begin with a colon are comments: they keep the connection open while a server thinks.
        if (line.startsWith("data: ")) yield line.slice(6).trimEnd();
      }
    }
  } finally {
    // Also when the reader of these events has enough: the connection is closed, not left open.
    await reader.cancel().catch(() => {});
  }
}
