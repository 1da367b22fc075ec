// What happens to machines, tabs and disks: nothing lost, nothing doubled, and the page says what to do.

import { join } from "node:path";
import { bringKey, connect, entries, entry, expect, make, status, System, test } from "./system";

interface Logged {
  event_id: string;
}

async function users(system: System, prefix: string): Promise<string[]> {
  await system.cli("sync");
  return (await system.cli("list", "users")).split("\n").filter((line) => line.includes(prefix));
}

test("two tabs: one publishes, and the other takes over when it is closed", async ({ context, system }) => {
  const [first, second] = [await context.newPage(), await context.newPage()];
  await first.goto(system.ready.page_url);
  await connect(first, system);
  await second.goto(system.ready.page_url);
  await expect(status(second)).toHaveAttribute("data-kind", "elsewhere");
  // What the second makes, the first publishes.
  await bringKey(second, system);
  await make(second, "tab-two");
  await expect(entry(second, "tab-two")).toHaveAttribute("data-state", "confirmed");
  await first.close();
  await expect(status(second)).toHaveAttribute("data-kind", "offline");
  await connect(second, system);
  await make(second, "tab-three");
  await expect(entry(second, "tab-three")).toHaveAttribute("data-state", "confirmed");
  expect(await users(system, "tab-")).toHaveLength(2);
});

test("a server that is gone and comes back gets everything once", async ({ page, folder }) => {
  const data = join(folder, "system");
  const before = await System.up(data);
  await page.goto(before.ready.page_url);
  await connect(page, before);
  await bringKey(page, before);
  await make(page, "before");
  await expect(entry(page, "before")).toHaveAttribute("data-state", "confirmed");
  const ports = [
    "--page-port", new URL(before.ready.page_url).port,
    "--websocket-port", new URL(before.ready.websocket_url).port,
  ];
  await before.down();
  await make(page, "meanwhile");
  await expect(entry(page, "meanwhile")).toHaveAttribute("data-state", "pending");
  await expect(status(page)).toHaveAttribute("data-kind", "waiting");
  const after = await System.up(data, ports);
  try {
    await expect(entry(page, "meanwhile")).toHaveAttribute("data-state", "confirmed", { timeout: 45_000 });
    expect(await users(after, "meanwhile")).toHaveLength(1);
    expect(await users(after, "before")).toHaveLength(1);
  } finally {
    await after.down();
  }
});

test("a websocket cut in the middle of a publish, whether the server took it or not", async ({ page, system }) => {
  let cut: "before" | "after" | undefined;
  let met = 0;
  await page.routeWebSocket(/.*/, (socket) => {
    const server = socket.connectToServer();
    socket.onMessage((message) => {
      const text = typeof message === "string" ? message : message.toString("latin1");
      const isPublish = text.includes("PUB cowboyai.security.keys.user.created");
      if (isPublish && cut === "before") {
        met += 1;
        cut = undefined;
        void socket.close({ code: 4000 });
        void server.close();
        return;
      }
      server.send(message);
      if (isPublish && cut === "after") {
        met += 1;
        cut = undefined;
        // The server has it; its answer is never seen.
        void socket.close({ code: 4000 });
      }
    });
  });
  await page.goto(system.ready.page_url);
  await connect(page, system);
  await bringKey(page, system);
  for (const place of ["before", "after"] as const) {
    cut = place;
    await make(page, `cut-${place}`);
    await expect(entry(page, `cut-${place}`)).toHaveAttribute("data-state", "confirmed", { timeout: 30_000 });
  }
  expect(met).toBe(2);
  expect(await users(system, "cut-")).toHaveLength(2);
  const { events } = JSON.parse(await system.cli("log", "--output", "json")) as { events: Logged[] };
  const ids = events.map((event) => event.event_id);
  expect(ids.length).toBeGreaterThan(10);
  expect(new Set(ids).size).toBe(ids.length);
});

test("a server that closes before it greets is asked again", async ({ page, system }) => {
  let met = 0;
  await page.routeWebSocket(/.*/, (socket) => {
    met += 1;
    if (met <= 2) void socket.close();
    else socket.connectToServer();
  });
  await page.goto(system.ready.page_url);
  const field = page.getByLabel("Creds file of the browser role");
  await expect(field).toBeEnabled();
  await field.setInputFiles(system.ready.creds["browser"] ?? "");
  await expect(status(page)).toHaveAttribute("data-kind", "idle", { timeout: 30_000 });
  expect(met).toBe(3);
});

test("a tab closed between publish and acknowledgement goes on when it is opened again", async ({ context, system }) => {
  const first = await context.newPage();
  let isSent = false;
  await first.routeWebSocket(/.*/, (socket) => {
    const server = socket.connectToServer();
    socket.onMessage((message) => {
      server.send(message);
      const text = typeof message === "string" ? message : message.toString("latin1");
      isSent ||= text.includes("PUB cowboyai.security.keys.user.created");
    });
    // Once it is sent the tab hears nothing any more.
    server.onMessage((message) => {
      if (!isSent) socket.send(message);
    });
  });
  await first.goto(system.ready.page_url);
  await connect(first, system);
  await bringKey(first, system);
  await make(first, "unheard");
  await expect.poll(() => isSent).toBe(true);
  await expect(entry(first, "unheard")).toHaveAttribute("data-state", "pending");
  await first.close();
  const second = await context.newPage();
  await second.goto(system.ready.page_url);
  await expect(entry(second, "unheard")).toHaveAttribute("data-state", "pending");
  await connect(second, system);
  await expect(entry(second, "unheard")).toHaveAttribute("data-state", "confirmed");
  expect(await users(system, "unheard")).toHaveLength(1);
});

test("a full disk changes nothing, and says what to do", async ({ page, context, system }) => {
  const devtools = await context.newCDPSession(page);
  const origin = new URL(system.ready.page_url).origin;
  await devtools.send("Storage.overrideQuotaForOrigin", { origin, quotaSize: 3_000_000 });
  await page.goto(system.ready.page_url);
  await connect(page, system);
  await bringKey(page, system);
  // Somebody else's data fills what this origin may have, to the last byte that the browser gives.
  const fill = () =>
    page.evaluate(async () => {
      const db = await new Promise<IDBDatabase>((resolve) => {
        const asked = indexedDB.open("filler");
        asked.onupgradeneeded = () => asked.result.createObjectStore("all", { autoIncrement: true });
        asked.onsuccess = () => resolve(asked.result);
      });
      const add = (size: number) =>
        new Promise<boolean>((resolve) => {
          const tx = db.transaction("all", "readwrite");
          tx.objectStore("all").add(crypto.getRandomValues(new Uint8Array(size)));
          tx.oncomplete = () => resolve(true);
          tx.onabort = () => resolve(false);
        });
      let refused = 0;
      for (const size of [65_536, 4_096, 256, 16]) {
        while (await add(size));
        refused += 1;
      }
      db.close();
      return refused;
    });
  expect(await fill()).toBe(4);
  await page.getByLabel("Name").fill("no-room");
  await page.getByRole("button", { name: "Make the user" }).click();
  await expect(page.getByText("storage for this page is full")).toBeVisible();
  await expect(page.getByTestId("ready")).toHaveCount(0);
  await expect(entries(page)).toHaveCount(0);
  await devtools.send("Storage.overrideQuotaForOrigin", { origin });
  await page.evaluate(() => new Promise((resolve) => (indexedDB.deleteDatabase("filler").onsuccess = resolve)));
  await page.getByRole("button", { name: "Make the user" }).click();
  await expect(entry(page, "no-room")).toHaveAttribute("data-state", "confirmed");
  expect(await users(system, "no-room")).toHaveLength(1);
});

test("storage that is deleted under the page is missed, and the stream gives back what it has", async ({ page, context, system }) => {
  await page.goto(system.ready.page_url);
  await connect(page, system);
  await bringKey(page, system);
  await make(page, "kept-by-the-stream");
  await expect(entry(page, "kept-by-the-stream")).toHaveAttribute("data-state", "confirmed");
  const devtools = await context.newCDPSession(page);
  const origin = new URL(system.ready.page_url).origin;
  await devtools.send("Storage.clearDataForOrigin", { origin, storageTypes: "indexeddb" });
  await page.getByLabel("Name").fill("after-it");
  await page.getByRole("button", { name: "Make the user" }).click();
  await expect(page.getByRole("alert").filter({ hasText: "oad the page again" }).first()).toBeVisible();
  page.on("dialog", (dialog) => void dialog.accept());
  await page.reload();
  await connect(page, system);
  await expect(page.getByTestId("trail")).toContainText("kept-by-the-stream");
  await bringKey(page, system);
  await make(page, "after-it");
  await expect(entry(page, "after-it")).toHaveAttribute("data-state", "confirmed");
  expect(await users(system, "after-it")).toHaveLength(1);
  expect(await users(system, "kept-by-the-stream")).toHaveLength(1);
});

test("two tabs without creds: whichever gets them publishes, for both", async ({ context, system }) => {
  const [first, second] = [await context.newPage(), await context.newPage()];
  await first.goto(system.ready.page_url);
  await second.goto(system.ready.page_url);
  await expect(status(first)).toHaveAttribute("data-kind", "offline");
  await expect(status(second)).toHaveAttribute("data-kind", "offline");
  await connect(second, system);
  await expect(status(first)).toHaveAttribute("data-kind", "elsewhere");
  await bringKey(first, system);
  await make(first, "made-in-the-first");
  await expect(entry(first, "made-in-the-first")).toHaveAttribute("data-state", "confirmed");
  await second.close();
  await expect(status(first)).toHaveAttribute("data-kind", "offline");
  expect(await users(system, "made-in-the-first")).toHaveLength(1);
});

test("a file chosen for another purpose takes nothing away", async ({ page, system }) => {
  await page.goto(system.ready.page_url);
  await connect(page, system);
  await bringKey(page, system);
  // The signing key as creds, the creds as signing key: refused, and both go on serving.
  await page.getByLabel("Creds file of the browser role").setInputFiles(system.ready.signing_key);
  await expect(page.getByText("a seed without a token")).toBeVisible();
  await make(page, "still-signed");
  await expect(entry(page, "still-signed")).toHaveAttribute("data-state", "confirmed");
  await page.getByRole("button", { name: "Forget this key" }).click();
  await page.getByLabel("Signing key of the account", { exact: true }).setInputFiles(system.ready.creds["browser"] ?? "");
  await expect(page.getByText("No account of this registry")).toBeVisible();
  await page.evaluate(() => globalThis.dispatchEvent(new Event("online")));
  await connect(page, system);
});

test("creds that have ended block with words that help, and new ones go on without a reload", async ({ page, system, folder }) => {
  const old = join(folder, "old.creds");
  await system.cli("access", "renew", "--role", "browser", "--out", old, "--expiry", "1h");
  await system.cli("sync");
  await page.clock.install({ time: Date.now() + 7_200_000 });
  await page.clock.resume();
  await page.goto(system.ready.page_url);
  const field = page.getByLabel("Creds file of the browser role");
  await expect(field).toBeEnabled();
  await field.setInputFiles(old);
  await expect(status(page)).toHaveAttribute("data-kind", "blocked");
  await expect(status(page)).toContainText("cim-keys access renew");
  await connect(page, system);
});

test("a role that may not append blocks with the subject, and the right one goes on", async ({ page, system }) => {
  await page.goto(system.ready.page_url);
  await connect(page, system, "auditor");
  await bringKey(page, system);
  await make(page, "not-allowed");
  await expect(status(page)).toHaveAttribute("data-kind", "blocked");
  await expect(status(page)).toContainText("cowboyai.security.keys.user.created");
  await expect(entry(page, "not-allowed")).toHaveAttribute("data-state", "pending");
  await connect(page, system);
  await expect(entry(page, "not-allowed")).toHaveAttribute("data-state", "confirmed");
  expect(await users(system, "not-allowed")).toHaveLength(1);
});

test("creds that the server refuses block with what to do, not with the server's word alone", async ({ page, system }) => {
  let isRefused = true;
  await page.routeWebSocket(/.*/, (socket) => {
    const server = socket.connectToServer();
    socket.onMessage((message) => {
      const text = typeof message === "string" ? message : message.toString("latin1");
      if (!isRefused || !text.startsWith("CONNECT")) return server.send(message);
      socket.send(Buffer.from("-ERR 'Authorization Violation'\r\n"));
      void socket.close({ code: 1000 });
      void server.close();
    });
  });
  await page.goto(system.ready.page_url);
  const field = page.getByLabel("Creds file of the browser role");
  await expect(field).toBeEnabled();
  await field.setInputFiles(system.ready.creds["browser"] ?? "");
  await expect(status(page)).toHaveAttribute("data-code", "authorization");
  await expect(status(page)).toHaveText(/^The server refuses the creds \(.*Authorization Violation.*\): renew them \(cim-keys access renew\), or push the account\.$/iu);
  isRefused = false;
  await connect(page, system);
});

test("a tab whose creds do not serve lets one publish that has better ones", async ({ context, system }) => {
  const [first, second] = [await context.newPage(), await context.newPage()];
  await first.goto(system.ready.page_url);
  await connect(first, system, "auditor");
  await bringKey(first, system);
  await second.goto(system.ready.page_url);
  await expect(status(second)).toHaveAttribute("data-kind", "elsewhere");
  await make(first, "not-by-this-one");
  await expect(status(first)).toHaveAttribute("data-code", "permission");
  await expect(status(second)).toHaveAttribute("data-kind", "offline");
  await connect(second, system);
  await expect(entry(first, "not-by-this-one")).toHaveAttribute("data-state", "confirmed");
  // Asked to look again, the first finds who publishes, and takes over when that one is gone.
  await first.evaluate(() => globalThis.dispatchEvent(new Event("online")));
  await expect(status(first)).toHaveAttribute("data-kind", "elsewhere");
  await second.close();
  await expect(status(first)).toHaveAttribute("data-kind", "idle");
  expect(await users(system, "not-by-this-one")).toHaveLength(1);
});

test("losing to other writers is said, and ends when they do", async ({ page, system }) => {
  let isLosing = false;
  let lost = 0;
  await page.routeWebSocket(/.*/, (socket) => {
    const server = socket.connectToServer();
    // The number under which the client listens to answers.
    let subscription = "";
    socket.onMessage((message) => {
      const text = typeof message === "string" ? message : message.toString("latin1");
      subscription ||= /SUB _INBOX\S+\.\* (\d+)/u.exec(text)?.[1] ?? "";
      const inbox = /PUB cowboyai\.security\.keys\.\S+ (_INBOX\S+) \d/u.exec(text)?.[1];
      if (!isLosing || inbox === undefined) return server.send(message);
      lost += 1;
      const answer = JSON.stringify({ error: { code: 400, err_code: 10071, description: "wrong last sequence: 1" } });
      socket.send(Buffer.from(`MSG ${inbox} ${subscription} ${answer.length}\r\n${answer}\r\n`));
    });
    server.onMessage((message) => socket.send(message));
  });
  await page.goto(system.ready.page_url);
  await connect(page, system);
  await bringKey(page, system);
  isLosing = true;
  await make(page, "loses");
  await expect(status(page)).toHaveAttribute("data-kind", "contended", { timeout: 15_000 });
  await expect(status(page)).toContainText(/Other writers were always first, for \d+ s now/u);
  await expect(entry(page, "loses")).toHaveAttribute("data-state", "pending");
  expect(lost).toBeGreaterThan(1);
  isLosing = false;
  await expect(entry(page, "loses")).toHaveAttribute("data-state", "confirmed", { timeout: 30_000 });
  await expect(status(page)).toHaveAttribute("data-kind", "idle");
  expect(await users(system, "loses")).toHaveLength(1);
});

test("a name that another host took first is held, and the page says why", async ({ page, system }) => {
  await page.goto(system.ready.page_url);
  await connect(page, system);
  await page.reload();
  await bringKey(page, system);
  await make(page, "wanted-by-two");
  await expect(entry(page, "wanted-by-two")).toHaveAttribute("data-state", "pending");
  await system.cli("user", "create", "wanted-by-two", "--account", "APP");
  await system.cli("sync");
  await connect(page, system);
  await expect(entry(page, "wanted-by-two")).toHaveAttribute("data-state", "held");
  await expect(entry(page, "wanted-by-two")).toContainText("make it anew");
  await expect(status(page)).toContainText("1 command is held");
  await expect(page.getByTestId("ready-state")).toContainText("Hand none out");
  expect(await users(system, "wanted-by-two")).toHaveLength(1);
});

test("a message larger than the server takes is held, and nothing is tried over and over", async ({ page, system }) => {
  let connections = 0;
  await page.routeWebSocket(/.*/u, (socket) => {
    connections += 1;
    const server = socket.connectToServer();
    // Smaller than any event.
    const small = (text: string) => text.replace(/"max_payload":\d+/u, '"max_payload":512');
    server.onMessage((data) => socket.send(typeof data === "string" ? small(data) : Buffer.from(small(data.toString("latin1")), "latin1")));
  });
  await page.goto(system.ready.page_url);
  await connect(page, system);
  await bringKey(page, system);
  await make(page, "too-large");
  await expect(entry(page, "too-large")).toHaveAttribute("data-state", "held");
  await expect(status(page)).toHaveAttribute("data-kind", "idle");
  expect(connections).toBe(1);
  expect(await users(system, "too-large")).toHaveLength(0);
});
