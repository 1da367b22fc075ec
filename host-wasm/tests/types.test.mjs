// The declarations say what the core really writes: real values of every shape, as literals, through the TypeScript compiler.
// (`npm ci` in www brings it.)

import assert from "node:assert/strict";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const root = new URL("../../", import.meta.url);
const ts = createRequire(new URL("www/package.json", root))("typescript");
const api = await import(new URL("target/wasm-pkg/node/cim_keys_wasm.js", root));
const schema = JSON.parse(await readFile(new URL("core/tests/data/schema.json", root), "utf8"));
const vectors = JSON.parse(await readFile(new URL("core/tests/data/conformance.json", root), "utf8"));

/** Complaints of the compiler about `const value: type = …` for each pair. */
async function complaints(pairs) {
  const folder = await mkdtemp(join(tmpdir(), "cim-keys-types-"));
  try {
    const declarations = fileURLToPath(new URL("host-wasm/cim_keys_wasm", root));
    const lines = pairs.map(([type, value], place) => `export const v${place}: T.${type} = ${JSON.stringify(value)};`);
    const file = join(folder, "values.ts");
    await writeFile(file, [`import type * as T from ${JSON.stringify(declarations)};`, ...lines].join("\n"));
    const options = {
      strict: true, noEmit: true, skipLibCheck: true, target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.ESNext,
      moduleResolution: ts.ModuleResolutionKind.Bundler, lib: ["lib.es2022.d.ts", "lib.dom.d.ts", "lib.esnext.disposable.d.ts"], types: [],
    };
    return ts.getPreEmitDiagnostics(ts.createProgram([file], options)).map((found) => ts.flattenDiagnosticMessageText(found.messageText, "\n"));
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

function values() {
  const pairs = [["RegistryId", vectors.registry], ["Version", api.version()]];
  const keyring = new api.Keyring();
  for (const { kind, entropy } of vectors.keys) {
    keyring.generate(kind, Uint8Array.from(entropy.match(/../g), (pair) => parseInt(pair, 16)));
  }
  pairs.push(["Imported", keyring.import_secret(new TextEncoder().encode(vectors.creds[0].creds))]);
  const commands = [];
  for (const { command, context, facts, scope, keys } of vectors.steps) {
    pairs.push(["Command", command], ["Context", context], ["Facts", facts], ["Lookup[]", scope], ["Kind[]", keys]);
    const draft = api.Draft.decide(facts, command, context);
    pairs.push(["SigningRequest[]", draft.requests()]);
    const decision = draft.sign(keyring);
    pairs.push(["Decision", decision], ["Entity[]", decision.entities], ["Pending", decision.pending]);
    const { draft_hash, envelopes, messages_hash } = decision.pending;
    const { attempt, authority } = context;
    pairs.push(["Ready", { position: 1, command_id: decision.command_id, attempt, command_hash: decision.command_hash, draft_hash, authority, envelopes, messages_hash }]);
    for (const entity of decision.entities) pairs.push(["EntityView", api.describe_entity(entity)]);
    pairs.push(["EntityIndex[]", api.entity_index(vectors.registry.operator, decision.entities)]);
    for (const token of decision.tokens) pairs.push(["TokenView", api.inspect_token(token)]);
    commands.push({ command: decision.pending.command, context, draft_hash: decision.draft_hash, envelopes: decision.pending.envelopes });
  }
  const bundle = api.bundle_decode(api.bundle_encode({ registry: vectors.registry, commands }));
  pairs.push(["Bundle", bundle], ["Endpoints", api.endpoints(vectors.registry, "A", "U")]);
  pairs.push(["Entity[]", [schema.operator, schema.operator_raised]], ["Progress", schema.progress], ["Progress", schema.progress_raised]);
  pairs.push(["Command", { raise_schema: { level: 2 } }], ["Envelope", schema.event]);
  for (const message of vectors.stream) pairs.push(["StoredMessage", message], ["MessageView", api.describe_message(message)]);
  return pairs;
}

/** What the machine says on its way over the whole stream, and what it is told. */
function conversation() {
  const machine = new api.Machine(vectors.registry, null);
  const pairs = [];
  const handle = (input) => {
    const outputs = machine.handle(input, 1, new Uint8Array(16));
    pairs.push(["Input", input], ["Output[]", outputs]);
    return outputs;
  };
  const config = {
    name: "KEYS_EVENTS", subjects: ["cowboyai.security.keys.>"], discard: "new", max_age: 7_776_000_000_000_000,
    max_msg_size: 1_048_576, duplicate_window: 120_000_000_000, allow_direct: true, allow_atomic: true, deny_delete: true,
    deny_purge: true, republish: { src: "cowboyai.security.keys.>", dest: "cowboyai.security.keys-log.>" },
  };
  const answer = { config, created: "2026-11-23T18:00:00Z", state: { first_seq: 1, last_seq: vectors.stream.length } };
  const { info } = api.parse_stream_info(new TextEncoder().encode(JSON.stringify(answer)), "2.15.1");
  pairs.push(["StreamInfo", info]);
  handle("tick");
  let outputs = handle({ read: { info, messages: vectors.stream } });
  // Whether there is an archive is asked once a connection.
  assert.ok(outputs.some((output) => output.read_from?.stream === "KEYS_ARCHIVE"), JSON.stringify(outputs));
  outputs = handle({ read_failed: "stream_missing" });
  const { load_facts } = outputs.find((output) => output.load_facts) ?? {};
  assert.ok(load_facts, JSON.stringify(outputs));
  const facts = { registry: vectors.registry, entities: [], names: [], commands: [] };
  for (const lookup of load_facts.scopes) {
    if (lookup.entity) facts.entities.push([lookup.entity, null]);
    else if (lookup.name) facts.names.push([lookup.name.parent, lookup.name.name, null]);
    else facts.commands.push([lookup.command, null]);
  }
  outputs = handle({ facts: { facts, own: [] } });
  const { persist } = outputs.find((output) => output.persist) ?? {};
  assert.equal(persist?.messages.length, vectors.stream.length);
  assert.equal(persist.anomalies.length, 0, JSON.stringify(persist.anomalies));
  pairs.push(["Persist", persist], ["Progress", persist.progress], ["Recorded[]", persist.recorded]);
  // Until it has nothing to do.
  const seen = new Set();
  const answers = {
    persist: () => ({ persisted: "ok" }),
    load: () => ({ loaded: { commands: [], more: false, held_revocations: [], revision: 0 } }),
    load_facts: () => ({ facts: { facts: { registry: vectors.registry, entities: [], names: [], commands: [] }, own: [] } }),
    gather: () => ({ gathered: { commands: [], held_revocations: [] } }),
    read_from: () => ({ read: { info, messages: [] } }),
  };
  outputs = handle({ persisted: "ok" });
  for (let asked = 0; !outputs.some((output) => output.report === "idle"); asked += 1) {
    const name = Object.keys(answers).find((name) => outputs.some((output) => output[name]));
    assert.ok(name && asked < 20, JSON.stringify(outputs));
    seen.add(name);
    outputs = handle(answers[name]());
  }
  assert.ok(seen.has("gather"), [...seen].join());
  const { sequence } = vectors.stream.at(-1);
  outputs = handle({ tail: { sequence: sequence + 1, subject: "cowboyai.security.keys.user.created", headers: [], payload: "e30=" } });
  assert.ok(outputs.some((output) => output.persist?.anomalies.length === 1), JSON.stringify(outputs));
  handle({ persisted: { failed: { reason: "full" } } });
  handle({ reply: { ack: { stream: "KEYS_EVENTS", sequence: 1, duplicate: false } } });
  handle("disconnected");
  handle("tick");
  for (const failure of ["unreachable", "no_responders", "stream_missing", { permission: { subject: "a" } }, { authorization: { reason: "r" } }, { code: { code: 7 } }]) {
    handle({ read_failed: failure });
    handle("tick");
  }
  for (const status of ["idle", "working", { contended: { millis: 2_000 } }]) pairs.push(["Status", status]);
  pairs.push(["Output[]", [{ follow: { on: false } }, { send: { messages: [], batch: true } }, { redecide: { command_id: "" } }]]);
  return pairs;
}

test("the declarations fit what the core writes and reads", async () => {
  const pairs = [...values(), ...conversation()];
  assert.ok(pairs.length > 200, `${pairs.length} values`);
  assert.deepEqual(await complaints(pairs), []);
  assert.notDeepEqual(await complaints([["Command", { create_user: { name: 7 } }]]), [], "the compiler can complain");
});
