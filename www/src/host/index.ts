// The browser host, twin of the native one: `ambient` (clock and randomness), `store` (journal in IndexedDB), `keyring`,
// `host` (a command from wish to commit), `nats` (the connection), `pump` (the sync machine's driver). All judgement is
// the core's (`core`, WebAssembly). Begin with `open`.

import type { RegistryId } from "cim-keys-wasm";
import { Ambient } from "./ambient";
import { load } from "./core";
import { HostError } from "./error";
import { Host } from "./host";
import { Keyring } from "./keyring";
import { Store } from "./store";

export { Ambient, type Source } from "./ambient";
export { HostError, reasonOf } from "./error";
export { Host, type Authority, type NewUser, type Outcome } from "./host";
export type { Target } from "./nats";
export { Pump, type PumpStatus } from "./pump";
export { Store, type Counts, type Entry } from "./store";

/** Public facts about the system that serves the page. */
export interface Config {
  registry: RegistryId;
  websocket_url: string;
  api_prefix: string;
}

/** What the server of this page says of its system. */
export async function config(): Promise<Config> {
  const answer = await fetch("/config.json", { credentials: "omit", cache: "no-store" }).catch(() => undefined);
  if (!answer?.ok) throw new HostError("config-missing", "Whoever serves this page does not say for which registry it is: start it with cim-keys up.");
  return (await answer.json()) as Config;
}

/** Opens the host of a registry: core, store, an empty keyring. */
export async function open(registry: RegistryId, ambient = new Ambient()): Promise<Host> {
  const core = await load();
  return new Host(core, await Store.open(core, registry), new Keyring(core), ambient);
}
