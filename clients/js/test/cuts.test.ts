/** The law: whatever happens to the connections, the reader has every event once, whole and as it was sent. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { resumable } from "../src/index.ts";
import { ASK, BASE, chat, dice, ID, Memory, numbered, Proxy, QUESTION, STREAM, stringOf, type End, type Fate } from "./proxy.ts";

const WORDS = ["Grüße", "👩‍👩‍👧 family", "id: 9", "\\n\\n", "data: [DONE]", "漢字", "", "a".repeat(300), "\u2028data: [DONE]\u2028", "\u2029id: 9\u2029", '"stream": true'];
const RUNS = Number(process.env.RUNS ?? 400);

function answer(random: () => number): { sent: string[]; events: string[] } {
  const end = ["\n", "\r\n", "\r"][Math.floor(random() * 3)]!;
  const contents = Array.from({ length: 1 + Math.floor(random() * 12) }, () => chat(WORDS[Math.floor(random() * WORDS.length)]!));
  const several = contents.map((line) => (random() < 0.3 ? `event: delta${end}${line}${end}data: more` : line));
  const events = numbered([...several, "data: [DONE]"], end);
  const sent = events.map((event) => (random() < 0.2 ? `: keep-alive${end}${end}${event}` : event));
  return { sent, events };
}

const withoutComments = (text: string): string => text.replace(/: keep-alive(\r\n|\n|\r)\1/g, "");

function fate(random: () => number, length: number): Fate {
  const kind = random();
  if (kind < 0.08) return { fails: new TypeError("fetch failed") };
  if (kind < 0.16) return { answer: () => new Response("", { status: 503, headers: { "retry-after": "2" } }) };
  if (kind < 0.22) return { answer: () => new Response("<p>Sign in to the Wi-Fi", { headers: { "content-type": "text/html" } }) };
  return ending(random, length);
}

function ending(random: () => number, length: number): Fate {
  const end = (["broken", "closed", "silent"] as End[])[Math.floor(random() * 3)]!;
  const piece = (): number => 1 + Math.floor(random() * (random() < 0.5 ? 3 : 200));
  return { end, bytes: Math.floor(random() * length), piece, again: Math.floor(random() * 3) };
}

for (const seed of Array(RUNS).keys()) {
  test(`cut at will, seed ${seed}`, async () => {
    const random = dice(seed);
    const { sent, events } = answer(random);
    const length = sent.join("").length;
    const fates = [ending(random, length), ...Array.from({ length: Math.floor(random() * 20) }, () => fate(random, length))];
    const proxy = new Proxy(sent, fates);
    const storage = new Memory();

    const got = await (await resumable({ ...proxy.world(), storage })(ASK, QUESTION)).text();

    assert.equal(withoutComments(got), events.join(""));
    assert.equal(proxy.stopped, 0);
    assert.deepEqual([...storage.kept], []);
    for (const { method, url, headers } of proxy.asked.slice(1)) {
      assert.deepEqual([method, url, headers.get("authorization")], ["GET", STREAM, "Bearer opx-key"]);
      assert.deepEqual([headers.get("content-type"), headers.get("x-resumable")], [null, null]);
      const last = headers.get("last-event-id");
      assert.ok(last === null || new RegExp(`^${ID}\\.[1-9]\\d*$`).test(last));
    }
  });
}

test("what is passed on before a cut is whole events", async () => {
  const events = numbered([chat("one"), chat("two 👩‍👩‍👧"), "data: [DONE]"]);
  for (let bytes = 0; bytes < new TextEncoder().encode(events.join("")).length; bytes++) {
    const gone = { answer: () => new Response("", { status: 404 }) };
    const proxy = new Proxy(events, [{ bytes, end: "broken", piece: () => 1 }, gone]);
    const reader = (await resumable(proxy.world())(ASK, QUESTION)).body!.getReader();
    let got = "";
    const error = await (async () => {
      for (;;) got += stringOf((await reader.read()).value!);
    })().catch((cut: unknown) => cut);
    assert.ok(error instanceof TypeError);
    assert.equal(error.message, "terminated");
    assert.ok(events.map((_, index) => events.slice(0, index).join("")).includes(got), `${bytes}: ${got}`);
  }
});

test("after the last event no cut matters, and nothing is asked", async () => {
  for (const last of ["data: [DONE]", 'event: response.completed\ndata: {"type":"response.completed"}', "event: message_stop\ndata: {}"]) {
    const events = numbered([chat("one"), last]);
    const proxy = new Proxy(events, [{ bytes: 1_000_000, end: "broken" }]);
    assert.equal(await (await resumable(proxy.world())(ASK, QUESTION)).text(), events.join(""));
    assert.equal(proxy.asked.length, 1);
  }
});

test("a close in good order without a last event is looked into once", async () => {
  const events = numbered([chat("one"), chat("two")]);
  const proxy = new Proxy(events, [{}, { answer: () => new Response("", { status: 404 }) }]);
  assert.equal(await (await resumable(proxy.world())(ASK, QUESTION)).text(), events.join(""));
  assert.equal(proxy.asked[1]!.headers.get("last-event-id"), `${ID}.2`);
  assert.equal(proxy.asked.length, 2);
});

test("an answer without a last event, or one without its blank line, has ended when nothing new comes", async () => {
  for (const last of ["", "data: half", "data: whole\nid: 9\n", `data: numbered\nid: ${ID}.3\n`]) {
    const events = [...numbered([chat("one"), chat("two")]), last];
    const proxy = new Proxy(events);
    assert.equal(await (await resumable(proxy.world())(ASK, QUESTION)).text(), events.join(""));
    assert.deepEqual(proxy.asked.map(({ method }) => method), ["POST", "GET", "GET"]);
  }
});

test("the events that tell of a stream that was lost are numbered far behind the others", async () => {
  const events = numbered([chat("one"), chat("two")]);
  const lost = `data: {"error":{"code":"worker_killed"}}\nid: ${ID}.1000003\n\ndata: [DONE]\nid: ${ID}.1000004\n\n`;
  const rest = () => new Response(events[1] + lost, { headers: { "content-type": "text/event-stream" } });
  const proxy = new Proxy(events, [{ bytes: events[0]!.length, end: "broken" }, { answer: rest }]);
  assert.equal(await (await resumable(proxy.world())(ASK, QUESTION)).text(), events.join("") + lost);
});

test("an error frame without an id ends what was replayed", async () => {
  const events = numbered([chat("one"), chat("two")]);
  const frame = 'data: {"error":{"code":"stream_lost","message":"The sandbox is gone."}}\n\n';
  const rest = () => new Response(events[1] + frame, { headers: { "content-type": "text/event-stream" } });
  const gone = { answer: () => new Response("", { status: 404 }) };
  const proxy = new Proxy(events, [{ bytes: events[0]!.length, end: "broken" }, { answer: rest }, gone]);
  assert.equal(await (await resumable(proxy.world())(ASK, QUESTION)).text(), events.join("") + frame);
});

test("the base of the address is the SDK's, whatever stands before it", async () => {
  const bases = { "https://a.example/v1": "/v1", "https://a.example/prod/openai/v1": "/prod/openai/v1", [BASE]: "/demo/v1" };
  for (const [base, path] of Object.entries(bases)) {
    const proxy = new Proxy(numbered([chat("one"), "data: [DONE]"]), [{ bytes: 3, end: "broken" }]);
    await (await resumable(proxy.world())(`${base}/chat/completions?x=1`, QUESTION)).text();
    assert.equal(proxy.asked[1]!.url, `${new URL(base).origin}${path}/streams/${ID}`);
  }
});
