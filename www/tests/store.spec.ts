// The store by itself: versions of entities by place, what is settled, and databases of an earlier version.

import { readFileSync } from "node:fs";
import type { Decision, Entity, EntityId, Lookup, Persist, Progress, Ready } from "cim-keys-wasm";
import type * as Api from "../src/host";
import { probe } from "./probe";
import { bringKey, connect, entries, entry, expect, make, status, test } from "./system";

const vectors = JSON.parse(readFileSync(new URL("../../core/tests/data/conformance.json", import.meta.url), "utf8")) as {
  registry: { operator: string; namespace: string };
};

test("entities are kept by place: settled, overtaken and folded anew", async ({ page, system }) => {
  await page.goto(system.ready.page_url);
  const path = await probe(page);
  const seen = await page.evaluate(
    async ({ path, registry }) => {
      const { open } = (await import(path)) as typeof Api;
      const { store, core, keyring, ambient } = await open(registry);
      const fresh = new core.Machine(registry, null).progress();
      // An account in three versions, told apart by their time.
      const operator = keyring.inner.generate("operator", ambient.entropy());
      const key = keyring.inner.generate("account", ambient.entropy());
      const tokens = Object.fromEntries(
        ["a", "b"].map((name) => {
          const claims = { iat: 1, iss: operator, sub: key, name, nats: { type: "account", version: 2 } };
          return [name, keyring.inner.issue_token(claims).split(".")] as const;
        }),
      );
      const at = (second: number, name = "a"): Entity => {
        const [header, body, signature = null] = tokens[name] ?? [];
        return { account: { key, token: { jwt: `${header}.${body}`, signature }, created: "2026-11-23T00:00:00.000Z", updated: `2026-11-23T00:00:0${second}.000Z` } };
      };
      const id: EntityId = `account:${key}`;
      const decision = (number: number, entity: Entity) =>
        ({
          command_id: `00000000-0000-7000-8000-00000000000${number}`,
          command_hash: `hash-${number}`, draft_hash: "", messages_hash: "", entities: [entity], tokens: [],
          pending: {
            position: 0, command: {}, context: { attempt: 1, authority: "A" }, facts_hash: "", draft_hash: "", messages_hash: null,
            envelopes: [{ subject: "s", headers: [], payload: "p" }, { subject: "s", headers: [], payload: "q" }],
          },
        }) as unknown as Decision;
      const lookups: Lookup[] = [{ entity: id }, { name: { parent: registry.operator, name: "a" } }];
      const stand = async () => {
        const told: string[] = [];
        for (const over of [false, true]) {
          const { facts } = await store.facts(lookups, over);
          const entity = facts.entities[0]?.[1];
          const updated = entity && "account" in entity ? entity.account.updated.slice(17, 19) : "none";
          told.push(`${updated} ${facts.names[0]?.[2] === id ? "holds" : "free"}`);
        }
        const listed = await store.entities();
        told.push(listed.map(({ confirmed }) => confirmed).join());
        return told.join(" | ");
      };
      let progress: Progress = fresh;
      const persist = async (more: Partial<Persist>) => {
        const whole = { expect_head: progress.head, expect_revision: null, progress, entities: [], recorded: [], messages: [], anomalies: [], confirmed: [], held: [], rechecked: [], overlay: "keep", ...more } as Persist;
        const answer = await store.persist(whole);
        if (typeof answer === "object") throw new Error(answer.failed.reason);
        if (answer === "ok") progress = whole.progress;
        return answer;
      };
      const said: [string, string][] = [];
      const note = async (what: string) => void said.push([what, await stand()]);
      await note("nothing");
      for (const number of [1, 2, 3]) {
        const { changes } = await store.facts([], true);
        if ((await store.commit(decision(number, at(number)), changes)) !== "written") throw new Error("not written");
      }
      await note("three pending");
      await persist({ overlay: { settle: { position: 2 } } });
      await note("two settled");
      await persist({ overlay: { settle: { position: 1 } } });
      await note("settled is not taken back");
      await persist({ entities: [at(5)] });
      await note("the stream says another");
      await persist({ overlay: { replace: { until: null, entities: [] } } });
      await note("the overlay is void");
      await persist({ overlay: { replace: { until: null, entities: [[3, at(6)], [4, at(7)], [4, at(8, "b")]] } } });
      await note("folded anew, renamed by the last");
      await persist({ overlay: { settle: { position: 3 } } });
      await note("the first of these is settled");
      await persist({ overlay: { settle: { position: 9 } } });
      await note("all is settled");
      const stale = [await persist({ expect_head: 7 }), await persist({ expect_revision: 99 })];

      const gathered: [string, Ready[]][] = [];
      for (const [after, messages] of [[0, 1000], [0, 1], [0, 3], [1, 1000], [3, 1000]] as const) {
        gathered.push([`${after} ${messages}`, (await store.gather(after, messages)).gathered.commands]);
      }
      store.close();
      indexedDB.deleteDatabase(`cim-keys/${registry.operator}`);
      return { said, stale, gathered };
    },
    { path, registry: vectors.registry },
  );
  expect(seen.said).toEqual([
    ["nothing", "none free | none free | "],
    ["three pending", "none free | 03 holds | false"],
    ["two settled", "02 holds | 03 holds | false"],
    ["settled is not taken back", "02 holds | 03 holds | false"],
    ["the stream says another", "05 holds | 03 holds | false"],
    ["the overlay is void", "05 holds | 05 holds | true"],
    ["folded anew, renamed by the last", "05 holds | 08 free | false"],
    ["the first of these is settled", "06 holds | 08 free | false"],
    ["all is settled", "08 free | 08 free | true"],
  ]);
  expect(seen.stale).toEqual(["stale", "stale"]);
  const places = Object.fromEntries(seen.gathered.map(([asked, commands]) => [asked, commands.map(({ position }) => position)]));
  expect(places).toEqual({ "0 1000": [1, 2, 3], "0 1": [1], "0 3": [1, 2], "1 1000": [2, 3], "3 1000": [] });
  expect(seen.gathered[0]?.[1][0]).toMatchObject({ position: 1, attempt: 1, authority: "A", command_hash: "hash-1", messages_hash: null });
});

test("more than one batch takes goes out in two, each event once", async ({ page, system }) => {
  test.setTimeout(180_000);
  const count = 1_200;
  const published: string[] = [];
  page.on("websocket", (socket) =>
    socket.on("framesent", ({ payload }) => published.push(...((typeof payload === "string" ? payload : payload.toString("latin1")).match(/Nats-Batch-Commit: 1/gu) ?? []))),
  );
  await page.goto(system.ready.page_url);
  await connect(page, system);
  await page.reload();
  await expect(status(page)).toHaveAttribute("data-kind", "offline");
  const path = await probe(page);
  await page.evaluate(
    async ({ path, seed, count }) => {
      const { config, open } = (await import(path)) as typeof Api;
      const host = await open((await config()).registry);
      const { public_key } = host.keyring.bring(new TextEncoder().encode(seed));
      const authority = await host.authority(public_key);
      const rights = { pub: {}, sub: {}, subs: -1, data: -1, payload: -1 };
      for (let number = 0; number < count; number += 1) await host.createUser(authority, { name: `many-${number}`, rights, days: 0 });
      host.store.close();
    },
    { path, seed: readFileSync(system.ready.signing_key, "utf8").trim(), count },
  );
  await page.reload();
  await expect(status(page)).toContainText(`${count} commands wait`);
  const field = page.getByLabel("Creds file of the browser role");
  await expect(field).toBeEnabled();
  await field.setInputFiles(system.ready.creds["browser"] ?? "");
  await expect(status(page)).toContainText("everything is on the stream", { timeout: 60_000 });
  expect(published).toHaveLength(2);
  await system.cli("sync");
  expect((await system.cli("list", "users")).match(/many-\d+/gu)).toHaveLength(count);
});

test("a database of the first version is taken over with everything in it", async ({ page, system }) => {
  await page.goto(system.ready.page_url);
  await connect(page, system);
  await bringKey(page, system);
  await make(page, "on-the-stream");
  await expect(entry(page, "on-the-stream")).toHaveAttribute("data-state", "confirmed");
  await page.reload();
  await expect(status(page)).toHaveAttribute("data-kind", "offline");
  await bringKey(page, system);
  await make(page, "pending-one");
  await make(page, "pending-two");
  await page.goto(new URL("config.json", system.ready.page_url).href);
  // As the first version had it: entities at head, and the newest of each that a pending command touched.
  const before = await page.evaluate(async () => {
    const settled = <T>(asked: IDBRequest<T>) =>
      new Promise<T>((resolve, reject) => {
        asked.onsuccess = () => resolve(asked.result);
        asked.onerror = () => reject(asked.error ?? new Error("no answer"));
      });
    const [{ name = "" } = {}] = await indexedDB.databases();
    const db = await settled(indexedDB.open(name));
    const tables = [...db.objectStoreNames];
    const tx = db.transaction(tables, "readonly");
    const rows: Record<string, [IDBValidKey, Record<string, unknown>][]> = {};
    for (const table of tables) {
      const [keys, values] = await Promise.all([settled(tx.objectStore(table).getAllKeys()), settled(tx.objectStore(table).getAll() as IDBRequest<Record<string, unknown>[]>)]);
      rows[table] = keys.map((key, place) => [key, values[place] ?? {}]);
    }
    const version = db.version;
    db.close();
    await settled(indexedDB.deleteDatabase(name));
    const state = rows["state"]?.[0]?.[1] as { settled?: number };
    const upTo = state.settled ?? 0;
    delete state.settled;
    const asked = indexedDB.open(name, 1);
    asked.onupgradeneeded = () => {
      const first = asked.result;
      first.createObjectStore("state");
      first.createObjectStore("entities", { keyPath: "id" }).createIndex("names", ["parent", "held"]);
      const overlay = first.createObjectStore("overlay", { keyPath: "id" });
      overlay.createIndex("names", ["parent", "held"]);
      overlay.createIndex("positions", "position");
      const journal = first.createObjectStore("journal", { keyPath: "position", autoIncrement: true });
      journal.createIndex("commands", "command_id", { unique: true });
      journal.createIndex("states", ["state", "position"]);
      first.createObjectStore("recorded", { keyPath: "command_id" });
      first.createObjectStore("messages", { keyPath: "sequence" });
      first.createObjectStore("anomalies");
    };
    const made = await settled(asked);
    const write = made.transaction([...made.objectStoreNames], "readwrite");
    let [heads, overlaid] = [0, 0];
    for (const [table, all] of Object.entries(rows)) {
      for (const [key, row] of all) {
        if (table !== "versions") {
          const store = write.objectStore(table);
          if (store.keyPath === null) store.put(row, key);
          else store.put(row);
        } else if ((row["position"] as number) <= upTo) {
          const { position: _, ...head } = row;
          write.objectStore("entities").put(head);
          heads += 1;
        } else {
          write.objectStore("overlay").put(row);
          overlaid += 1;
        }
      }
    }
    await new Promise((resolve) => (write.oncomplete = resolve));
    made.close();
    return { version, heads, overlaid };
  });
  expect(before).toMatchObject({ version: 2, overlaid: 2 });
  expect(before.heads).toBeGreaterThan(2);

  await page.goto(system.ready.page_url);
  await expect(entries(page)).toHaveCount(3);
  await expect(entry(page, "on-the-stream")).toHaveAttribute("data-state", "confirmed");
  await expect(entry(page, "pending-two")).toHaveAttribute("data-state", "pending");
  await expect(page.getByTestId("trail")).toContainText("on-the-stream");
  // The account is known without a connection, and a name that a pending command took is taken.
  await bringKey(page, system);
  await page.getByLabel("Name").fill("pending-one");
  await page.getByRole("button", { name: "Make the user" }).click();
  await expect(page.getByRole("alert").filter({ hasText: "pending-one" })).toBeVisible();
  await make(page, "after-it");
  const { tables, version, due } = await page.evaluate(async () => {
    const [{ name = "" } = {}] = await indexedDB.databases();
    const db = await new Promise<IDBDatabase>((resolve) => {
      const asked = indexedDB.open(name);
      asked.onsuccess = () => resolve(asked.result);
    });
    const asked = db.transaction("state").objectStore("state").get("one") as IDBRequest<{ progress: { recheck_due: boolean } }>;
    const due = await new Promise<boolean>((resolve) => (asked.onsuccess = () => resolve(asked.result.progress.recheck_due)));
    const found = { tables: [...db.objectStoreNames], version: db.version, due };
    db.close();
    return found;
  });
  expect({ tables, version, due }).toEqual({ tables: ["anomalies", "journal", "messages", "recorded", "state", "versions"], version: 2, due: true });
  await connect(page, system);
  for (const name of ["pending-one", "pending-two", "after-it"]) await expect(entry(page, name)).toHaveAttribute("data-state", "confirmed");
  await system.cli("sync");
  const users = await system.cli("list", "users");
  for (const name of ["on-the-stream", "pending-one", "pending-two", "after-it"]) expect(users.split(name), name).toHaveLength(2);
});
