// A page without a backend: its user signs in with OpenID Connect, and the access token is the SDK's API key.
import { InMemoryWebStorage, UserManager, WebStorageStateStore } from "oidc-client-ts";
import OpenAI from "openai";
import { baseURL, clientId, issuer, model } from "./config.mjs";

const element = (id) => document.getElementById(id);
const here = location.origin + location.pathname;

const users = new UserManager({
  authority: issuer,
  client_id: clientId,
  redirect_uri: here,
  scope: "openid profile",
  // The token lives as long as this page does: neither other scripts of the origin nor the next visitor find it.
  userStore: new WebStorageStateStore({ store: new InMemoryWebStorage() }),
  // What has to outlive the way to the issuer and back: a random state, and the secret of PKCE.
  stateStore: new WebStorageStateStore({ store: sessionStorage }),
});

element("sign-in").addEventListener("click", () => users.signinRedirect());
element("sign-out").addEventListener("click", async () => {
  await users.removeUser();
  show(null);
});

if (new URLSearchParams(location.search).has("state")) {
  try {
    show(await users.signinCallback());
  } catch (error) {
    show(null);
    element("problem").textContent = `The sign-in failed: ${error.message}`;
  }
  history.replaceState(null, "", here); // the code is used up, and no business of the history
} else {
  show(null);
}

function show(user) {
  element("who").textContent = user ? `Signed in as ${user.profile.name ?? user.profile.sub}.` : "Nobody is signed in.";
  element("sign-in").hidden = Boolean(user);
  element("sign-out").hidden = element("form").hidden = !user;
}

let running; // the answer that is under way

element("stop").addEventListener("click", () => running?.abort());
element("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  running?.abort();
  const controller = (running = new AbortController());
  element("answer").textContent = element("problem").textContent = "";
  element("stop").disabled = false;
  try {
    await ask(element("question").value, controller.signal);
  } catch (error) {
    if (!controller.signal.aborted) await explain(error);
  } finally {
    if (running === controller) element("stop").disabled = true;
  }
});

async function ask(question, signal) {
  const user = await users.getUser();
  // What would be dangerous is a provider's token. This one is the user's own, and ends in minutes.
  const client = new OpenAI({ baseURL, apiKey: user.access_token, dangerouslyAllowBrowser: true, maxRetries: 0 });
  const messages = [{ role: "user", content: question }];
  const { data, response } = await client.chat.completions
    .create({ model, messages, stream: true }, { signal })
    .withResponse();
  const left = response.headers.get("x-budget-remaining-usd");
  if (left !== null) element("budget").textContent = `Your budget: ${left} USD are left.`;
  // Text nodes, never innerHTML: what a model writes may be HTML with a script in it.
  for await (const chunk of data) element("answer").append(chunk.choices[0]?.delta?.content ?? "");
}

async function explain(error) {
  element("problem").textContent = error.message;
  // A token that has ended, or is refused for another reason: the user has to sign in again.
  if (error.status === 401) {
    await users.removeUser();
    show(null);
  }
}
