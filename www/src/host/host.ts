// A command from wish to commit: facts, time and entropy once, then decided, signed and written as one.

import type { Command, Context, Decision, EntityView, UserRights } from "cim-keys-wasm";
import type { Ambient } from "./ambient";
import { using, type Core } from "./core";
import { HostError } from "./error";
import type { Keyring } from "./keyring";
import type { Store } from "./store";

const ATTEMPTS = 20;

/** What a signing key may do here. */
export interface Authority {
  key: string;
  account: EntityView;
  /** The role that it grants; null where its users have permissions of their own. */
  role: string | null;
  rights: UserRights | null;
}

export interface Outcome {
  commandId: string;
  publicKey: string;
  token: string;
}

/** What a person wants of a new user. */
export interface NewUser {
  name: string;
  /** Null where the authority's role has them. */
  rights: UserRights | null;
  /** Days from now; 0 is never. */
  days: number;
}

export class Host {
  readonly core: Core;
  readonly store: Store;
  readonly keyring: Keyring;
  readonly ambient: Ambient;
  readonly #actor: string;

  constructor(core: Core, store: Store, keyring: Keyring, ambient: Ambient, actor = "page") {
    this.core = core;
    this.store = store;
    this.keyring = keyring;
    this.ambient = ambient;
    this.#actor = actor;
  }

  /** What a key that was brought may sign for. */
  async authority(key: string): Promise<Authority> {
    for (const { entity } of await this.store.entities()) {
      if (!("account" in entity)) continue;
      const account = this.core.describe_entity(entity);
      const found = account.signing_keys.find((signing) => signing.key === key);
      if (found) return { key, account, role: found.role, rights: found.rights };
    }
    throw new HostError("authority-unknown", "No account of this registry lists this key as a signing key: bring an account's signing key, or connect first, so that this page knows the accounts.");
  }

  /** Makes a user's key and token. When this returns all of it is on the disk; nothing of it is on the stream yet. */
  async createUser(authority: Authority, user: NewUser): Promise<Outcome> {
    const command: Command = {
      create_user: {
        account: authority.account.key,
        name: user.name,
        rights: authority.role === null ? user.rights : null,
        expires: user.days > 0 ? Math.floor(this.ambient.millis() / 1000) + Math.round(user.days * 86_400) : 0,
        tags: [],
        credentials: true,
      },
    };
    const publicKey = this.keyring.inner.generate("user", this.ambient.entropy());
    try {
      const decision = await this.run(command, authority.key, [publicKey]);
      return { commandId: decision.command_id, publicKey, token: decision.tokens[0] ?? "" };
    } catch (error) {
      this.keyring.forget(publicKey);
      throw error;
    }
  }

  /** Decides a command, signs it and writes it, again where another tab was first. */
  async run(command: Command, authority: string, keys: string[]): Promise<Decision> {
    const now = this.ambient.millis();
    const id = this.core.command_id(now, this.ambient.entropy());
    const context: Context = {
      now: new Date(now).toISOString(),
      command_id: id,
      attempt: 1,
      correlation_id: id,
      causation_id: id,
      actor: this.#actor,
      authority,
      keys,
    };
    const scope = this.core.command_scope(this.store.registry, command, context);
    for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
      const { facts, changes } = await this.store.facts(scope, true);
      const decision = using(this.core.Draft.decide(facts, command, context), (draft) => draft.sign(this.keyring.inner));
      if ((await this.store.commit(decision, changes)) === "written") return decision;
    }
    throw new HostError("contended", "Other tabs were always first: try again.");
  }

  /** The creds file of a user whose key is still here: whoever has it is this user. */
  secretCreds(outcome: Outcome): Uint8Array {
    return this.keyring.inner.secret_creds(outcome.token, outcome.publicKey);
  }
}
