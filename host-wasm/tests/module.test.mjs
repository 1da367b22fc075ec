// The module by itself, in plain Node: its bytes everywhere, its errors, its imports, and what it forgets.
// `cargo xtask wasm` builds it first.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { homedir } from "node:os";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { differences } from "./conformance.mjs";

const root = new URL("../../", import.meta.url);
const built = new URL("target/wasm-pkg/", root);
const api = await import(new URL("node/cim_keys_wasm.js", built));
const schema = JSON.parse(await readFile(new URL("core/tests/data/schema.json", root), "utf8"));
const vectors = JSON.parse(await readFile(new URL("core/tests/data/conformance.json", root), "utf8"));
const module = await readFile(new URL("web/cim_keys_wasm_bg.wasm", built));

const entropy = (number) => Uint8Array.from({ length: 32 }, (_, place) => (place * 37 + number * 101 + place ** 3) % 256);
const code = (run) => {
  try {
    run();
  } catch (error) {
    assert.ok(error instanceof Error, `an Error is thrown, not ${String(error)}`);
    assert.ok(error.message.length > 0);
    return error.code;
  }
  return undefined;
};

test("equal inputs give equal bytes", () => {
  assert.deepEqual(differences(api, vectors), []);
  const changed = structuredClone(vectors);
  changed.steps[1].context.now = "2026-11-23T00:00:00.000Z";
  assert.notDeepEqual(differences(api, changed), [], "the comparison can fail");
});

test("the declarations are those that are committed", async () => {
  const committed = await readFile(new URL("../cim_keys_wasm.d.ts", import.meta.url), "utf8");
  const generated = await readFile(new URL("web/cim_keys_wasm.d.ts", built), "utf8");
  assert.equal(generated, committed, "cp target/wasm-pkg/web/cim_keys_wasm.d.ts host-wasm/ and look at the difference");
});

test("nothing is imported but what the bindings bring", async () => {
  const imports = WebAssembly.Module.imports(await WebAssembly.compile(module));
  assert.deepEqual([...new Set(imports.map((row) => row.module))], ["./cim_keys_wasm_bg.js"]);
  const names = imports.map(({ name }) => name.replace(/_[0-9a-f]{16}$/, "")).sort();
  const known = [
    "__wbg_Error", "__wbg_new", "__wbg_parse", "__wbg_set", "__wbg_stringify", "__wbg_length", "__wbg_prototypesetcall",
    "__wbg_fill", "__wbg_get_unchecked", "__wbg_instanceof_Uint8Array", "__wbg_isArray",
    "__wbindgen_cast", "__wbindgen_generic", "__wbindgen_init_externref_table",
  ];
  const strange = names.filter((name) => !known.some((prefix) => name.startsWith(prefix)) && !name.startsWith("__wbg___wbindgen_"));
  assert.deepEqual(strange, []);
  const glue = await readFile(new URL("web/cim_keys_wasm.js", built), "utf8");
  for (const forbidden of ["getRandomValues(", "Date.now", "Math.random", "localStorage", "indexedDB", "XMLHttpRequest", "eval("]) {
    assert.ok(!glue.includes(forbidden), forbidden);
  }
});

test("what a browser loads does not grow unseen", () => {
  // Equal sources and one compiler give equal bytes: a larger module is a change that somebody made. Say why, then raise it.
  // 326,000 since a registry is founded with durable consumers, dead letters, issued creds and the service's roles: three keys, and
  // what they may. 323,000 since a stream is known by when its messages were stored (3,000), and since the schema level (2,000): a command, an event,
  // what is refused because of it, and where reading stops. 318,500 since what the stream forgot is read from its archive. 313,500 since the machine follows the log, commands can be voided, and names are looked at for what does not show and for seeds.
  assert.ok(gzipSync(module, { level: 9 }).length < 326_000, `${gzipSync(module, { level: 9 }).length} bytes`);
});

test("no folder of the machine that built it is inside", () => {
  const bytes = module.toString("latin1");
  for (const folder of [homedir(), fileURLToPath(root), "/home/", "/Users/"]) {
    assert.ok(!bytes.includes(folder.replace(/\/$/, "") + "/") || folder === "/", folder);
  }
  assert.ok(bytes.includes("/cargo/registry/"), "sources are named by what they are");
});

test("keys come from entropy, which is used up", () => {
  const keyring = new api.Keyring();
  const drawn = entropy(1);
  const key = keyring.generate("user", drawn);
  assert.match(key, /^U[A-Z2-7]{55}$/);
  assert.deepEqual(drawn, new Uint8Array(32), "the array is zeroed");
  assert.equal(code(() => keyring.generate("user", entropy(1))), "entropy-repeated");
  assert.equal(code(() => keyring.generate("user", new Uint8Array(32))), "entropy-pattern");
  assert.equal(code(() => keyring.generate("user", new Uint8Array(31))), "argument");
  assert.equal(code(() => keyring.generate("module", entropy(2))), "kind.unknown");
  assert.deepEqual(keyring.public_keys(), [key]);
  keyring.forget(key);
  assert.equal(keyring.has(key), false);
  assert.equal(code(() => keyring.sign(key, new Uint8Array(3))), "key-missing");
  keyring.free();
});

test("seeds and creds are taken in, and their array is zeroed", () => {
  const keyring = new api.Keyring();
  const [{ token, public_key, creds }] = vectors.creds;
  const file = new TextEncoder().encode(creds);
  assert.deepEqual(keyring.import_secret(file), { public_key, kind: "user", token });
  assert.ok(file.every((byte) => byte === 0));
  const { seed, kind, public_key: other } = vectors.keys.find((key) => key.kind === "account");
  for (const around of [seed, `\n${seed}\r\n`, `# app\n${seed}\n`]) {
    assert.deepEqual(keyring.import_secret(new TextEncoder().encode(around)), { public_key: other, kind, token: null });
  }
  assert.equal(code(() => keyring.import_secret(new TextEncoder().encode(seed.replace("A", "B")))), "seed.checksum");
  assert.equal(code(() => keyring.import_secret(new Uint8Array([255, 254]))), "argument");
  assert.equal(code(() => keyring.import_secret(new Uint8Array())), "seed.length");
  const torn = new TextEncoder().encode(creds.slice(0, 300));
  assert.ok(code(() => keyring.import_secret(torn)));
  assert.ok(torn.every((byte) => byte === 0), "also where it is refused");
  keyring.free();
});

test("what is freed leaves no seed in memory", async () => {
  const fresh = await import(new URL("web/cim_keys_wasm.js", built));
  const { memory } = fresh.initSync({ module });
  const seed = vectors.keys[3].seed;
  const raw = Buffer.from(vectors.keys[3].entropy, "hex");
  const holds = (needle) => Buffer.from(memory.buffer).includes(needle);
  const keyring = new fresh.Keyring();
  keyring.import_secret(new TextEncoder().encode(seed));
  assert.ok(holds(raw), "while it is held the key is there: the search finds things");
  const shown = new TextDecoder().decode(keyring.secret_seed(vectors.keys[3].public_key));
  assert.equal(shown, seed);
  const drawn = Buffer.from(entropy(7));
  keyring.generate("user", Uint8Array.from(drawn));
  keyring.sign(vectors.keys[3].public_key, new Uint8Array(100));
  const [{ token, public_key, creds }] = vectors.creds;
  keyring.import_secret(new TextEncoder().encode(creds));
  keyring.secret_creds(token, public_key);
  const [step] = vectors.steps;
  assert.ok(code(() => fresh.Draft.decide(step.facts, step.command, step.context).sign(keyring)));
  assert.ok(holds(drawn));
  keyring.free();
  const inside = vectors.keys.find((key) => key.public_key === public_key);
  for (const needle of [raw, drawn, Buffer.from(seed), Buffer.from(inside.seed), Buffer.from(inside.entropy, "hex")]) {
    assert.ok(!holds(needle));
  }
});

test("whatever is thrown at an export, an Error with a code comes back", () => {
  const cycle = {};
  cycle.self = cycle;
  const odd = [undefined, null, 0, -1, NaN, Infinity, 1e300, "", "x", [], {}, true, 7n, () => 1, cycle, Symbol("s"), "\ud800", { found_registry: 1 }];
  const [step] = vectors.steps;
  const machine = () => new api.Machine(vectors.registry, null);
  const runs = {
    command_keys: (value) => api.command_keys(value),
    command_scope: (value) => api.command_scope(vectors.registry, value, step.context),
    command_scope_context: (value) => api.command_scope(vectors.registry, step.command, value),
    decide: (value) => api.Draft.decide(value, step.command, step.context),
    describe_entity: (value) => api.describe_entity(value),
    describe_message: (value) => api.describe_message(value),
    bundle_encode: (value) => api.bundle_encode(value),
    machine: (value) => new api.Machine(value, null),
    handle: (value) => machine().handle(value, 1, new Uint8Array(16)),
    entity_index: (value) => api.entity_index(vectors.registry.operator, [value]),
    endpoints: (value) => api.endpoints(value, "A", "U"),
  };
  for (const [name, run] of Object.entries(runs)) {
    for (const value of odd) {
      assert.equal(code(() => run(value)), "argument", `${name}(${String(typeof value === "symbol" ? "symbol" : JSON.stringify(value === cycle || typeof value === "bigint" ? "odd" : value))})`);
    }
  }
  const text = new api.Keyring();
  const held = text.generate("user", entropy(20));
  const noText = {
    has: (value) => text.has(value),
    forget: (value) => text.forget(value),
    sign: (value) => text.sign(value, new Uint8Array(1)),
    secret_seed: (value) => text.secret_seed(value),
    secret_creds: (value) => text.secret_creds(value, held),
    secret_creds_key: (value) => text.secret_creds(vectors.creds[0].token, value),
    generate: (value) => text.generate(value, entropy(21)),
    inspect_token: (value) => api.inspect_token(value),
    entity_index_operator: (value) => api.entity_index(value, []),
    endpoints_prefix: (value) => api.endpoints(vectors.registry, value, "U"),
    endpoints_user: (value) => api.endpoints(vectors.registry, "A", value),
    parse_logged: (value) => api.parse_logged(value, "a", new Uint8Array(), new Uint8Array()),
    parse_logged_subject: (value) => api.parse_logged("cowboyai.security", value, new Uint8Array(), new Uint8Array()),
  };
  for (const [name, run] of Object.entries(noText)) {
    for (const value of odd.filter((value) => typeof value !== "string")) {
      assert.equal(code(() => run(value)), "argument", name);
    }
  }
  const noBytes = {
    generate: (value) => text.generate("user", value),
    import_secret: (value) => text.import_secret(value),
    sign: (value) => text.sign(held, value),
    command_id: (value) => api.command_id(1, value),
    handle: (value) => machine().handle("tick", 1, value),
    parse_stream_info: (value) => api.parse_stream_info(value, null),
    parse_batched: (value) => api.parse_batched(value, new Uint8Array()),
    parse_batched_payload: (value) => api.parse_batched(new Uint8Array(), value),
    parse_logged: (value) => api.parse_logged("cowboyai.security", "a", value, new Uint8Array()),
    parse_logged_payload: (value) => api.parse_logged("cowboyai.security", "a", new Uint8Array(), value),
    parse_message: (value) => api.parse_message(value),
    parse_reply: (value) => api.parse_reply(value),
    bundle_decode: (value) => api.bundle_decode(value),
    complete: (value) => api.Draft.decide(step.facts, step.command, step.context).complete(value),
    complete_one: (value) => api.Draft.decide(step.facts, step.command, step.context).complete([value]),
  };
  for (const [name, run] of Object.entries(noBytes)) {
    for (const value of [...odd, new Uint16Array(32), new ArrayBuffer(32), new DataView(new ArrayBuffer(32)), "a".repeat(32)]) {
      // An empty list of signatures is one, with too few in it.
      const isList = name === "complete" && Array.isArray(value);
      assert.equal(code(() => run(value)), isList ? "signature-count" : "argument", name);
    }
  }
  // Whatever came, nothing is locked.
  assert.equal(text.has(held), true);
  assert.match(text.generate("user", entropy(22)), /^U/);
  text.forget(held);
  assert.equal(text.has(held), false);
  text.free();
  assert.equal(code(() => api.parse_stream_info(new Uint8Array(), {})), "argument");
  for (const value of odd.filter((value) => value !== 0)) {
    assert.equal(code(() => machine().handle("tick", value, new Uint8Array(16))), "argument");
    assert.equal(code(() => api.message_get_request(value)), "argument");
  }
  for (const value of [NaN, -1, 1.5, Infinity]) {
    assert.equal(code(() => machine().handle("tick", value, new Uint8Array(16))), "argument");
    assert.equal(code(() => api.direct_get_request(value, 1)), "argument");
    assert.equal(code(() => api.command_id(value, entropy(9))), "argument");
  }
  assert.equal(code(() => machine().handle("tick", 1, new Uint8Array(15))), "argument");
  assert.equal(code(() => api.bundle_decode(new Uint8Array(9))), "bundle-not");
  assert.ok(code(() => api.inspect_token("a.b.c")));
});

test("a draft is completed once", () => {
  const [step] = vectors.steps;
  const draft = api.Draft.decide(step.facts, step.command, step.context);
  assert.equal(code(() => draft.sign(new api.Keyring())), "key-missing");
  assert.equal(code(() => draft.requests()), "spent");
  const other = api.Draft.decide(step.facts, step.command, step.context);
  assert.equal(code(() => other.complete([])), "signature-count");
  const again = api.Draft.decide(step.facts, step.command, step.context);
  const wrong = again.requests().map(() => new Uint8Array(64).fill(1));
  assert.equal(code(() => again.complete(wrong)), "signature");
  const rejected = () => api.Draft.decide(vectors.steps[2].facts, vectors.steps[1].command, vectors.steps[1].context);
  assert.ok(code(rejected), "facts of another command are not enough");
});

test("a registry of a newer schema is read-only, and a journal that has read so far goes no further", () => {
  const { command, context, facts } = vectors.steps[1];
  const { operator, operator_raised, progress, progress_raised, event } = schema;
  const id = `operator:${vectors.registry.operator}`;
  const of = (entity) => ({ ...facts, entities: facts.entities.map(([known, found]) => [known, known === id ? entity : found]) });
  assert.ok(facts.entities.some(([known]) => known === id));
  assert.equal(code(() => api.Draft.decide(of(operator_raised), command, context)), "newer-schema");
  assert.notEqual(code(() => api.Draft.decide(of(operator), command, context)), "newer-schema");
  assert.equal(code(() => api.Draft.decide(facts, { raise_schema: { level: 2 } }, { ...context, keys: [] })), "unknown-schema");
  const begin = (journal) => new api.Machine(vectors.registry, journal).handle("tick", 1, new Uint8Array(16));
  const [drop, { report }, { wait }] = begin(progress_raised);
  assert.deepEqual([drop, report.blocked.reason.code, wait.millis], ["drop", "newer-schema", 30_000]);
  assert.ok(begin(progress).some((output) => output.read_from), "and one of the first schema reads on");
  const stored = { sequence: 1, ...event, payload: Buffer.from(event.payload).toString("base64") };
  assert.equal(api.describe_message(stored).type, "schema.raised");
});

test("a token is issued without a registry, and read back", () => {
  const keyring = new api.Keyring();
  const [issuer, user] = [keyring.generate("account", entropy(11)), keyring.generate("user", entropy(12))];
  const nats = { pub: { allow: ["a.>"] }, sub: {}, subs: -1, data: -1, payload: -1, type: "user", version: 2 };
  const claims = { iat: 1_795_423_807, iss: issuer, name: "x", sub: user, nats };
  const token = keyring.issue_token(claims);
  const read = api.inspect_token(token);
  assert.equal(read.kind, "user");
  assert.equal(read.broken, null);
  assert.deepEqual([read.claims.iss, read.claims.sub, read.claims.nats.pub], [issuer, user, { allow: ["a.>"] }]);
  assert.match(new TextDecoder().decode(keyring.secret_creds(token, user)), /BEGIN USER NKEY SEED/);
  const creds = new TextDecoder().decode(keyring.secret_issue_creds(claims));
  assert.equal(creds, new TextDecoder().decode(keyring.secret_creds(token, user)), "both ways give the same creds");
  const other = vectors.keys.find((key) => key.kind === "account").public_key;
  assert.equal(code(() => keyring.secret_issue_creds({ ...claims, iss: other })), "key-missing");
  assert.equal(code(() => keyring.secret_issue_creds({ ...claims, sub: vectors.creds[0].public_key })), "key-missing");
  assert.equal(code(() => keyring.issue_token({ ...claims, iss: other })), "key-missing");
  assert.equal(code(() => keyring.issue_token({ ...claims, iss: vectors.registry.operator })), "argument");
  assert.equal(code(() => keyring.issue_token({ ...claims, sub: issuer })), "argument");
  assert.equal(code(() => keyring.issue_token(undefined)), "argument");
  keyring.free();
});

test("the machine speaks plain objects", () => {
  const machine = new api.Machine(vectors.registry, null);
  const random = new Uint8Array(16);
  const handle = (input) => machine.handle(input, 1000, random);
  assert.deepEqual(handle("tick"), [{ report: "working" }, { follow: { on: true } }, { read_from: { stream: "KEYS_EVENTS", after: 0, limit: 2000 } }]);
  assert.deepEqual(handle({ tail: vectors.stream[1] }), [], "what is not asked for is kept for later");
  const missing = handle({ read_failed: "stream_missing" });
  assert.equal(missing[0], "drop");
  assert.equal(missing[1].report.blocked.reason.code, "stream-missing");
  assert.equal(typeof missing[2].wait.millis, "number");
  assert.equal(machine.progress().head, 0);
  machine.free();
});

test("answers of the server are judged by the core", () => {
  const bytes = (value) => new TextEncoder().encode(typeof value === "string" ? value : JSON.stringify(value));
  assert.deepEqual(api.parse_reply(bytes({ stream: "KEYS_EVENTS", seq: 7 })), {
    ack: { stream: "KEYS_EVENTS", sequence: 7, duplicate: false },
  });
  assert.deepEqual(api.parse_reply(bytes("?")), "unknown");
  assert.deepEqual(api.parse_stream_info(bytes({ error: { code: 404, err_code: 10059 } }), "2.15.1"), { failure: "stream_missing" });
  const { stored } = api.parse_batched(bytes("NATS/1.0\r\nNats-Sequence: 3\r\nNats-Subject: a.b\r\n\r\n"), bytes("x"));
  assert.deepEqual(api.parse_batched(bytes("NATS/1.0 204 EOB\r\n\r\n"), bytes("")), { end: { status: 204 } });
  assert.equal(api.parse_batched(bytes("NATS/1.0\r\nNats-Sequence: 3\r\nnats-sequence: 4\r\n\r\n"), bytes("")), "doubtful");
  assert.deepEqual(stored, { sequence: 3, subject: "a.b", headers: [], payload: "eA==" });
  const { namespace } = vectors.registry;
  const [at, from] = [`${namespace}.keys-log.user.created`, `${namespace}.keys.user.created`];
  const logged = (head, subject = at) => api.parse_logged(namespace, subject, bytes(`NATS/1.0\r\n${head}\r\n\r\n`), bytes("x"));
  const head = `Nats-Stream: KEYS_EVENTS\r\nNats-Subject: ${from}\r\nNats-Sequence: 3`;
  assert.deepEqual(logged(`CIM-Source: a\r\n${head}`), { sequence: 3, subject: from, headers: [["CIM-Source", "a"]], payload: "eA==" });
  assert.equal(logged(head, `${namespace}.keys-log.user.other`), null, "what was asked for is not what was stored just now");
  assert.equal(logged(head.replace("KEYS_EVENTS", "OTHER")), null);
  assert.equal(code(() => api.parse_logged("", at, bytes(""), bytes(""))), "argument");
  assert.deepEqual(api.parse_message(bytes({ error: { err_code: 10037 } })), { message: null });
  assert.equal(api.direct_get_request(3, 4), '{"seq":3,"batch":4,"max_bytes":8388608}');
  const ends = api.endpoints(vectors.registry, api.edge_api_prefix(), "UABC");
  assert.equal(ends.stream_info, "CIMKEYS.API.STREAM.INFO.KEYS_EVENTS");
  assert.equal(ends.inbox, "_INBOX_UABC");
});
