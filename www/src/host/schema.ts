// The tables in IndexedDB: one database a registry, and how one of an earlier version becomes one of this.

import type { Anomaly, Entity, EntityId, Pending, Progress, Reason, Recorded, RegistryId, State, StoredMessage } from "cim-keys-wasm";
import { openDB, type DBSchema, type IDBPDatabase, type IDBPTransaction, type StoreNames } from "idb";

/** Version of the tables. */
export const VERSION = 2;

/** One command of the journal. */
export interface Entry {
  position: number;
  command_id: string;
  state: State;
  command_hash: string;
  pending: Pending;
  /** Why it is held. */
  reason?: Reason;
  /** Sequence of its first event, once it is confirmed. */
  first?: number;
}

/** An entity as the stream says (position 0), or as the command at this place of the journal left it. */
export interface EntityRow {
  id: EntityId;
  position: number;
  parent: string;
  /** Only while it holds the name. */
  held?: string;
  body: Entity;
}

export interface StateRow {
  registry: RegistryId;
  progress: Progress | null;
  /** Place in the journal up to which what commands left is the state at `head`; behind it lies the overlay. */
  settled: number;
  /** Moves when a command is added or settled: what the sync machine works from. */
  revision: number;
  /** Moves with every write: what a decision was read at. */
  changes: number;
}

export interface Schema extends DBSchema {
  state: { key: "one"; value: StateRow };
  versions: { key: [EntityId, number]; value: EntityRow; indexes: { names: [string, string]; positions: number } };
  journal: {
    key: number;
    value: Omit<Entry, "position"> & { position?: number };
    indexes: { commands: string; states: [State, number] };
  };
  recorded: { key: string; value: Recorded };
  messages: { key: number; value: StoredMessage };
  anomalies: { key: number; value: Anomaly };
}

export const TABLES = ["state", "versions", "journal", "recorded", "messages", "anomalies"] as const;
type Table = (typeof TABLES)[number];
export type Write = IDBPTransaction<Schema, Table[], "readwrite">;
export type Read = IDBPTransaction<Schema, Table[], "readonly">;
type Upgrade = IDBPTransaction<Schema, StoreNames<Schema>[], "versionchange">;

/** What the first version had in place of `versions`: the state at `head`, and of the overlay the newest of each entity. */
interface First extends DBSchema {
  entities: { key: string; value: Omit<EntityRow, "position"> };
  overlay: { key: string; value: EntityRow };
}

/** Rows that are moved at once. */
const PIECE = 500;

/** Opens a registry's database, or makes it. `fresh` is the progress of a journal that met no stream. */
export function openTables(name: string, fresh: () => Progress): Promise<IDBPDatabase<Schema>> {
  return openDB<Schema>(name, VERSION, {
    async upgrade(db, before, _after, tx) {
      const versions = db.createObjectStore("versions", { keyPath: ["id", "position"] });
      versions.createIndex("names", ["parent", "held"]);
      versions.createIndex("positions", "position");
      if (before === 0) {
        db.createObjectStore("state");
        const journal = db.createObjectStore("journal", { keyPath: "position", autoIncrement: true });
        journal.createIndex("commands", "command_id", { unique: true });
        journal.createIndex("states", ["state", "position"]);
        db.createObjectStore("recorded", { keyPath: "command_id" });
        db.createObjectStore("messages", { keyPath: "sequence" });
        db.createObjectStore("anomalies");
      } else {
        await fromFirst(tx, fresh);
        const first = db as unknown as IDBPDatabase<First>;
        first.deleteObjectStore("entities");
        first.deleteObjectStore("overlay");
      }
    },
    // Another tab has a newer page, or deletes this database: it is not kept waiting.
    blocking: (_current, _blocked, event) => (event.target as IDBDatabase).close(),
  });
}

/** Nothing is lost: entities keep their place, and pending commands are checked again, which gives every version of theirs. */
async function fromFirst(tx: Upgrade, fresh: () => Progress): Promise<void> {
  const first = tx as unknown as IDBPTransaction<First, ("entities" | "overlay")[], "versionchange">;
  const versions = tx.objectStore("versions");
  for (const table of ["entities", "overlay"] as const) {
    let after: IDBKeyRange | undefined;
    for (;;) {
      const rows = await first.objectStore(table).getAll(after, PIECE);
      const last = rows.at(-1);
      if (last === undefined) break;
      for (const row of rows) await versions.put({ position: 0, ...row });
      after = IDBKeyRange.lowerBound(last.id, true);
    }
  }
  const state = await tx.objectStore("state").get("one");
  if (state === undefined) return;
  const progress = { ...(state.progress ?? fresh()), recheck_due: true };
  await tx.objectStore("state").put({ ...state, progress, settled: 0, changes: state.changes + 1 }, "one");
}
