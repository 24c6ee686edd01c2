/** Real connections: what Node's own `fetch` says of a cut, an abort and a reader that leaves, against a server that cuts. */

import assert from "node:assert/strict";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { after, before, test } from "node:test";

import { resumable } from "../src/index.ts";
import { bytesOf, chat, dice, ID, numbered, stringOf } from "./proxy.ts";

const EVENTS = [...numbered(Array.from({ length: 60 }, (_, index) => chat(`${index} Grüße 👩‍👩‍👧`))), `data: [DONE]\nid: ${ID}.61\n\n`];
const INIT = { method: "POST", body: '{"stream": true}', headers: { authorization: "Bearer opx-key" } };
/** Time passes at once between tries, and no connection is taken for dead. */
const sleep = (ms: number): Promise<void> => (ms > 15_000 ? new Promise(() => {}) : Promise.resolve());

let server: Server;
let base = "";
let answer: (request: IncomingMessage, response: ServerResponse) => void;

before(async () => {
  server = createServer((request, response) => answer(request, response));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  base = `http://127.0.0.1:${(server.address() as AddressInfo).port}/demo/v1`;
});
after(() => {
  server.closeAllConnections();
  server.close();
});

function begun(response: ServerResponse): ServerResponse {
  return response.writeHead(200, { "content-type": "text/event-stream", "x-inference-id": ID, "x-resumable": "true" });
}

test("a connection that is cut twenty times in one answer", async () => {
  const random = dice(20);
  let cuts = 0;
  const asked: string[] = [];
  answer = (request, response) => {
    asked.push(`${request.method} ${request.url}`);
    const first = Number(request.headers["last-event-id"]?.toString().split(".")[1] ?? 0);
    const rest = bytesOf(EVENTS.slice(first).join(""));
    if (cuts === 20) return void begun(response).end(rest);
    cuts++;
    begun(response).write(rest.subarray(0, Math.floor(random() * 400)), () => response.destroy());
  };
  const response = await resumable({ sleep })(`${base}/chat/completions`, INIT);
  assert.equal(await response.text(), EVENTS.join(""));
  assert.deepEqual(asked, ["POST /demo/v1/chat/completions", ...Array(20).fill(`GET /demo/v1/streams/${ID}`)]);
});

for (const [how, leave] of Object.entries({
  "an abort": (stop: AbortController) => stop.abort(),
  "a reader that leaves": (_: AbortController, reader: ReadableStreamDefaultReader) => reader.cancel(),
})) {
  test(`${how} closes the connection and stops the model`, async () => {
    const stop = new AbortController();
    const seen = await new Promise<string[]>((resolve) => {
      const seen: string[] = [];
      const saw = (what: string): void => void (seen.push(what) === 2 && resolve(seen.sort()));
      answer = (request, response) => {
        if (request.method === "DELETE") {
          saw(`DELETE ${request.url} ${request.headers.authorization}`);
          return void response.writeHead(204).end();
        }
        begun(response).write(EVENTS[0]);
        response.on("close", () => saw("closed"));
      };
      void (async () => {
        const response = await resumable({ sleep })(`${base}/chat/completions`, { ...INIT, signal: stop.signal });
        const reader = response.body!.getReader();
        assert.equal(stringOf((await reader.read()).value!), EVENTS[0]);
        await leave(stop, reader);
        await reader.read().catch((error: Error) => assert.equal(error.name, "AbortError"));
      })();
    });
    assert.deepEqual(seen, [`DELETE /demo/v1/streams/${ID} Bearer opx-key`, "closed"]);
  });
}
