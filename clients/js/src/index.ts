/**
 * `fetch` for SDKs that speak to the proxy: a stream that is cut goes on where it was, and whoever stops reading stops the model.
 *
 *     new OpenAI({ baseURL, apiKey, fetch: resumableFetch })
 *
 * What is no stream, what fails before its first byte, and every server that is not the proxy is left as `fetch` has it.
 */

import { Events, isStream, stopModel, type Address, type World } from "./stream.ts";
import { note, tabStorage, unfinished, type Store, type Unfinished } from "./unfinished.ts";
import { sleep } from "./waiting.ts";

export { unfinished };
export type { Store, Unfinished, World };

export interface Options extends Partial<World> {
  /** Where the streams that have not ended are listed: `sessionStorage` where there is one, null for nowhere. */
  storage?: Store | null;
  /** The first request for a stream is answered by this one, from its beginning or after `after`; nothing new is asked. */
  continues?: Unfinished;
  /** Headers for calls that continue or stop a stream, where those of the request may have expired by then. */
  headers?: () => HeadersInit | Promise<HeadersInit>;
}

type Fetch = typeof globalThis.fetch;
type Again = Address["init"];

/** How long a request that was given up on may take to tell the id by which its model is stopped, in milliseconds. */
const GRACE = 15_000;
const ID = /^[\w-]{1,100}$/;
const STREAM = /\/v1\/streams\/([\w-]{1,100})(?=$|[?#])/;
/** What belongs to the body, or to the one request. */
const OF_THE_REQUEST = ["content-type", "content-length", "content-encoding", "idempotency-key", "x-resumable"];

/** What is asked first: a request for a stream, or for the rest of one that is `known`, after event number `after`. */
interface Call {
  input: Parameters<Fetch>[0];
  init: RequestInit;
  address: string;
  known?: string | undefined;
  after: number;
}

/** A `fetch` whose streams outlive their connections. */
export function resumable(options: Options = {}): Fetch {
  const world: World = {
    fetch: options.fetch ?? ((input, init) => globalThis.fetch(input, init)),
    random: options.random ?? Math.random,
    sleep: options.sleep ?? sleep,
    now: options.now ?? Date.now,
    patience: options.patience ?? 300_000,
    idle: options.idle ?? 30_000,
  };
  const store = options.storage === undefined ? tabStorage() : options.storage;
  const { now } = world;
  let { continues } = options;

  return async (input, init = {}) => {
    const request = typeof input === "object" && "headers" in input ? input : undefined;
    const method = (init.method ?? request?.method ?? "GET").toUpperCase();
    const address = request?.url ?? String(input);
    const known = STREAM.exec(address)?.[1];
    if (known && method === "DELETE") note(store, known, now());
    const asks = method === "POST" ? await asksForStream(init.body ?? request) : known && method === "GET";
    if (!asks) return world.fetch(input, init);

    const again = callsLike(init, request, options.headers);
    let call = begun(init, { input, init, address, known, after: 0 }, request);
    if (continues && method === "POST") {
      call = await continued(continues, again);
      continues = undefined;
    }
    const signal = init.signal ?? request?.signal ?? null;
    const answer = await begin(world, call, signal, again);
    const stream = streamOf(answer, call, again);
    if (!stream) {
      if (call.known && [404, 410].includes(answer.status)) note(store, call.known, now());
      return answer;
    }
    const { id, url } = stream;
    note(store, id, now(), { id, url, at: now() });
    return wrapped(answer, signal, (over) => {
      const ended = (isEnd: boolean): void => (over(), isEnd ? note(store, id, now()) : undefined);
      return new Events(world, stream, answer.body!, call.after, ended);
    });
  };
}

/** The options of the calls that continue or stop a stream: those of its request, without what belongs to that alone. */
function callsLike(init: RequestInit, request: Request | undefined, renewed: Options["headers"]): Again {
  return async (method) => {
    const { body: _, ...others } = init;
    const headers = new Headers(init.headers ?? request?.headers);
    for (const name of OF_THE_REQUEST) headers.delete(name);
    new Headers(await renewed?.()).forEach((value, name) => headers.set(name, value));
    return { ...(request && { credentials: request.credentials }), ...others, method, headers, signal: null };
  };
}

/** The call as it is made: marked, where it is a new request. */
function begun(init: RequestInit, call: Call, request: Request | undefined): Call {
  const headers = new Headers(init.headers ?? request?.headers);
  if (!call.known) headers.set("x-resumable", "true");
  const after = headers.get("last-event-id")?.split(".")[1] ?? /[?&]after=(\d+)/.exec(call.address)?.[1];
  return { ...call, init: { ...init, headers }, after: call.known ? Number(after ?? 0) : 0 };
}

async function continued({ id, url, after = 0 }: Unfinished, again: Again): Promise<Call> {
  const init = await again("GET");
  if (after) (init.headers as Headers).set("last-event-id", `${id}.${after}`);
  return { input: url, init, address: url, known: id, after };
}

/** The stream that `answer` is, and where it can be asked for again; null where it is none. */
function streamOf(answer: Response, { address, known }: Call, init: Again): Address | null {
  if (!answer.ok || !isStream(answer)) return null;
  const id = known ?? (answer.headers.get("x-resumable") === "true" ? answer.headers.get("x-inference-id") : null);
  // The address that was asked, not the one that answered: a redirect must not lead the key elsewhere.
  const { origin, pathname } = new URL(address, globalThis.location?.href);
  const base = /^.*?\/v1(?=\/)/.exec(pathname)?.[0];
  const isWatched = answer.headers.get("x-on-disconnect") === "stop";
  return base !== undefined && id && ID.test(id) ? { id, url: `${origin}${base}/streams/${id}`, isWatched, init } : null;
}

/** `fetch` with all that is usual. */
export const resumableFetch: typeof globalThis.fetch = /* @__PURE__ */ resumable();

/** Whether a request's body asks for a stream, as chat, responses, messages and transcriptions do. */
async function asksForStream(body: BodyInit | Request | null | undefined): Promise<boolean> {
  if (body instanceof FormData) return body.get("stream") === "true";
  if (body instanceof Request) {
    return /json/.test(body.headers.get("content-type") ?? "") && asksForStream(await body.clone().text());
  }
  const text = ArrayBuffer.isView(body) ? new TextDecoder().decode(body) : body;
  // Quotes of a text that is asked about are escaped in JSON.
  return typeof text === "string" && /"stream"\s*:\s*true/.test(text);
}

/**
 * The first call. Whoever gives up before there is an answer is told so at once, and the answer is waited for a moment
 * longer: it has the id by which the model is stopped.
 */
async function begin(world: World, call: Call, signal: AbortSignal | null, again: Again): Promise<Response> {
  const { input, init } = call;
  if (!signal || signal.aborted) return world.fetch(input, { ...init, signal });
  const connection = new AbortController();
  const answer = world.fetch(input, { ...init, signal: connection.signal });
  let leave = (): void => {};
  const left = new Promise<never>((_, reject) => (leave = () => reject(signal.reason)));
  signal.addEventListener("abort", leave);
  try {
    const found = await Promise.race([answer, left]);
    if (!streamOf(found, call, again)) signal.addEventListener("abort", () => connection.abort(signal.reason));
    return found;
  } catch (error) {
    const stop = async (late: Response): Promise<void> => {
      const stream = streamOf(late, call, again);
      if (stream) await stopModel(world, stream);
      connection.abort(signal.reason);
    };
    if (signal.aborted) void within(world, answer.then(stop), () => connection.abort(signal.reason));
    throw error;
  } finally {
    signal.removeEventListener("abort", leave);
  }
}

/** Waits for `work`, whose failure matters to nobody, and calls `leave` where that takes too long. */
async function within(world: World, work: Promise<void>, leave: () => void): Promise<void> {
  const done = new AbortController();
  void world.sleep(GRACE, done.signal).then(leave);
  await work.catch(() => {});
  done.abort();
}

/** The answer with the body of `events`, which is read when it is asked for, and left when `signal` says so. */
function wrapped(answer: Response, signal: AbortSignal | null, events: (over: () => void) => Events): Response {
  let leave = (): void => {};
  const read = events(() => signal?.removeEventListener("abort", leave));
  const body = new ReadableStream<Uint8Array>(
    {
      start(controller) {
        leave = () => (controller.error(signal?.reason), read.stop(signal?.reason));
        signal?.addEventListener("abort", leave);
        if (signal?.aborted) leave();
      },
      async pull(controller) {
        const bytes = await read.next();
        if (bytes) controller.enqueue(bytes);
        else controller.close();
      },
      cancel: (reason) => read.stop(reason),
    },
    { highWaterMark: 0 },
  );
  const response = new Response(body as BodyInit, answer);
  for (const name of ["url", "redirected", "type"] as const) Object.defineProperty(response, name, { value: answer[name] });
  return response;
}
