// Asks the service as a program in another language does: with nats.js. What it is given comes on stdin, a user's seed
// too; what came of it goes to stdout.
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";

const { modules, url, creds, api, app, role, command, users } = JSON.parse(readFileSync(0, "utf8"));
const { wsconnect, credsAuthenticator, createInbox } = createRequire(modules)("@nats-io/nats-core");

const nc = await wsconnect({
  servers: url,
  authenticator: credsAuthenticator(new TextEncoder().encode(creds.text)),
  inboxPrefix: creds.inbox,
});

async function ask(operation, body) {
  const data = typeof body === "string" ? body : JSON.stringify(body);
  try {
    const answer = await nc.request(`${api}.${operation}`, data, { timeout: 10_000 });
    const code = answer.headers?.get("Nats-Service-Error-Code");
    return { status: code ? Number(code) : 200, error: answer.headers?.get("Nats-Service-Error"), body: answer.json() };
  } catch (error) {
    return { thrown: error.constructor.name };
  }
}

/** Every answer to a question to all. */
async function all(subject) {
  const found = [];
  for await (const answer of await nc.requestMany(subject, "", { maxWait: 1000, strategy: "timer" })) {
    found.push(answer.json());
  }
  return found;
}

const create = { command_id: command.create, account: app, name: "js", user: users[0], role, expires: users[2] };
const said = {
  ping: await all("$SRV.PING"),
  info: await all("$SRV.INFO.cim-keys"),
  created: await ask("user.create", create),
  again: await ask("user.create", create),
  other: await ask("user.create", { ...create, name: "else" }),
  issued: await ask("credentials.issue", { command_id: command.issue, account: app, user: users[1], role, ttl: 60 }),
  nonsense: await ask("user.create", "{"),
  unknown: await ask("user.create", { ...create, command_id: command.more, surprise: true }),
  denied: await ask("user.revoke", { command_id: command.more, account: "KEYS", user: users[0] }),
  stats: await all("$SRV.STATS.cim-keys"),
};

// What NATS does not permit reaches nobody.
const refused = new Promise((told) => {
  (async () => {
    for await (const status of nc.status()) {
      if (status.type === "error") told(String(status.error?.message ?? status.data));
    }
  })();
});
nc.publish("cowboyai.security.keys.user.created", "{}", { reply: createInbox(creds.inbox) });
await nc.flush();
said.refused = await refused;
await nc.close();
process.stdout.write(JSON.stringify(said));
