// Keys that the person brought or that were made here. Seeds are in the core's memory alone; bytes that come in are zeroed.

import type { Imported, Keyring as CoreKeyring } from "cim-keys-wasm";
import type { Core } from "./core";

export class Keyring {
  readonly inner: CoreKeyring;

  constructor(core: Core) {
    this.inner = new core.Keyring();
  }

  /** Takes a seed or a creds file in; the array is zeroed. */
  bring(secret: Uint8Array): Imported {
    try {
      return this.inner.import_secret(secret);
    } finally {
      secret.fill(0);
    }
  }

  /** Takes a file in. */
  async bringFile(file: Blob): Promise<Imported> {
    return this.bring(new Uint8Array(await file.arrayBuffer()));
  }

  forget(publicKey: string): void {
    this.inner.forget(publicKey);
  }

  free(): void {
    this.inner.free();
  }
}
