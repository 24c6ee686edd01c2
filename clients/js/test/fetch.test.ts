/** What stays as `fetch` has it, what stops a model, how long is waited, and what a tab remembers. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { resumable, unfinished } from "../src/index.ts";
import { ASK, BASE, chat, ID, Memory, numbered, Proxy, QUESTION, STREAM, stringOf } from "./proxy.ts";

const EVENTS = numbered([chat("one"), chat("two"), chat("three"), "data: [DONE]"]);
const BROKEN = { bytes: EVENTS[0]!.length + 4, end: "broken" as const };
const status = (code: number, headers = {}) => ({ answer: () => new Response("{}", { status: code, headers }) });
const tick = () => new Promise((resolve) => setImmediate(resolve));

// ------------------------------------------------------------------------------------------------- what stays as it is

test("what is no stream goes through as it is, and is not marked", async () => {
  const json = new Response("{}", { headers: { "content-type": "application/json", "x-inference-id": ID } });
  const calls: RequestInit[] = [
    {},
    { method: "GET" },
    { ...QUESTION, body: '{"stream": false}' },
    { ...QUESTION, body: JSON.stringify({ messages: [{ role: "user", content: '"stream": true' }] }) },
    { ...QUESTION, body: new FormData() },
    { ...QUESTION, body: new Blob(['{"stream": true}']) },
  ];
  for (const init of calls) {
    let given: unknown[] = [];
    const fetch = resumable({ fetch: async (...all) => ((given = all), json) });
    assert.equal(await fetch(ASK, init), json);
    assert.equal(given[1], init);
  }
});

test("a request for a stream is marked, in each form that it may have", async () => {
  const form = new FormData();
  form.set("stream", "true");
  const body = QUESTION.body as string;
  const { headers } = QUESTION;
  const calls: [RequestInfo | URL, RequestInit?][] = [
    [ASK, QUESTION],
    [new URL(ASK), { ...QUESTION, body: '{ "stream" : true }' }],
    [new Request(ASK, QUESTION)],
    [ASK, { ...QUESTION, body: new TextEncoder().encode(body) }],
    [ASK, { ...QUESTION, headers: Object.entries(headers!) as [string, string][], body: form }],
    [new Request(ASK, { method: "POST" }), { body, headers }],
  ];
  for (const [input, init] of calls) {
    const proxy = new Proxy(EVENTS, [BROKEN]);
    assert.equal(await (await resumable(proxy.world())(input, init)).text(), EVENTS.join(""));
    assert.equal(proxy.asked[0]!.headers.get("x-resumable"), "true");
    assert.deepEqual(proxy.asked.map(({ headers }) => headers.get("authorization")), ["Bearer opx-key", "Bearer opx-key"]);
  }
});

test("a failure before the first byte is left to the SDK", async () => {
  const failure = new TypeError("fetch failed");
  await assert.rejects(resumable(new Proxy(EVENTS, [{ fails: failure }]).world())(ASK, QUESTION), (error) => error === failure);
  for (const code of [400, 401, 429, 500, 503]) {
    const proxy = new Proxy(EVENTS, [status(code, { "x-inference-id": ID })]);
    assert.equal((await resumable(proxy.world())(ASK, QUESTION)).status, code);
    assert.equal(proxy.asked.length, 1);
  }
});

test("an answer to a stream that is none, or that is not resumable, is the very same answer", async () => {
  const headers = { "content-type": "text/event-stream", "x-resumable": "true" };
  for (const answer of [
    new Response("data: 1\n\n", { headers }),
    new Response("data: 1\n\n", { headers: { ...headers, "x-inference-id": "../../v1/models" } }),
    new Response("data: 1\n\n", { headers: { "content-type": "text/event-stream", "x-inference-id": ID } }),
    new Response("{}", { headers: { "content-type": "application/json", "x-resumable": "true", "x-inference-id": ID } }),
    new Response(null, { headers: { ...headers, "x-inference-id": ID } }),
  ]) {
    assert.equal(await resumable({ fetch: async () => answer })(ASK, QUESTION), answer);
  }
});

test("the answer keeps its status, headers and address", async () => {
  const proxy = new Proxy(EVENTS);
  const inner: typeof fetch = async (...all) =>
    Object.defineProperty(await proxy.fetch(...all), "url", { value: "https://elsewhere.example/v1/x" });
  const response = await resumable({ ...proxy.world(), fetch: inner })(ASK, QUESTION);
  assert.deepEqual([response.status, response.ok, response.url], [200, true, "https://elsewhere.example/v1/x"]);
  assert.equal(response.headers.get("x-inference-id"), ID);
});

test("a key is sent nowhere but to the address that was asked", async () => {
  const proxy = new Proxy(EVENTS, [BROKEN]);
  const inner: typeof fetch = async (...all) =>
    Object.defineProperty(await proxy.fetch(...all), "url", { value: "https://elsewhere.example/v1/x" });
  await (await resumable({ ...proxy.world(), fetch: inner })(ASK, QUESTION)).text();
  assert.deepEqual(proxy.asked.map(({ url }) => new URL(url).host), ["proxy.example", "proxy.example"]);
});

test("nothing is read that nobody asks for", async () => {
  const proxy = new Proxy(EVENTS, [{ piece: () => 10 }]);
  const response = await resumable(proxy.world())(ASK, QUESTION);
  await tick();
  assert.equal(proxy.pulls, 0);
  const reader = response.body!.getReader();
  const { value } = await reader.read();
  await tick();
  assert.equal(stringOf(value!), EVENTS[0]);
  assert.equal(proxy.pulls, Math.ceil(EVENTS[0]!.length / 10));
});

// ------------------------------------------------------------------------------------------------------ stop means stop

test("an abort stops the model and is told as fetch tells it", async () => {
  const proxy = new Proxy(EVENTS, [{ ...BROKEN, end: "silent" }]);
  const stop = new AbortController();
  const reader = (await resumable(proxy.world({ idle: 31_000, sleep: () => new Promise(() => {}) }))(ASK, { ...QUESTION, signal: stop.signal })).body!.getReader();
  await reader.read();
  const next = reader.read();
  stop.abort();
  await assert.rejects(next, { name: "AbortError" });
  await tick();
  assert.deepEqual(proxy.asked.map(({ method, url }) => [method, url]), [["POST", ASK], ["DELETE", STREAM]]);
  assert.equal(proxy.asked[1]!.headers.get("authorization"), "Bearer opx-key");
  assert.equal(proxy.cancelled, 1);
});

test("a reader that leaves stops the model", async () => {
  const proxy = new Proxy(EVENTS);
  const storage = new Memory();
  const response = await resumable({ ...proxy.world(), storage })(ASK, QUESTION);
  const [left] = unfinished(storage);
  await response.body!.cancel();
  await tick();
  assert.deepEqual([left?.id, proxy.stopped, proxy.cancelled, unfinished(storage)], [ID, 1, 1, []]);
});

test("an abort before there is an answer is told at once, and the model is stopped when its id is known", async () => {
  let open = (): void => {};
  const proxy = new Proxy(EVENTS, [{ gate: new Promise((resolve) => (open = resolve)) }]);
  const stop = new AbortController();
  const answer = resumable(proxy.world())(ASK, { ...QUESTION, signal: stop.signal });
  await tick();
  stop.abort(new DOMException("Too slow.", "TimeoutError"));
  await assert.rejects(answer, { name: "TimeoutError" });
  assert.equal(proxy.stopped, 0);
  open();
  await tick();
  assert.deepEqual([proxy.stopped, proxy.asked.at(-1)!.url], [1, STREAM]);
});

test("an abort before there is an answer closes the connection when that takes too long", async () => {
  const proxy = new Proxy(EVENTS, [{ gate: new Promise(() => {}) }]);
  let graceIsOver = (): void => {};
  const sleep = (ms: number): Promise<void> => new Promise((resolve) => ms === 15_000 && (graceIsOver = resolve));
  let given: AbortSignal | null | undefined;
  const inner: typeof fetch = (input, init) => ((given = init!.signal), proxy.fetch(input, init));
  const stop = new AbortController();
  const answer = resumable(proxy.world({ sleep, fetch: inner }))(ASK, { ...QUESTION, signal: stop.signal });
  await tick();
  stop.abort();
  await assert.rejects(answer, { name: "AbortError" });
  assert.equal(given!.aborted, false);
  graceIsOver();
  await tick();
  assert.deepEqual([given!.aborted, proxy.stopped], [true, 0]);
});

test("an abort while a connection is looked for stops the model", async () => {
  const proxy = new Proxy(EVENTS, [BROKEN, { gate: new Promise(() => {}) }]);
  const stop = new AbortController();
  const reader = (await resumable(proxy.world())(ASK, { ...QUESTION, signal: stop.signal })).body!.getReader();
  await reader.read();
  const next = reader.read();
  await tick();
  stop.abort();
  await assert.rejects(next, { name: "AbortError" });
  await tick();
  assert.equal(proxy.stopped, 1);
});

test("a signal that was aborted asks for nothing", async () => {
  const proxy = new Proxy(EVENTS);
  await assert.rejects(resumable(proxy.world())(ASK, { ...QUESTION, signal: AbortSignal.abort() }), { name: "AbortError" });
  assert.equal(proxy.stopped, 0);
});

test("an answer that has ended is not stopped any more", async () => {
  const proxy = new Proxy(EVENTS);
  const stop = new AbortController();
  const response = await resumable(proxy.world())(ASK, { ...QUESTION, signal: stop.signal });
  await response.text();
  stop.abort();
  const other = await resumable(proxy.world())(ASK, QUESTION);
  const reader = other.body!.getReader();
  for (let got = ""; !got.includes("[DONE]"); ) got += stringOf((await reader.read()).value!);
  await reader.cancel();
  await tick();
  assert.equal(proxy.stopped, 0);
});

test("a stop that does not get through is tried again", async () => {
  const proxy = new Proxy(EVENTS);
  const answers = [() => Promise.reject(new TypeError("fetch failed")), async () => new Response("", { status: 503 })];
  const inner: typeof fetch = (input, init) => {
    const fails = init?.method === "DELETE" ? answers.shift() : undefined;
    return fails ? fails() : proxy.fetch(input, init);
  };
  const response = await resumable(proxy.world({ fetch: inner }))(ASK, QUESTION);
  await response.body!.cancel();
  await tick();
  assert.deepEqual([answers.length, proxy.stopped], [0, 1]);
});

test("signs of life are given where the proxy wants them: by the clock, and when something comes", async () => {
  for (const watched of [true, false]) {
    const proxy = new Proxy(EVENTS, [{ piece: () => EVENTS[0]!.length }]);
    if (watched) proxy.headers["x-on-disconnect"] = "stop";
    const beats: (() => void)[] = [];
    const sleep = (ms: number, signal?: AbortSignal): Promise<void> =>
      new Promise((resolve) => {
        if (ms === 9_000) beats.push(resolve);
        signal?.addEventListener("abort", () => resolve());
      });
    const reader = (await resumable(proxy.world({ sleep }))(ASK, QUESTION)).body!.getReader();
    const seen: number[] = [];
    for (const passed of [8_999, 1, 8_999, 1]) {
      proxy.time += passed;
      await reader.read();
      await tick();
      seen.push(proxy.beats);
    }
    proxy.time += 9_000;
    beats.at(-1)?.();
    await tick();
    assert.deepEqual([seen, proxy.beats], watched ? [[0, 1, 1, 1], 1] : [[0, 0, 0, 0], 0]);
    assert.equal(beats.length, watched ? 1 : 0);
  }
});

test("a reader that does not read is alive, and one that has all gives no sign any more", async () => {
  const proxy = new Proxy(EVENTS);
  proxy.headers["x-on-disconnect"] = "stop";
  let sleeps = 0;
  const sleep = async (ms: number, signal?: AbortSignal): Promise<void> => {
    if (ms !== 9_000) return new Promise(() => {});
    if (sleeps++ === 3) await new Promise((resolve) => signal!.addEventListener("abort", resolve));
    else proxy.time += ms;
  };
  const response = await resumable(proxy.world({ sleep }))(ASK, QUESTION);
  await tick();
  assert.equal(proxy.beats, 3);
  await response.text();
  proxy.time += 90_000;
  await tick();
  assert.equal(proxy.beats, 3);
});

// ----------------------------------------------------------------------------------------------------- how long is waited

test("pauses double up to ten seconds, chance shortens them, and a new event makes them short again", async () => {
  const fails = { fails: new TypeError("fetch failed") };
  const proxy = new Proxy(EVENTS, [BROKEN, ...Array(6).fill(fails), { ...BROKEN, bytes: EVENTS[1]!.length }]);
  await (await resumable(proxy.world())(ASK, QUESTION)).text();
  assert.deepEqual(proxy.waits, [500, 1000, 2000, 4000, 8000, 10_000, 10_000, 500]);
  const lucky = new Proxy(EVENTS, [BROKEN, fails]);
  await (await resumable(lucky.world({ random: () => 0.25 }))(ASK, QUESTION)).text();
  assert.deepEqual(lucky.waits, [125, 250]);
});

test("a server that says when to come back is heard, up to a minute", async () => {
  const proxy = new Proxy(EVENTS, [BROKEN, status(429, { "retry-after": "7" }), status(503, { "retry-after": "9999" }), status(503, { "retry-after": "soon" })]);
  await (await resumable(proxy.world())(ASK, QUESTION)).text();
  assert.deepEqual(proxy.waits, [500, 7000, 60_000, 4000]);
});

test("patience ends with the error of the cut, and the stream can still be continued", async () => {
  const storage = new Memory();
  const proxy = new Proxy(EVENTS, [BROKEN, ...Array(100).fill({ fails: new TypeError("fetch failed") })]);
  const response = await resumable({ ...proxy.world({ patience: 20_000 }), storage })(ASK, QUESTION);
  await assert.rejects(response.text(), { message: "terminated" });
  assert.deepEqual(proxy.waits, [500, 1000, 2000, 4000, 8000]);
  assert.deepEqual([unfinished(storage).map(({ id }) => id), proxy.stopped], [[ID], 0]);
});

test("a stream that is gone, or somebody else's, ends with the error of the cut", async () => {
  for (const code of [401, 403, 404, 410]) {
    const storage = new Memory();
    const proxy = new Proxy(EVENTS, [BROKEN, status(code)]);
    await assert.rejects((await resumable({ ...proxy.world(), storage })(ASK, QUESTION)).text(), { message: "terminated" });
    assert.deepEqual([proxy.asked.length, unfinished(storage)], [2, []]);
  }
});

test("headers that have expired are made anew", async () => {
  const proxy = new Proxy(EVENTS, [BROKEN]);
  const headers = async () => ({ authorization: "Bearer a-newer-token" });
  await (await resumable({ ...proxy.world(), headers })(ASK, QUESTION)).text();
  assert.equal(proxy.asked[1]!.headers.get("authorization"), "Bearer a-newer-token");
});

// ------------------------------------------------------------------------------------------------ what a tab remembers

test("after a reload the stream is found and continued, by the same SDK call and by its address", async () => {
  const storage = new Memory();
  await resumable({ ...new Proxy(EVENTS).world(), storage, now: () => 5 })(ASK, QUESTION); // never read: the page is gone
  const [left] = unfinished(storage, 6);
  assert.deepEqual(left, { id: ID, url: STREAM, at: 5 });

  const proxy = new Proxy(EVENTS, [BROKEN]);
  const fetch = resumable({ ...proxy.world(), storage, continues: left, now: () => 7 });
  assert.equal(await (await fetch(ASK, QUESTION)).text(), EVENTS.join(""));
  assert.deepEqual(proxy.asked.map(({ method, url }) => [method, url]), [["GET", STREAM], ["GET", STREAM]]);
  assert.deepEqual(unfinished(storage, 8), []);
  await (await fetch(ASK, QUESTION)).text();
  assert.equal(proxy.asked.at(-1)!.method, "POST");

  const other = new Proxy(EVENTS, [BROKEN]);
  const { headers } = QUESTION;
  assert.equal(await (await resumable(other.world())(STREAM, { headers })).text(), EVENTS.join(""));
  const rest = resumable({ ...other.world(), continues: { ...left!, after: 2 } });
  assert.equal(await (await rest(ASK, QUESTION)).text(), EVENTS.slice(2).join(""));
});

test("who stops reading at the last event leaves nothing behind", async () => {
  const storage = new Memory();
  const response = await resumable({ ...new Proxy(EVENTS, [{ piece: () => EVENTS.join("").length }]).world(), storage })(ASK, QUESTION);
  assert.equal(stringOf((await response.body!.getReader().read()).value!), EVENTS.join(""));
  assert.deepEqual(unfinished(storage), []);
});

test("what cannot be continued any more is forgotten, and said", async () => {
  const storage = new Memory();
  await resumable({ ...new Proxy(EVENTS).world(), storage })(ASK, QUESTION);
  const [left] = unfinished(storage);
  const proxy = new Proxy(EVENTS, [status(404)]);
  assert.equal((await resumable({ ...proxy.world(), storage, continues: left })(ASK, QUESTION)).status, 404);
  assert.deepEqual(unfinished(storage), []);

  await resumable({ ...new Proxy(EVENTS).world(), storage })(ASK, QUESTION);
  await resumable({ ...new Proxy(EVENTS).world(), storage })(STREAM, { method: "DELETE" });
  assert.deepEqual(unfinished(storage), []);
});

test("neither key nor text is kept, nor what is an hour old, and a storage may fail", async () => {
  const storage = new Memory();
  await resumable({ ...new Proxy(EVENTS).world(), storage, now: () => 0 })(ASK, QUESTION);
  assert.ok(!/opx-key|Hello/.test([...storage.kept].flat().join()));
  assert.deepEqual([unfinished(storage, 3_599_999).length, unfinished(storage, 3_600_000).length], [1, 0]);
  for (const value of ["", "{", "{}", "[1,null,{}]", '[{"id":1}]']) {
    storage.setItem("resumable-fetch", value);
    assert.deepEqual(unfinished(storage), []);
  }
  const full = {
    getItem: (): string => { throw new Error("denied"); },
    setItem: (): void => { throw new Error("full"); },
    removeItem: (): void => { throw new Error("denied"); },
  };
  assert.equal(await (await resumable({ ...new Proxy(EVENTS).world(), storage: full })(ASK, QUESTION)).text(), EVENTS.join(""));
  assert.deepEqual(unfinished(null), []);
});

test("only the address of a stream is taken for one", async () => {
  const { headers } = QUESTION;
  for (const url of [`${BASE}/models`, `${BASE}/streams`, `${BASE}/streams/${ID}/more`]) {
    const proxy = new Proxy(EVENTS, [BROKEN]);
    await assert.rejects((await resumable(proxy.world())(url, { headers })).text(), { message: "terminated" });
    assert.equal(proxy.asked.length, 1);
  }
});
