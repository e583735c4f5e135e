// The way to the service: the token, requests, and how a page finds the service again after it was started anew.

// The token comes behind the # (which no browser sends), and leaves the address at once.
const given = new URLSearchParams(location.hash.slice(1)).get("token");
if (given) {
  sessionStorage.setItem("token", given);
  history.replaceState(null, "", "/");
}
let token = sessionStorage.getItem("token");
let key = null; // in memory only: see core/service/renewal.py

export class Refused extends Error {
  constructor(text, status) {
    super(text);
    this.status = status;
  }
}

// The service does not answer at all.
export class Lost extends Error {}

async function send(path, options) {
  try {
    return await fetch(path, options);
  } catch {
    throw new Lost("the service does not answer");
  }
}

export async function ask(path, body) {
  const headers = { Authorization: `Bearer ${token}` };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const options = body === undefined ? { headers } : { method: "POST", headers, body: JSON.stringify(body) };
  const response = await send(path, options);
  if (response.ok && !response.headers.get("Content-Type").startsWith("application/json")) return response.blob();
  const answer = await response.json().catch(() => ({ error: `refused (${response.status})` }));
  if (!response.ok) throw new Refused(answer.error, response.status);
  return answer;
}

const hex = (bytes) => [...new Uint8Array(bytes)].map((byte) => byte.toString(16).padStart(2, "0")).join("");

export async function remember() {
  if (key) return;
  const bytes = Uint8Array.from((await ask("/v1/key")).key.match(/../g), (pair) => parseInt(pair, 16));
  key = await crypto.subtle.importKey("raw", bytes, { name: "HMAC", hash: "SHA-256" }, false, ["sign"]);
}

async function proof(side, own, theirs) {
  return hex(await crypto.subtle.sign("HMAC", key, new TextEncoder().encode(`${side}|${location.port}|${own}|${theirs}`)));
}

async function renewal(body) {
  const response = await send("/renew", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
  if (!response.ok) throw new Refused("no service of this page", response.status);
  return response.json();
}

// Take the token of the service that runs now, if it proves that it is this user's. Throws Lost or Refused.
export async function renew() {
  if (!key) throw new Refused("the page has no key", 401);
  const own = hex(crypto.getRandomValues(new Uint8Array(16)));
  const first = await renewal({ nonce: own });
  if (first.proof !== (await proof("service", own, first.nonce))) throw new Refused("another program is at this address", 403);
  const second = await renewal({ nonce: first.nonce, proof: await proof("page", own, first.nonce) });
  token = second.token;
  sessionStorage.setItem("token", token);
}
