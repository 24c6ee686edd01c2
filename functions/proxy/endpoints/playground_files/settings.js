/** What is chosen beside the chat: the server, the model, and how it is asked. */

import { codeButtons } from "./answer.js";
import { byId, element, say } from "./dom.js";

const OTHER = "\u0000other";
const ALIASES = "";
/** Models above which they are found in a list with a search. */
const MANY = 30;
const WHY_UNAVAILABLE = {
  __proto__: null,
  server_not_configured: "No token yet",
  token_unavailable: "No token at the moment",
  upstream_unreachable: "Cannot be reached",
  upstream_timeout: "Does not answer",
};

let byServer = new Map();

/** Which servers cannot be asked at the moment, and why: `No token yet: mistral, openai.` */
export function whyUnavailable({ unavailable }) {
  const missing = new Map();
  for (const { server, reason } of unavailable) {
    const why = WHY_UNAVAILABLE[reason] || "Not available";
    missing.set(why, [...(missing.get(why) || []), server]);
  }
  return [...missing].map(([why, names]) => `${why}: ${names.join(", ")}.`).join(" ");
}

/** Offer what a key may use, as `models` of proxy.js gives it. What was chosen stays chosen where it is still there. */
export function offerModels(listed) {
  const before = byServer.size ? { ...settings(), isOther: byId("model").value === OTHER } : {};
  byServer = new Map();
  for (const id of listed.models) {
    const slash = id.indexOf("/");
    const [server, model] = slash < 0 ? [ALIASES, id] : [id.slice(0, slash), id.slice(slash + 1)];
    byServer.set(server, [...(byServer.get(server) || []), model]);
  }
  const servers = [...byServer.keys()].sort((a, b) => (a === ALIASES) - (b === ALIASES));
  byServer = new Map(servers.map((name) => [name, byServer.get(name)]));
  byId("server").replaceChildren(...servers.map((name) => element("option", { value: name }, name || "Aliases")));
  byId("unavailable").textContent = whyUnavailable(listed);
  byId("unavailable").hidden = !byId("unavailable").textContent;
  const many = listed.models.length > MANY;
  byId("find-model").hidden = !many;
  byId("model").hidden = many;
  byId("model-label").htmlFor = many ? "find-model" : "model";
  const isThere = byServer.get(before.server)?.includes(before.model) || before.isOther;
  choose(servers.includes(before.server) ? before.server : servers[0], isThere ? before.model : "");
}

/** Forget what a key may use, and what was chosen and written with it. */
export function forgetSettings() {
  byServer = new Map();
  byId("choices").reset();
  Object.keys(CHECKED).forEach(isFine);
  byId("server").replaceChildren();
  byId("model").replaceChildren();
}

/** Choose a model of a server. One that is not in its list is asked for by its name; "" is the server's default. */
function choose(server, model) {
  byId("server").value = server;
  const names = byServer.get(server) || [];
  const standard = server === ALIASES ? [] : [element("option", { value: "" }, "The server’s default")];
  const other = server === ALIASES ? [] : [element("option", { value: OTHER }, "Another one …")];
  byId("model").replaceChildren(...standard, ...names.map((name) => element("option", { value: name }, name)), ...other);
  const isListed = names.includes(model) || (model === "" && standard.length);
  byId("model").value = isListed ? model : model && other.length ? OTHER : names[0] || "";
  if (model && !isListed) byId("other-model").value = model;
  showChosen();
}

function showChosen() {
  byId("other-model-row").hidden = byId("model").value !== OTHER;
  const { server, model } = settings();
  byId("chosen").textContent = [server, model].filter(Boolean).join(" · ");
  byId("model").title = model;
  byId("find-model").textContent = model || "The server’s default";
}

/** How the next question is asked. */
export function settings() {
  const model = byId("model").value;
  return {
    server: byId("server").value,
    model: model === OTHER ? byId("other-model").value.trim() : model,
    system: byId("system").value.trim(),
    temperature: numberIn("temperature"),
    maxTokens: numberIn("max-tokens"),
    more: moreFields() || {},
    noCache: byId("no-cache").checked,
  };
}

function numberIn(id) {
  const number = byId(id).valueAsNumber; // NaN where there is none
  return Number.isFinite(number) ? number : null;
}

/** The fields that are written as JSON: an object; null where it is none, or says what the chat says. */
function moreFields() {
  try {
    const fields = JSON.parse(byId("more-fields").value.trim() || "{}", asWritten);
    return typeof fields === "object" && !Array.isArray(fields) && !("messages" in fields) ? fields : null;
  } catch {
    return null;
  }
}

/** A number with all of its digits, where the browser can keep them: a seed may have 20. */
function asWritten(_name, value, context) {
  if (typeof value !== "number" || !JSON.rawJSON || String(value) === context?.source) return value;
  return JSON.rawJSON(context.source);
}

const CHECKED = {
  temperature: (field) => field.validity.valid,
  "max-tokens": (field) => field.validity.valid,
  "more-fields": () => moreFields() !== null,
};

/** Whether what is written can be sent. Where not, it says so beside it. */
export function canBeSent() {
  const wrong = Object.keys(CHECKED).filter((id) => !isFine(id));
  if (!wrong.length) return true;
  byId("settings").open = byId("further").open = true;
  byId(wrong[0]).focus();
  say(byId(`${wrong[0]}-trouble`).textContent);
  return false;
}

function isFine(id) {
  const field = byId(id);
  const fine = CHECKED[id](field);
  byId(`${id}-trouble`).hidden = fine;
  if (fine) field.removeAttribute("aria-invalid");
  else field.setAttribute("aria-invalid", "true");
  return fine;
}

for (const [id, check] of Object.entries(CHECKED)) byId(id).addEventListener("input", () => check(byId(id)) && isFine(id));
byId("server").addEventListener("change", () => choose(byId("server").value, ""));
byId("model").addEventListener("change", () => {
  showChosen();
  if (byId("model").value === OTHER) byId("other-model").focus();
});
byId("find-model").addEventListener("click", async () => {
  const { server, model } = settings();
  const { pickModel } = await import("./picker.js");
  const picked = await pickModel(byServer, server, model);
  if (picked) choose(picked.server, picked.model);
});
byId("other-model").addEventListener("input", showChosen);
byId("choices").addEventListener("submit", (event) => event.preventDefault());

/** The request that the next question would be, as code. */
byId("code").append(
  codeButtons(() => {
    const chosen = settings();
    const system = chosen.system ? [{ role: "system", content: chosen.system }] : [];
    return { ...chosen, messages: [...system, { role: "user", content: byId("question").value.trim() || "Hello" }] };
  }),
);

const wide = matchMedia("(min-width: 62rem)");
const unfold = () => (byId("settings").open = wide.matches);
wide.addEventListener("change", unfold);
unfold();
