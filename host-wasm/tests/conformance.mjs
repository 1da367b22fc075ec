// Equal inputs give equal bytes: what this module makes against core/tests/data/conformance.json. Runs wherever the
// module runs (Node, a browser); it uses nothing but the module's own exports.

const bytes = (hex) => Uint8Array.from(hex.match(/../g), (pair) => parseInt(pair, 16));
const text = (array) => new TextDecoder().decode(array);

// Members in one order: what is compared are values, and texts to the byte.
const canonical = (value) =>
  JSON.stringify(value, (_, found) =>
    found && typeof found === "object" && !Array.isArray(found)
      ? Object.fromEntries(Object.entries(found).sort(([a], [b]) => (a < b ? -1 : 1)))
      : found,
  );

/** Everything in which `api` differs from `vectors`, in words; empty when it is the same. */
export function differences(api, vectors) {
  const found = [];
  let compared = 0;
  const same = (what, is, must) => {
    compared += 1;
    if (canonical(is) !== canonical(must)) found.push(`${what}: ${canonical(is)} is not ${canonical(must)}`);
  };
  const keyring = new api.Keyring();
  for (const { kind, entropy, public_key, seed } of vectors.keys) {
    same("public key", keyring.generate(kind, bytes(entropy)), public_key);
    same("seed", text(keyring.secret_seed(public_key)), seed);
  }
  for (const step of vectors.steps) {
    same(`${step.name} keys`, api.command_keys(step.command), step.keys);
    same(`${step.name} scope`, api.command_scope(vectors.registry, step.command, step.context), step.scope);
    const draft = api.Draft.decide(step.facts, step.command, step.context);
    same(`${step.name} hash`, draft.hash(), step.decision.draft_hash);
    const signed = draft.sign(keyring);
    draft.free();
    for (const member of ["command_id", "draft_hash", "messages_hash", "tokens"]) {
      same(`${step.name} ${member}`, signed[member], step.decision[member]);
    }
    same(`${step.name} envelopes`, signed.pending.envelopes, step.decision.envelopes);
    // The same again by signatures from outside.
    const other = api.Draft.decide(step.facts, step.command, step.context);
    const signatures = other.requests().map(({ public_key, bytes: base64 }) =>
      keyring.sign(public_key, Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0))),
    );
    same(`${step.name} signed outside`, other.complete(signatures), signed);
    other.free();
  }
  for (const { token, public_key, creds } of vectors.creds) {
    same("creds", text(keyring.secret_creds(token, public_key)), creds);
  }
  const events = vectors.stream.map((message) => api.describe_message(message));
  same("events", events.length, vectors.stream.length);
  keyring.free();
  if (compared < 100) found.push(`only ${compared} comparisons: the vectors are not whole`);
  return found;
}
