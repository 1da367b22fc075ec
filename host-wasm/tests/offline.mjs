// What cim-keys-sandbox does, by this module in plain Node: a plan on standard input, a bundle on standard output.
// `node host-wasm/tests/offline.mjs < plan.json`, or with `secret-creds ACCOUNT/USER` behind it that user's creds file.

import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

/** A registry in memory: entities by id, and who holds which name. */
class Registry {
  constructor(api, id) {
    Object.assign(this, { api, id, entities: new Map(), names: new Map() });
  }

  facts(lookups) {
    const facts = { registry: this.id, entities: [], names: [], commands: [] };
    for (const lookup of lookups) {
      if ("entity" in lookup) facts.entities.push([lookup.entity, this.entities.get(lookup.entity) ?? null]);
      if ("name" in lookup) {
        const { parent, name } = lookup.name;
        facts.names.push([parent, name, this.names.get(JSON.stringify([parent, name])) ?? null]);
      }
      if ("command" in lookup) facts.commands.push([lookup.command, null]);
    }
    return facts;
  }

  put(entities) {
    this.api.entity_index(this.id.operator, entities).forEach(({ id, parent, name, holds }, place) => {
      this.entities.set(id, entities[place]);
      if (holds) this.names.set(JSON.stringify([parent, name]), id);
    });
  }
}

/** Carries a plan out; gives the bundle's bytes and a way to the creds of its users. */
export function make(api, plan) {
  const pieces = plan.entropy.match(/.{64}/g).map((hex) => Uint8Array.from(hex.match(/../g), (pair) => parseInt(pair, 16)));
  const keyring = new api.Keyring();
  const commands = [];
  const users = new Map();
  let registry;

  const run = (command, authority) => {
    const id = api.command_id(Date.parse(plan.now), pieces.shift());
    const keys = api.command_keys(command).map((kind) => keyring.generate(kind, pieces.shift()));
    registry ??= new Registry(api, { operator: keys[0], namespace: plan.namespace ?? "cowboyai.security" });
    const context = {
      now: plan.now, command_id: id, attempt: 1, correlation_id: id, causation_id: id, actor: plan.actor,
      authority: authority ?? keys[0], keys,
    };
    const draft = api.Draft.decide(registry.facts(api.command_scope(registry.id, command, context)), command, context);
    const { entities, pending, tokens, draft_hash } = draft.sign(keyring);
    draft.free();
    registry.put(entities);
    commands.push({ command: pending.command, context, draft_hash, envelopes: pending.envelopes });
    return { keys, token: tokens[0] };
  };

  const founding = run({ found_registry: { name: plan.operator } });
  for (const account of plan.accounts ?? []) {
    const limits = {
      subs: -1, data: -1, payload: -1, imports: -1, exports: -1, wildcards: true, conn: -1, leaf: -1,
    };
    const made = run({ create_account: { name: account.name, limits } }, founding.keys[1]);
    for (const user of account.users ?? []) {
      const list = (allow = []) => (allow.length ? { allow } : {});
      const rights = { pub: list(user.publish), sub: list(user.subscribe), subs: -1, data: -1, payload: -1 };
      const command = {
        account: made.keys[0], name: user.name, rights, expires: user.expires ?? 0, tags: [], credentials: true,
      };
      const { keys, token } = run({ create_user: command }, made.keys[1]);
      users.set(`${account.name}/${user.name}`, { token, key: keys[0] });
    }
  }
  return {
    bundle: api.bundle_encode({ registry: registry.id, commands }),
    secretCreds: (name) => keyring.secret_creds(users.get(name).token, users.get(name).key),
  };
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  const api = await import(new URL("../../target/wasm-pkg/node/cim_keys_wasm.js", import.meta.url));
  const made = make(api, JSON.parse(readFileSync(0, "utf8")));
  process.stdout.write(process.argv[2] === "secret-creds" ? made.secretCreds(process.argv[3]) : made.bundle);
}
