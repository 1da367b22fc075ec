// The only clock and the only source of randomness of this host. What comes of a broken source is refused by the core.

/** Where time and random bytes come from; tests bring their own. */
export interface Source {
  /** Milliseconds since 1970, UTC. */
  unixMillis(): number;
  /** Milliseconds of a clock that never goes back. */
  steadyMillis(): number;
  fill(bytes: Uint8Array<ArrayBuffer>): void;
}

const browser: Source = {
  unixMillis: () => Date.now(),
  steadyMillis: () => Math.floor(performance.now()),
  fill: (bytes) => void crypto.getRandomValues(bytes),
};

export class Ambient {
  readonly #source: Source;

  constructor(source: Source = browser) {
    this.#source = source;
  }

  /** Milliseconds since 1970. */
  millis(): number {
    return this.#source.unixMillis();
  }

  /** 32 fresh bytes: one draw for each key or id. */
  entropy(): Uint8Array {
    const bytes = new Uint8Array(32);
    this.#source.fill(bytes);
    return bytes;
  }

  /** Time and randomness for one input of the sync machine. */
  moment(): { millis: number; random: Uint8Array } {
    const random = new Uint8Array(16);
    this.#source.fill(random);
    return { millis: this.#source.steadyMillis(), random };
  }
}
