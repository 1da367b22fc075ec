// What does not belong on the stream changes nothing, stops nobody, and is judged alike by the page and the native host.

import type { Page } from "@playwright/test";
import { bringKey, connect, entry, expect, make, test, type System } from "./system";
import { Stranger } from "./stranger";

const CREATED = "cowboyai.security.keys.user.created";

interface Envelope {
  subject: string;
  headers: [string, string][];
  payload: string;
}

/** Sequences that the page shows as changing nothing. */
const strange = async (page: Page) =>
  (await page.getByTestId("trail").locator("tr.anomaly td:first-child").allTextContents()).map(Number).sort((a, b) => a - b);

/** The same, as the native host has recorded them. */
async function recorded(system: System): Promise<number[]> {
  await system.cli("sync");
  const { events } = JSON.parse(await system.cli("log", "--output", "json")) as { events: { sequence: number; state: string }[] };
  return events.filter(({ state }) => state === "anomaly").map(({ sequence }) => sequence).sort((a, b) => a - b);
}

test("headers that no client would write", async ({ page, system }) => {
  test.setTimeout(120_000);
  const stranger = await Stranger.connect(system.ready.server_url, system.ready.creds["host"] ?? "");
  try {
    await page.goto(system.ready.page_url);
    await connect(page, system);
    await bringKey(page, system);
    const blocks = [
      "no colon", ": empty", "A b: 1", "A:\u0001\u0002", "Nats-Sequence: x", "CIM-Source: cim\nkeys", "\u00e9: 1", " folded: 1",
    ];
    let stored = 0;
    for (const block of blocks) {
      // Two of them: one behind what is known, and one that begins the next read.
      for (let twice = 0; twice < 2; twice += 1) {
        await stranger.publish(CREATED, `NATS/1.0\r\n${block}\r\n\r\n`, "{}");
        stored += 1;
      }
      // Where headers contradict the server's own, the log tells nothing: it is seen at the next look, half a minute later.
      await expect.poll(async () => (await strange(page)).length, { timeout: 45_000 }).toBe(stored);
    }
    await stranger.publish(CREATED, "NATS/1.0 503\r\n\r\n", "{}");
    await expect.poll(async () => (await strange(page)).length).toBe(stored + 1);
    await make(page, "goes-on");
    await expect(entry(page, "goes-on")).toHaveAttribute("data-state", "confirmed");
    expect(await recorded(system)).toEqual(await strange(page));
  } finally {
    stranger.close();
  }
});

test("genuine commands with headers in other words", async ({ page, browser, system }) => {
  // Made in a browser that never connects again: what it would send is sent by somebody else.
  const context = await browser.newContext();
  const offline = await context.newPage();
  await offline.goto(system.ready.page_url);
  await connect(offline, system);
  await offline.reload();
  await bringKey(offline, system);
  const words: Record<string, (name: string, value: string) => string> = {
    plain: (name, value) => `${name}: ${value}`,
    close: (name, value) => `${name}:${value}`,
    folded: (name, value) => (name === "CIM-Source" ? `${name}: ${value}\r\n more` : `${name}: ${value}`),
    "folded-space": (name, value) => (name === "CIM-Source" ? `${name}: ${value}\r\n  ` : `${name}: ${value}`),
    split: (name, value) => (name === "CIM-Source" ? `${name}: cim-\r\n keys` : `${name}: ${value}`),
    beside: (name, value) => (name === "CIM-Source" ? `${name}: ${value}\r\nA:1\r\n more\r\nB: 2` : `${name}: ${value}`),
  };
  for (const name of Object.keys(words)) await make(offline, name);
  const envelopes = await offline.evaluate(async () => {
    const [found] = await indexedDB.databases();
    const db = await new Promise<IDBDatabase>((resolve) => {
      const asked = indexedDB.open(found?.name ?? "");
      asked.onsuccess = () => resolve(asked.result);
    });
    const rows = db.transaction("journal").objectStore("journal").getAll() as IDBRequest<{ pending: { envelopes: Envelope[] } }[]>;
    return new Promise<Envelope[]>((resolve) => (rows.onsuccess = () => resolve(rows.result.flatMap((row) => row.pending.envelopes))));
  });
  await context.close();
  expect(envelopes).toHaveLength(Object.keys(words).length);

  const stranger = await Stranger.connect(system.ready.server_url, system.ready.creds["host"] ?? "");
  try {
    for (const [place, write] of Object.values(words).entries()) {
      const { subject, headers, payload } = envelopes[place] as Envelope;
      await stranger.publish(subject, `NATS/1.0\r\n${headers.map(([name, value]) => write(name, value)).join("\r\n")}\r\n\r\n`, payload);
    }
  } finally {
    stranger.close();
  }
  await page.goto(system.ready.page_url);
  await connect(page, system);
  const seen = await strange(page);
  expect(seen.length).toBeGreaterThan(0);
  expect(await recorded(system)).toEqual(seen);
  const users = await system.cli("list", "users");
  for (const name of ["plain", "close", "folded-space"]) expect(users, name).toContain(name);
  for (const name of ["folded", "split"]) expect(users.split(/\s+/u), name).not.toContain(name);
});
