/** A request as code, and a chat as a file. The key is named in them, never written. */

import { save } from "./dom.js";
import { requestOf } from "./proxy.js";

/** Characters above which a request is too long for an argument of a command. */
const LONGEST_ARGUMENT = 100_000;
/** What the SDKs for Python know by name; the rest of a body is given to them apart. */
const NAMED = ["model", "messages", "stream", "stream_options", "temperature", "max_tokens", "max_completion_tokens"];

export const codeFor = { curl, Python: python, Node: node };

function curl(question) {
  const { path, headers, body } = requestOf(question);
  const named = Object.entries(headers).map(([name, value]) => `-H '${name}: ${value}'`);
  const json = JSON.stringify(body);
  const data = json.length > LONGEST_ARGUMENT ? `-d @- <<'END'\n${json}\nEND\n` : `-d '${json.replaceAll("'", "'\\''")}'`;
  return [`curl -N '${location.origin}${path}' -H "Authorization: Bearer $OPENAI_API_KEY"`, ...named, data].join(" ");
}

/** `body` without what an SDK does by itself, and the headers that are left to name. */
function partsOf(question) {
  const { base, headers, body } = requestOf(question);
  const { "content-type": _, ...more } = headers;
  return { base: location.origin + base, headers: Object.keys(more).length ? more : null, body };
}

function python(question) {
  const { base, headers, body } = partsOf(question);
  const named = NAMED.filter((name) => name in body).map((name) => `    ${name}=${literal(body[name])},`);
  const rest = Object.fromEntries(Object.entries(body).filter(([name]) => !NAMED.includes(name)));
  if (Object.keys(rest).length) named.push(`    extra_body=${literal(rest)},`);
  if (headers) named.push(`    extra_headers=${literal(headers)},`);
  const printed = body.stream
    ? ["for chunk in answer:", "    if chunk.choices:", '        print(chunk.choices[0].delta.content or "", end="", flush=True)']
    : ["print(answer.choices[0].message.content)"];
  return [
    "import os",
    "",
    "from openai import OpenAI",
    "",
    `client = OpenAI(base_url=${literal(base)}, api_key=os.environ["OPENAI_API_KEY"])`,
    "answer = client.chat.completions.create(",
    ...named,
    ")",
    ...printed,
    "",
  ].join("\n");
}

/** JSON's value as Python writes it. */
function literal(value) {
  if (value === null) return "None";
  if (JSON.isRawJSON?.(value)) return value.rawJSON;
  if (typeof value === "boolean") return value ? "True" : "False";
  if (Array.isArray(value)) return `[${value.map(literal).join(", ")}]`;
  if (typeof value === "object") return `{${Object.entries(value).map(([name, each]) => `${JSON.stringify(name)}: ${literal(each)}`).join(", ")}}`;
  return JSON.stringify(value);
}

function node(question) {
  const { base, headers, body } = partsOf(question);
  const options = headers ? `, ${JSON.stringify({ headers })}` : "";
  const printed = body.stream
    ? 'for await (const chunk of answer) process.stdout.write(chunk.choices[0]?.delta?.content ?? "");'
    : "console.log(answer.choices[0].message.content);";
  return [
    'import OpenAI from "openai";',
    "",
    `const client = new OpenAI({ baseURL: ${JSON.stringify(base)}, apiKey: process.env.OPENAI_API_KEY });`,
    `const answer = await client.chat.completions.create(${JSON.stringify(body, null, 2)}${options});`,
    printed,
    "",
  ].join("\n");
}

/** Save a chat, as `Conversation.record` gives it, as a file of `kind`. */
export function saveChat(kind, chat) {
  const name = `chat-${new Date().toISOString().slice(0, 19).replaceAll(":", "-")}`;
  if (kind === "JSON") save(`${name}.json`, "application/json", `${JSON.stringify({ ...chat, proxy: location.origin }, null, 2)}\n`);
  else save(`${name}.md`, "text/markdown", markdownOf(chat));
}

function markdownOf({ title, system, sum, turns }) {
  const parts = [`# ${title}`, ...(system ? ["**System message**", system] : [])];
  for (const { question, pictures = [], answer } of turns) {
    parts.push("## You", ...pictures.map(({ name }) => `[picture: ${name}]`), question);
    parts.push(`## ${[answer.server, answer.model].filter(Boolean).join(" · ") || "Answer"}`, answer.content);
    if (answer.tool_calls) parts.push(`\`\`\`\n${answer.tool_calls.join("\n")}\n\`\`\``);
    if (answer.ended) parts.push(`_${answer.ended}_`);
  }
  return `${[...parts.filter(Boolean), "---", sum].join("\n\n")}\n`;
}
