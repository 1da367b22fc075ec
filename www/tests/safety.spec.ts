// What must never happen: a secret where it does not belong, code that is not ours, a person who cannot use the page.

import AxeBuilder from "@axe-core/playwright";
import type { Page } from "@playwright/test";
import { readFile } from "node:fs/promises";
import { bringKey, connect, entry, expect, make, status, test, type System } from "./system";

/** A seed as anybody might have written it down. */
function forms(seed: string): string[] {
  const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
  let bits = 0;
  let value = 0;
  const bytes: number[] = [];
  for (const letter of seed) {
    value = ((value << 5) | alphabet.indexOf(letter)) & 0xfff;
    bits += 5;
    if (bits >= 8) bytes.push((value >> (bits -= 8)) & 255);
  }
  const raw = Buffer.from(bytes.slice(2, 34));
  // Base64 of the bytes at any place in something longer.
  const shifted = [0, 1, 2].map((skip) => raw.subarray((3 - skip) % 3, 30).toString("base64").replace(/=+$/, "").slice(0, 36));
  return [seed, raw.toString("hex"), raw.toString("latin1"), ...shifted, ...shifted.map((text) => text.replaceAll("+", "-").replaceAll("/", "_"))];
}

async function seedIn(path: string): Promise<string> {
  const found = /S[AU][A-Z2-7]{56}/.exec(await readFile(path, "utf8"));
  if (!found) throw new Error("no seed");
  return found[0];
}

/** Everything that this browser keeps or shows of the page, bytes as they are. */
async function kept(page: Page): Promise<string> {
  return page.evaluate(async () => {
    const latin1 = (bytes: Uint8Array) => Array.from(bytes, (byte) => String.fromCharCode(byte)).join("");
    // JSON would hide what is no text.
    const spelt = async (value: unknown): Promise<string> => {
      if (typeof value === "string") return value;
      if (value instanceof Blob) return latin1(new Uint8Array(await value.arrayBuffer()));
      if (value instanceof ArrayBuffer) return latin1(new Uint8Array(value));
      if (ArrayBuffer.isView(value)) return latin1(new Uint8Array(value.buffer, value.byteOffset, value.byteLength));
      if (typeof value !== "object" || value === null) return String(value);
      const parts = value instanceof Map ? [...value.keys(), ...value.values()] : [...Object.keys(value), ...(Object.values(value) as unknown[])];
      return (await Promise.all(parts.map(spelt))).join("\n");
    };
    const found: unknown[] = [{ ...localStorage }, { ...sessionStorage }, document.cookie, document.documentElement.outerHTML];
    found.push(Array.from(document.querySelectorAll("input"), (input) => input.value));
    for (const name of await caches.keys()) {
      const cache = await caches.open(name);
      for (const request of await cache.keys()) found.push(request.url, await (await cache.match(request))?.text());
    }
    for (const { name } of await indexedDB.databases()) {
      const db = await new Promise<IDBDatabase>((resolve, reject) => {
        const asked = indexedDB.open(name ?? "");
        asked.onsuccess = () => resolve(asked.result);
        asked.onerror = () => reject(asked.error);
      });
      for (const table of db.objectStoreNames) {
        const rows = db.transaction(table).objectStore(table).getAll();
        found.push(table, await new Promise((resolve) => (rows.onsuccess = () => resolve(rows.result))));
      }
      db.close();
    }
    return spelt(found);
  });
}

const reports = async (page: Page, system: System) =>
  (await (await page.request.get(new URL("csp-reports", system.ready.page_url).href)).json()) as unknown[];

test("no seed is anywhere but in the file that was asked for", async ({ page, system, folder }) => {
  const seen: string[] = [];
  page.on("console", (message) => seen.push(message.text()));
  page.on("request", (request) => seen.push(request.url(), request.postDataBuffer()?.toString("latin1") ?? ""));
  page.on("websocket", (socket) => {
    const note = ({ payload }: { payload: string | Buffer }) => seen.push(typeof payload === "string" ? payload : payload.toString("latin1"));
    socket.on("framesent", note);
    socket.on("framereceived", note);
  });
  await page.goto(system.ready.page_url);
  await connect(page, system);
  await bringKey(page, system);
  await make(page, "canary");
  await expect(entry(page, "canary")).toHaveAttribute("data-state", "confirmed");
  const before = await kept(page);
  const coming = page.waitForEvent("download");
  await page.getByRole("button", { name: /Save the creds/ }).click();
  const file = `${folder}/canary.creds`;
  await (await coming).saveAs(file);

  const everything = [before, await kept(page), ...seen].join("\n");
  // The search finds what is there: the token of the connection, the new user's name.
  expect(everything).toContain("canary");
  expect(seen.join("\n")).toContain("PUB cowboyai.security.keys.user.created");
  const published = seen.find((frame) => frame.includes("PUB cowboyai.security.keys.user.created")) ?? "";
  for (const name of [
    "CIM-Correlation-Id", "CIM-Causation-Id", "CIM-Event-Type", "CIM-Event-Id", "CIM-Timestamp", "CIM-Source", "Nats-Msg-Id",
    "Nats-Expected-Last-Sequence",
  ]) {
    expect(published.split(`\r\n${name}: `), name).toHaveLength(2);
  }
  const seeds = [await seedIn(system.ready.signing_key), await seedIn(system.ready.creds["browser"] ?? ""), await seedIn(file)];
  for (const seed of seeds) {
    for (const form of forms(seed)) expect(everything.includes(form), `a form of ${seed.slice(0, 3)}…`).toBe(false);
  }
});

test("the search for seeds finds one in any form in which a browser keeps things", async ({ page, system }) => {
  const seed = await seedIn(system.ready.signing_key);
  const raw = Array.from(Buffer.from(forms(seed)[2] ?? "", "latin1"));
  await page.goto(system.ready.page_url);
  for (const kind of ["bytes", "buffer", "blob", "text", "deep"] as const) {
    await page.evaluate(
      async ({ kind, raw, seed }) => {
        const bytes = Uint8Array.from(raw);
        const value = { bytes, buffer: bytes.buffer, blob: new Blob([bytes]), text: seed, deep: { a: [new Map([[1, bytes]])] } }[kind];
        const db = await new Promise<IDBDatabase>((resolve) => {
          const asked = indexedDB.open("planted");
          asked.onupgradeneeded = () => asked.result.createObjectStore("one");
          asked.onsuccess = () => resolve(asked.result);
        });
        const written = db.transaction("one", "readwrite");
        written.objectStore("one").put(value, "it");
        await new Promise((resolve) => (written.oncomplete = resolve));
        db.close();
      },
      { kind, raw, seed },
    );
    const everything = await kept(page);
    expect(forms(seed).some((form) => everything.includes(form)), kind).toBe(true);
  }
});

test("what is written is asked to be on the disk before it is done", async ({ page, system }) => {
  await page.addInitScript(() => {
    const seen: string[] = [];
    Object.assign(globalThis, { seen });
    const { transaction } = IDBDatabase.prototype;
    IDBDatabase.prototype.transaction = function (stores, mode, options) {
      if (mode === "readwrite") seen.push(options?.durability ?? "default");
      return transaction.call(this, stores, mode, options);
    };
  });
  await page.goto(system.ready.page_url);
  await connect(page, system);
  await bringKey(page, system);
  await make(page, "durable");
  await expect(entry(page, "durable")).toHaveAttribute("data-state", "confirmed");
  const seen = await page.evaluate(() => (globalThis as unknown as { seen: string[] }).seen);
  expect(seen.length).toBeGreaterThan(3);
  expect(seen.filter((durability) => durability !== "strict")).toEqual([]);
});

test("nothing comes from elsewhere, and injected code is refused", async ({ page, system }) => {
  const origins = new Set<string>();
  page.on("request", (request) => origins.add(new URL(request.url()).origin));
  page.on("websocket", (socket) => origins.add(new URL(socket.url()).origin));
  await page.goto(system.ready.page_url);
  await connect(page, system);
  expect([...origins].sort()).toEqual([new URL(system.ready.page_url).origin, new URL(system.ready.websocket_url).origin].sort());
  expect(await reports(page, system)).toEqual([]);

  const refused = await page.evaluate(async () => {
    const attempts: Record<string, () => void> = {
      script: () => {
        const script = document.createElement("script");
        script.textContent = "globalThis.injected = true";
        document.body.append(script);
      },
      innerHTML: () => (document.body.innerHTML = "<img src=x onerror='globalThis.injected = true'>"),
      eval: () => void new Function("globalThis.injected = true")(),
    };
    const found: Record<string, string> = {};
    for (const [name, attempt] of Object.entries(attempts)) {
      // In a task of the page's own: what is evaluated from outside is excused from the policy.
      await new Promise<void>((resolve) =>
        setTimeout(() => {
          try {
            attempt();
            found[name] = "done";
          } catch (error) {
            found[name] = (error as Error).name;
          }
          resolve();
        }),
      );
    }
    return { found, injected: "injected" in globalThis };
  });
  expect(refused.injected).toBe(false);
  expect(refused.found).toEqual({ script: "TypeError", innerHTML: "TypeError", eval: "EvalError" });
  await expect(status(page)).toBeVisible();
  await expect.poll(async () => (await reports(page, system)).length).toBeGreaterThan(0);
});

test("no script of the page can sign, or read a seed", async ({ page, system }) => {
  await page.goto(system.ready.page_url);
  await connect(page, system);
  const all = await page.evaluate(async () => {
    const urls = performance.getEntriesByType("resource").map(({ name }) => name).filter((name) => name.endsWith(".js"));
    return (await Promise.all(urls.map(async (url) => (await fetch(url)).text()))).join("\n");
  });
  // The client is in it, its signing is not.
  expect(all).toContain("authenticator");
  for (const word of ["crypto_sign", "secretKey", "USER NKEY SEED"]) expect(all, word).not.toContain(word);
});

test("a core that was changed on the way is not started", async ({ page, system }) => {
  await page.route("**/*.wasm", async (route) => {
    const answer = await route.fetch();
    const body = await answer.body();
    body[body.length - 1] = (body[body.length - 1] ?? 0) ^ 1;
    await route.fulfill({ response: answer, body });
  });
  await page.goto(system.ready.page_url);
  await expect(page.getByRole("alert").filter({ hasText: "was not started" })).toBeVisible();
});

for (const scheme of ["light", "dark"] as const) {
  test(`axe finds nothing in any state, ${scheme}`, async ({ page, system }) => {
    await page.emulateMedia({ colorScheme: scheme });
    const clean = async (state: string) => {
      const { violations } = await new AxeBuilder({ page }).analyze();
      expect(violations.map(({ id, nodes }) => `${state}: ${id} ${nodes[0]?.html ?? ""}`)).toEqual([]);
    };
    await page.goto(system.ready.page_url);
    await expect(page.getByLabel("Creds file of the browser role")).toBeEnabled();
    await clean("offline");
    await connect(page, system);
    await clean("connected");
    await page.getByLabel("Signing key of the account", { exact: true }).setInputFiles({
      name: "x.nk", mimeType: "text/plain", buffer: Buffer.from("nonsense"),
    });
    await expect(page.getByText("a seed has 58 characters")).toBeVisible();
    await clean("refused");
    await bringKey(page, system);
    await make(page, "axe");
    await expect(entry(page, "axe")).toHaveAttribute("data-state", "confirmed");
    await clean("made");
  });
}

test("everything works from the keyboard", async ({ page, system }) => {
  await page.goto(system.ready.page_url);
  await connect(page, system);
  await bringKey(page, system);
  await page.locator("body").press("Tab");
  await expect(page.getByRole("link", { name: "Skip to making a user" })).toBeFocused();
  await page.keyboard.press("Enter");
  await page.keyboard.press("Tab");
  await expect(page.getByLabel("Name")).toBeFocused();
  await page.keyboard.type("typed");
  await page.keyboard.press("Tab");
  await page.keyboard.type("orders.>");
  await page.keyboard.press("Enter");
  await expect(entry(page, "typed")).toHaveAttribute("data-state", "confirmed");
  const save = page.getByRole("button", { name: "Save the creds of typed" });
  for (let steps = 0; steps < 10 && !(await save.evaluate((button) => button === document.activeElement)); steps += 1) {
    await page.keyboard.press("Tab");
  }
  await expect(save).toBeFocused();
  const coming = page.waitForEvent("download");
  await page.keyboard.press("Enter");
  expect((await coming).suggestedFilename()).toBe("typed.creds");
});
