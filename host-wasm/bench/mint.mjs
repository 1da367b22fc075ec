// Key, user JWT and creds in Node: this module against @nats-io/nkeys with @nats-io/jwt, in turns within one run.
// `node host-wasm/bench/mint.mjs USERS ROUNDS` prints one line of JSON: seconds for each user, by round.

import { createRequire } from "node:module";

const root = new URL("../../", import.meta.url);
const require = createRequire(new URL("www/package.json", root));
const nkeys = require("@nats-io/nkeys");
const jwt = require("@nats-io/jwt");
const api = await import(new URL("target/wasm-pkg/node/cim_keys_wasm.js", root));

const [users, rounds] = process.argv.slice(2).map(Number);
const permissions = { pub: { allow: ["plant.line.*.temperature", "plant.line.*.alarm"] }, sub: { allow: ["plant.line.*.orders"] } };

const account = nkeys.createAccount().getPublicKey();
const theirSigner = nkeys.createAccount();
async function theirs() {
  const user = nkeys.createUser();
  const token = await jwt.encodeUser("sensor-0042", user, theirSigner, { ...permissions, issuer_account: account });
  return new TextDecoder().decode(jwt.fmtCreds(token, user));
}

const keyring = new api.Keyring();
const entropy = () => crypto.getRandomValues(new Uint8Array(32));
const ourSigner = keyring.generate("account", entropy());
function ours() {
  const user = keyring.generate("user", entropy());
  const nats = { ...permissions, subs: -1, data: -1, payload: -1, issuer_account: account, type: "user", version: 2 };
  const claims = { iat: Math.floor(Date.now() / 1000), iss: ourSigner, name: "sensor-0042", sub: user, nats };
  const creds = new TextDecoder().decode(keyring.secret_issue_creds(claims));
  keyring.forget(user);
  return creds;
}

// Both do the same work: what they make looks the same and holds.
for (const creds of [ours(), await theirs()]) {
  const token = creds.split("\n")[1];
  const { claims, broken } = api.inspect_token(token);
  if (broken || claims.nats.pub.allow.length !== 2) throw new Error(`not the same work: ${token}`);
}

async function timed(count, mint) {
  const start = process.hrtime.bigint();
  for (let done = 0; done < count; done += 1) await mint();
  return Number(process.hrtime.bigint() - start) / 1e9 / count;
}

const report = { ours: [], baseline: [] };
for (let round = 0; round < rounds; round += 1) {
  report.baseline.push(await timed(users, theirs));
  // As long as the other way takes, or the clock's grain shows.
  report.ours.push(await timed(users * 50, ours));
}
console.log(JSON.stringify(report));
