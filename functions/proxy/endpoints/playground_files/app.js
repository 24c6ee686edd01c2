/** The page: from the key to the chat. It keeps nothing: what is typed lives as long as the tab. */

import { Conversation } from "./conversation.js";
import { byId, element, growing, say } from "./dom.js";
import { Trouble, models, people, tokenOf, useKey } from "./proxy.js";
import { explained, troubleBox } from "./troubles.js";

const OTHER = "\u0000other";
const ALIASES = "";
const EXAMPLES = [
  "Explain server-sent events in three sentences",
  "Write a Python function that counts words, with a test",
  "Compare three ways to sort in a table",
];
const WHY_UNAVAILABLE = {
  server_not_configured: "No token yet",
  token_unavailable: "No token at the moment",
  upstream_unreachable: "Cannot be reached",
  upstream_timeout: "Does not answer",
};

let byServer = new Map();
/** What brings back the chat that was left last; null if none can be. */
let lastChat = null;

// ------------------------------------------------------------------------------------------------------- key and models

const isLocal = ["127.0.0.1", "localhost", "[::1]"].includes(location.hostname);
byId("local-note").hidden = !isLocal;

byId("connect").addEventListener("submit", (event) => {
  event.preventDefault();
  connect(byId("key").value);
});

async function connect(key) {
  const field = byId("key");
  const button = byId("connect-button");
  button.disabled = true;
  byId("connect-trouble").replaceChildren();
  field.removeAttribute("aria-invalid");
  useKey(key);
  try {
    const listed = await models();
    if (!listed.models.length) throw new Trouble(200, { code: "no_models", message: whyUnavailable(listed) });
    field.value = "";
    open(listed);
  } catch (error) {
    if (!(error instanceof Trouble)) throw error;
    useKey("");
    if (explained(error).needsKey) field.setAttribute("aria-invalid", "true");
    byId("connect-trouble").replaceChildren(troubleBox(error, { again: () => byId("connect").requestSubmit() }));
    field.select();
    field.focus();
  } finally {
    button.disabled = false;
  }
}

/** The local stack has an issuer, and people who may sign in with one click. */
async function offerPeople() {
  for (const { user, name, tier } of await people()) {
    const onclick = async () => connect(await tokenOf(user));
    byId("people").append(element("button", { type: "button", class: "plain", onclick }, `Sign in as ${name} (${tier})`));
    byId("people").hidden = false;
  }
}

if (isLocal) offerPeople();

/** Which servers cannot be asked at the moment, and why: `No token yet: mistral, openai.` */
function whyUnavailable({ unavailable }) {
  const missing = new Map();
  for (const { server, reason } of unavailable) {
    const why = WHY_UNAVAILABLE[reason] || "Not available";
    missing.set(why, [...(missing.get(why) || []), server]);
  }
  return [...missing].map(([why, names]) => `${why}: ${names.join(", ")}.`).join(" ");
}

function open(listed) {
  const { models: ids } = listed;
  const before = byServer.size ? settings() : {};
  byServer = new Map();
  for (const id of ids) {
    const slash = id.indexOf("/");
    const [server, model] = slash < 0 ? [ALIASES, id] : [id.slice(0, slash), id.slice(slash + 1)];
    byServer.set(server, [...(byServer.get(server) || []), model]);
  }
  const servers = [...byServer.keys()].sort((a, b) => (a === ALIASES) - (b === ALIASES));
  byId("server").replaceChildren(...servers.map((name) => element("option", { value: name }, name || "Aliases")));
  byId("unavailable").textContent = whyUnavailable(listed);
  byId("unavailable").hidden = !byId("unavailable").textContent;
  if (servers.includes(before.server)) byId("server").value = before.server;
  showModels();
  if (byServer.get(before.server)?.includes(before.model)) byId("model").value = before.model;
  showChosen();
  byId("welcome").hidden = true;
  byId("playground").hidden = byId("session").hidden = false;
  document.body.classList.add("open");
  byId("question").focus();
  say(`Connected. ${ids.length} models.`);
}

/** Forget the key and all that was said with it. */
function leave() {
  conversation.forget();
  newChat();
  lastChat = null;
  byId("bring-back").hidden = true;
  byServer = new Map();
  byId("server").replaceChildren();
  byId("model").replaceChildren();
  changeKey();
}

/** Ask for another key. The chat waits for it. */
function changeKey() {
  useKey("");
  byId("playground").hidden = byId("session").hidden = true;
  document.body.classList.remove("open");
  byId("welcome").hidden = false;
  byId("key").focus();
}

function showModels() {
  const server = byId("server").value;
  const names = byServer.get(server) || [];
  const standard = server === ALIASES ? [] : [element("option", { value: "" }, "The server’s default")];
  const other = server === ALIASES ? [] : [element("option", { value: OTHER }, "Another one …")];
  byId("model").replaceChildren(...standard, ...names.map((name) => element("option", { value: name }, name)), ...other);
  showChosen();
}

function showChosen() {
  byId("other-model-row").hidden = byId("model").value !== OTHER;
  const { server, model } = settings();
  byId("chosen").textContent = [server, model].filter(Boolean).join(" · ");
}

function settings() {
  const model = byId("model").value;
  const temperature = byId("temperature").valueAsNumber; // NaN where there is none
  return {
    server: byId("server").value,
    model: model === OTHER ? byId("other-model").value.trim() : model,
    system: byId("system").value.trim(),
    temperature: Number.isFinite(temperature) ? temperature : null,
    noCache: byId("no-cache").checked,
  };
}

byId("server").addEventListener("change", showModels);
byId("model").addEventListener("change", () => {
  showChosen();
  if (byId("model").value === OTHER) byId("other-model").focus();
});
byId("other-model").addEventListener("input", showChosen);
byId("choices").addEventListener("submit", (event) => event.preventDefault());
byId("forget").addEventListener("click", leave);

const wide = matchMedia("(min-width: 62rem)");
const unfold = () => (byId("settings").open = wide.matches);
wide.addEventListener("change", unfold);
unfold();

// ----------------------------------------------------------------------------------------------------------------- chat

const conversation = new Conversation({
  settings,
  newKey: changeKey,
  onBusy(busy) {
    byId("send").hidden = busy;
    byId("stop").hidden = !busy;
    if (!busy && document.activeElement === document.body) byId("question").focus({ preventScroll: true });
  },
});
const question = byId("question");
const fit = growing(question);

function send() {
  const text = question.value.trim();
  if (!text || conversation.busy || !temperatureIsOne()) return;
  question.value = "";
  fit();
  question.focus({ preventScroll: true });
  byId("examples").hidden = byId("bring-back").hidden = true;
  lastChat = null;
  conversation.ask(text);
}

/** Whether the temperature can be sent. Where not, it says so beside it. */
function temperatureIsOne() {
  const field = byId("temperature");
  const fine = field.validity.valid;
  byId("temperature-trouble").hidden = fine;
  if (fine) field.removeAttribute("aria-invalid");
  else {
    byId("settings").open = true;
    field.setAttribute("aria-invalid", "true");
    field.focus();
    say(byId("temperature-trouble").textContent);
  }
  return fine;
}

function newChat() {
  lastChat = conversation.clear() || lastChat;
  byId("bring-back").hidden = lastChat === null;
  byId("examples").hidden = false;
  question.value = "";
  fit();
}

byId("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  send();
});
question.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  send();
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") conversation.stop();
});
byId("stop").addEventListener("click", () => {
  conversation.stop();
  question.focus({ preventScroll: true });
});
byId("new-chat").addEventListener("click", () => {
  newChat();
  question.focus();
});
byId("bring-back").addEventListener("click", () => {
  lastChat?.();
  lastChat = null;
  byId("bring-back").hidden = byId("examples").hidden = true;
  question.focus();
});
byId("temperature").addEventListener("input", () => {
  if (byId("temperature").validity.valid) temperatureIsOne();
});
byId("skip").addEventListener("click", (event) => {
  event.preventDefault();
  byId(byId("playground").hidden ? "key" : "question").focus();
});
byId("examples").append(
  element("p", {}, "For a start:"),
  ...EXAMPLES.map((text) =>
    element("button", { type: "button", class: "example", onclick: () => ((question.value = text), send()) }, text),
  ),
);
