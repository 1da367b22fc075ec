// The journal and registry of this host in IndexedDB: one database a registry, whole transactions or none, each on the
// disk before it is reported. No secret is ever in it.

import type {
  Anomaly, Decision, Entity, EntityId, Facts, Input, Lookup, Own, Persist, Persisted, Progress, Ready, Recorded, RegistryId, State,
  StoredMessage,
} from "cim-keys-wasm";
import { deleteDB, openDB, type IDBPDatabase } from "idb";
import { using, type Core } from "./core";
import { HostError, reasonOf } from "./error";
import { openTables, TABLES, type Entry, type EntityRow, type Read, type Schema, type StateRow, type Write } from "./schema";

export type { Entry } from "./schema";

/** Commands read at once. */
const PIECE = 50;

/** Own commands that are not on the stream. */
export interface Counts {
  pending: number;
  held: number;
}

/** Whether a decision was written, or came too late. */
export type Committed = "written" | "stale";

export class Store {
  readonly #core: Core;
  readonly #db: IDBPDatabase<Schema>;
  readonly registry: RegistryId;

  private constructor(core: Core, db: IDBPDatabase<Schema>, registry: RegistryId) {
    this.#core = core;
    this.#db = db;
    this.registry = registry;
  }

  static name(operator: string): string {
    return `cim-keys/${operator}`;
  }

  /** Opens the registry's database, or makes it. */
  static async open(core: Core, registry: RegistryId): Promise<Store> {
    try {
      const fresh = () => using(new core.Machine(registry, null), (machine) => machine.progress());
      const db = await openTables(Store.name(registry.operator), fresh);
      const store = new Store(core, db, registry);
      await store.#begin();
      return store;
    } catch (error) {
      throw failure(error);
    }
  }

  static async delete(operator: string): Promise<void> {
    await deleteDB(Store.name(operator));
  }

  close(): void {
    this.#db.close();
  }

  async #begin(): Promise<void> {
    const known = await this.#write(async (tx) => {
      const row = await tx.objectStore("state").get("one");
      if (row) return row.registry.namespace;
      await tx.objectStore("state").put({ registry: this.registry, progress: null, settled: 0, revision: 0, changes: 0 }, "one");
      return this.registry.namespace;
    });
    if (known !== this.registry.namespace) {
      throw new HostError("registry-other", `This browser knows the registry under ${known}, not ${this.registry.namespace}: ask whoever runs it which is right.`);
    }
  }

  /** Other registries of this origin with how many of their commands wait here to be published. */
  async others(): Promise<{ operator: string; pending: number }[]> {
    const found: { operator: string; pending: number }[] = [];
    for (const { name = "" } of await indexedDB.databases()) {
      const operator = name.split("/")[1];
      if (operator === undefined || name !== Store.name(operator) || operator === this.registry.operator) continue;
      const db = await openDB<Schema>(name);
      try {
        const pending = db.objectStoreNames.contains("journal") ? await counted(db.transaction("journal").store.index("states"), "pending") : 0;
        if (pending > 0) found.push({ operator, pending });
      } finally {
        db.close();
      }
    }
    return found;
  }

  /** How many own commands are pending, and how many are held. */
  async counts(): Promise<Counts> {
    return this.#read(async (tx) => {
      const states = tx.objectStore("journal").index("states");
      return { pending: await counted(states, "pending"), held: await counted(states, "held") };
    });
  }

  /** An own command. */
  async entry(commandId: string): Promise<Entry | undefined> {
    return this.#read((tx) => tx.objectStore("journal").index("commands").get(commandId)) as Promise<Entry | undefined>;
  }

  async progress(): Promise<Progress | null> {
    return (await this.#state()).progress;
  }

  /** Answers look-ups, with what pending commands changed over the state at `head` or without; and what they were read at. */
  async facts(lookups: Lookup[], withOverlay: boolean): Promise<{ facts: Facts; changes: number }> {
    return this.#read(async (tx) => {
      const facts: Facts = { registry: this.registry, entities: [], names: [], commands: [] };
      const { settled, changes } = await present(tx);
      const upTo = withOverlay ? Infinity : settled;
      for (const lookup of lookups) {
        if ("entity" in lookup) {
          facts.entities.push([lookup.entity, (await version(tx, lookup.entity, upTo))?.body ?? null]);
        } else if ("name" in lookup) {
          const { parent, name } = lookup.name;
          facts.names.push([parent, name, await holder(tx, parent, name, upTo)]);
        } else {
          facts.commands.push([lookup.command, (await tx.objectStore("recorded").get(lookup.command)) ?? null]);
        }
      }
      return { facts, changes };
    });
  }

  /** What the journal knows of the commands among look-ups. */
  async own(lookups: Lookup[]): Promise<Own[]> {
    return this.#read(async (tx) => {
      const own: Own[] = [];
      for (const lookup of lookups) {
        if (!("command" in lookup)) continue;
        const entry = await tx.objectStore("journal").index("commands").get(lookup.command);
        if (entry) own.push(ownOf(entry as Entry));
      }
      return own;
    });
  }

  /** Pending commands in journal order, as the sync machine asks for them. */
  async load(after: number, limit: number): Promise<Extract<Input, { loaded: unknown }>> {
    return this.#read(async (tx) => {
      const states = tx.objectStore("journal").index("states");
      const range = IDBKeyRange.bound(["pending", after], ["pending", Infinity], true, false);
      const found = (await states.getAll(range, limit + 1)) as Entry[];
      const most = this.#core.batch_bytes();
      let bytes = 0;
      const fits = found.slice(0, limit).filter((entry) => {
        const has_room = bytes < most;
        for (const { payload } of entry.pending.envelopes) bytes += payload.length;
        return has_room;
      });
      return {
        loaded: {
          commands: fits.map((entry) => ({ ...entry.pending, position: entry.position })),
          more: found.length > fits.length,
          held_revocations: await heldRevocations(tx),
          revision: (await present(tx)).revision,
        },
      };
    });
  }

  /** Messages of pending commands in journal order: whole commands, until they are enough to be sent at once. */
  async gather(after: number, messages: number): Promise<Extract<Input, { gathered: unknown }>> {
    return this.#read(async (tx) => {
      const states = tx.objectStore("journal").index("states");
      const [commands, most] = [[] as Ready[], this.#core.batch_bytes()];
      let [place, count, bytes, isEnough] = [after, 0, 0, false];
      while (!isEnough) {
        const range = IDBKeyRange.bound(["pending", place], ["pending", Infinity], true, false);
        const found = (await states.getAll(range, PIECE)) as Entry[];
        for (const entry of found) {
          isEnough = count >= messages || bytes >= most;
          if (isEnough) break;
          commands.push(readyOf(entry));
          place = entry.position;
          count += entry.pending.envelopes.length;
          for (const { payload } of entry.pending.envelopes) bytes += payload.length;
        }
        isEnough ||= found.length < PIECE;
      }
      return { gathered: { commands, held_revocations: await heldRevocations(tx) } };
    });
  }

  /** Writes a decision with its events and the entities that it leaves, unless something was written since `changes`. */
  async commit(decision: Decision, changes: number): Promise<Committed> {
    return this.#write(async (tx) => {
      const state = await present(tx);
      if (state.changes !== changes) return "stale";
      const position = await tx.objectStore("journal").add({
        command_id: decision.command_id,
        state: "pending",
        command_hash: decision.command_hash,
        pending: decision.pending,
      });
      await this.#putOverlay(tx, state.settled, position, decision.entities);
      await put(tx, { ...state, revision: state.revision + 1 });
      return "written";
    });
  }

  /** Does what the sync machine wants written: all of it or nothing. */
  async persist(persist: Persist): Promise<Persisted> {
    try {
      return await this.#write((tx) => this.#persist(tx, persist));
    } catch (error) {
      return { failed: { reason: reasonOf(error).text } };
    }
  }

  async #persist(tx: Write, persist: Persist): Promise<Persisted> {
    const state = await present(tx);
    const moved = persist.expect_revision !== null && persist.expect_revision !== state.revision;
    if ((state.progress?.head ?? 0) !== persist.expect_head || moved) return "stale";
    const [journal, messages, versions] = [tx.objectStore("journal"), tx.objectStore("messages"), tx.objectStore("versions")];
    const known = async (id: string): Promise<Entry> => {
      const entry = (await journal.index("commands").get(id)) as Entry | undefined;
      if (entry) return entry;
      throw new HostError("store-damaged", `The journal of this browser does not have the command ${id}: delete this page's data; what is on the stream is read back.`);
    };
    for (const { command_id, draft_hash } of persist.confirmed) {
      // It may have been decided anew since the machine asked.
      if ((await known(command_id)).pending.draft_hash !== draft_hash) return "stale";
    }
    for (const row of this.#rows(persist.entities, 0)) {
      await versions.delete(IDBKeyRange.bound([row.id, 0], [row.id, state.settled]));
      await versions.put(row);
    }
    for (const recorded of persist.recorded) {
      // An id stays void for whom it was.
      const before = recorded.voided && ((await tx.objectStore("recorded").get(recorded.command_id)) as Recorded | undefined);
      const voided = recorded.voided && [...new Set([...(before?.voided ?? []), ...recorded.voided])];
      await tx.objectStore("recorded").put(voided ? { ...recorded, voided } : recorded);
    }
    for (const message of persist.messages) await messages.put(message);
    for (const anomaly of persist.anomalies) await tx.objectStore("anomalies").put(anomaly, anomaly.sequences[0] ?? 0);
    const change = async (id: string, edit: (entry: Entry) => void): Promise<Entry> => {
      const entry = await known(id);
      edit(entry);
      await journal.put(entry);
      return entry;
    };
    for (const { command_id, first } of persist.confirmed) {
      const { pending } = await change(command_id, (entry) => {
        entry.state = "confirmed";
        entry.first = first;
        delete entry.reason;
      });
      // The journal has the messages of its own commands: the trail takes them from there.
      for (const [place, envelope] of pending.envelopes.entries()) {
        await messages.put({ ...envelope, sequence: first + place, payload: base64(envelope.payload) });
      }
    }
    for (const { command_id, reason } of persist.held) {
      await change(command_id, (entry) => {
        entry.state = "held";
        entry.reason = reason;
      });
    }
    for (const [id, hash] of persist.rechecked) await change(id, (entry) => (entry.pending.facts_hash = hash));
    let { settled } = state;
    if (persist.overlay !== "keep") {
      if ("settle" in persist.overlay) {
        settled = Math.max(settled, persist.overlay.settle.position);
      } else {
        const { until, entities } = persist.overlay.replace;
        const end = until ?? Infinity;
        const pending = end > settled ? await versions.index("positions").getAllKeys(IDBKeyRange.bound(settled, end, true)) : [];
        for (const key of pending) await versions.delete(key);
        for (const [position, entity] of entities) await this.#putOverlay(tx, settled, position, [entity]);
      }
    }
    await put(tx, { ...state, progress: persist.progress, settled });
    return "ok";
  }

  /** Writes entities as the command at this place of the journal leaves them: behind all that are there. */
  async #putOverlay(tx: Write, settled: number, position: number, entities: Entity[]): Promise<void> {
    const versions = tx.objectStore("versions");
    for (const row of this.#rows(entities, position)) {
      const head = await version(tx, row.id, settled);
      // Of those at head only the last one counts.
      if (head && head.position > 0) await versions.delete(IDBKeyRange.bound([row.id, 0], [row.id, head.position], false, true));
      await versions.put(row);
    }
  }

  /** Entities as pending commands leave them, each with whether it is on the stream as it stands. */
  async entities(): Promise<{ entity: Entity; confirmed: boolean }[]> {
    return this.#read(async (tx) => {
      const { settled } = await present(tx);
      // In the order of their places: the last one counts.
      const newest = new Map((await tx.objectStore("versions").getAll()).map((row) => [row.id, row]));
      return Array.from(newest.values(), (row) => ({ entity: row.body, confirmed: row.position <= settled }));
    });
  }

  /** Own commands, newest first. */
  async journal(limit: number): Promise<Entry[]> {
    return this.#newest("journal", limit) as Promise<Entry[]>;
  }

  /** Messages of the stream, newest first, below a sequence. */
  async messages(limit: number, below = Infinity): Promise<StoredMessage[]> {
    return this.#newest("messages", limit, IDBKeyRange.upperBound(below, true)) as Promise<StoredMessage[]>;
  }

  async anomalies(): Promise<Anomaly[]> {
    return this.#read((tx) => tx.objectStore("anomalies").getAll());
  }

  async #newest(table: "journal" | "messages", limit: number, range?: IDBKeyRange): Promise<unknown[]> {
    return this.#read(async (tx) => {
      const found: unknown[] = [];
      let cursor = await tx.objectStore(table).openCursor(range, "prev");
      while (cursor && found.length < limit) {
        found.push(cursor.value);
        cursor = await cursor.continue();
      }
      return found;
    });
  }

  #rows(entities: Entity[], position: number): EntityRow[] {
    return this.#core.entity_index(this.registry.operator, entities).map(({ id, parent, name, holds }, place) => {
      const row: EntityRow = { id, position, parent: parent ?? "", body: entities[place] as Entity };
      if (holds) row.held = name;
      return row;
    });
  }

  #state(): Promise<StateRow> {
    return this.#read((tx) => present(tx));
  }

  async #read<T>(work: (tx: Read) => Promise<T>): Promise<T> {
    try {
      const tx = this.#db.transaction([...TABLES], "readonly");
      return await work(tx);
    } catch (error) {
      throw failure(error);
    }
  }

  async #write<T>(work: (tx: Write) => Promise<T>): Promise<T> {
    let tx: Write | undefined;
    try {
      tx = this.#db.transaction([...TABLES], "readwrite", { durability: "strict" });
      // Both are waited for: a transaction that fails at its end was not written.
      const ended = tx.done;
      ended.catch(() => undefined);
      const value = await work(tx);
      await ended;
      return value;
    } catch (error) {
      try {
        tx?.abort();
      } catch {
        // It has ended by itself.
      }
      throw failure(error);
    }
  }
}

function counted(states: { count(range: IDBKeyRange): Promise<number> }, state: State): Promise<number> {
  return states.count(IDBKeyRange.bound([state, 0], [state, Infinity]));
}

async function present(tx: Read | Write): Promise<StateRow> {
  const row = await tx.objectStore("state").get("one");
  if (row) return row;
  throw new HostError("store-lost", "The browser has deleted this page's data: load the page again; what was on the stream is read back.");
}

async function put(tx: Write, state: StateRow): Promise<void> {
  await tx.objectStore("state").put({ ...state, changes: state.changes + 1 }, "one");
}

/** An entity as it stands at this place of the journal. */
async function version(tx: Read | Write, id: EntityId, upTo: number): Promise<EntityRow | undefined> {
  const versions = (tx as Read).objectStore("versions");
  return (await versions.openCursor(IDBKeyRange.bound([id, 0], [id, upTo]), "prev"))?.value;
}

async function holder(tx: Read, parent: string, name: string, upTo: number): Promise<EntityId | null> {
  const held = await tx.objectStore("versions").index("names").getAllKeys([parent, name]);
  for (const [id, position] of held) {
    // What was changed since holds what that says.
    if (position <= upTo && (await version(tx, id, upTo))?.position === position) return id;
  }
  return null;
}

async function heldRevocations(tx: Read): Promise<string[]> {
  const held = (await tx.objectStore("journal").index("states").getAll(IDBKeyRange.bound(["held", 0], ["held", Infinity]))) as Entry[];
  const revoking = held.filter(({ pending: { command } }) =>
    "revoke_user" in command || "revoke_key" in command || ("void_command" in command && command.void_command.revoke !== null));
  return revoking.map((entry) => entry.command_id);
}

function readyOf({ position, command_id, command_hash, pending }: Entry): Ready {
  const { context, draft_hash, envelopes, messages_hash } = pending;
  return { position, command_id, attempt: context.attempt, command_hash, draft_hash, authority: context.authority, envelopes, messages_hash };
}

function ownOf(entry: Entry): Own {
  return {
    command_id: entry.command_id,
    position: entry.position,
    state: entry.state,
    draft_hash: entry.pending.draft_hash,
    command_hash: entry.command_hash,
    authority: entry.pending.context.authority,
  };
}

function base64(text: string): string {
  const bytes = new TextEncoder().encode(text);
  let binary = "";
  for (const byte of bytes) binary += String.fromCharCode(byte);
  return btoa(binary);
}

/** What the browser says of its storage, with what to do. */
function failure(error: unknown): Error {
  if (error instanceof HostError || !(error instanceof DOMException)) {
    return error instanceof Error ? error : new HostError("store", String(error));
  }
  switch (error.name) {
    case "QuotaExceededError":
      return new HostError("store-full", "The browser's storage for this page is full: nothing was written. Free some space, then do it again.");
    case "InvalidStateError":
    case "AbortError":
      return new HostError("store-closed", "The browser has closed this page's storage: nothing was written. Load the page again.");
    case "VersionError":
      return new HostError("store-newer", "A newer version of this page has used this storage: load the page again.");
    default:
      return new HostError("store-unavailable", `The browser gives this page no storage (${error.name}): leave private browsing, or allow it to keep data.`);
  }
}
