// The core in this tab: checked by its hash before it is instantiated, and freed by one wrapper.

import init, * as api from "cim-keys-wasm";
import wasmUrl from "../../../target/wasm-pkg/web/cim_keys_wasm_bg.wasm?url";
import { HostError } from "./error";

declare const __WASM_SHA256__: string;

export type Core = typeof api;

let loading: Promise<Core> | undefined;

/** Loads the core once. What does not have the hash that this page was built with is never instantiated. */
export function load(): Promise<Core> {
  loading ??= instantiate().catch((error: unknown) => {
    loading = undefined;
    throw error;
  });
  return loading;
}

async function instantiate(): Promise<Core> {
  const answer = await fetch(wasmUrl, { credentials: "omit" });
  if (!answer.ok) throw new HostError("core-missing", `The core could not be loaded (${answer.status}): load the page again.`);
  const bytes = await answer.arrayBuffer();
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  const hex = Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
  if (hex !== __WASM_SHA256__) {
    throw new HostError("core-changed", "The core is not the one that this page was built with: it was not started. Load the page again; if it stays so, tell whoever serves it.");
  }
  await init({ module_or_path: bytes });
  return api;
}

/** Uses a value of the core and frees it, whatever happens. */
export function using<T extends { free(): void }, R>(value: T, use: (value: T) => R): R {
  try {
    return use(value);
  } finally {
    value.free();
  }
}
