import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { bringKey, connect, converse, entries, entry, expect, make, status, test } from "./system";

interface Logged {
  event_id: string;
  sequence?: number;
  state: string;
}

test("a user is made in the tab, published once, and its creds open the server", async ({ page, system, folder }) => {
  await page.goto(system.ready.page_url);
  await connect(page, system);
  await bringKey(page, system);
  await page.getByLabel("May publish to").fill("orders.>");
  await page.getByLabel("May subscribe to").fill("orders.> _INBOX.>");
  await make(page, "alice é");
  await expect(entry(page, "alice é")).toHaveAttribute("data-state", "confirmed");
  await expect(entry(page, "alice é")).toContainText(/on the stream at \d+/);
  await expect(page.getByTestId("trail").locator("tr").first()).toContainText("user.created");

  const coming = page.waitForEvent("download");
  await page.getByRole("button", { name: /Save the creds/ }).click();
  const file = join(folder, "alice.creds");
  await (await coming).saveAs(file);
  expect(await readFile(file, "utf8")).toContain("-----BEGIN USER NKEY SEED-----");
  await expect(page.getByRole("button", { name: "Save again the creds of alice" })).toBeVisible();
  await page.getByRole("button", { name: "It is safe" }).click();
  await expect(page.getByTestId("ready")).toHaveCount(0);

  // The server takes them from any client; what they do not allow does not come back.
  expect(await converse(system, file, "orders.new")).toBe("hello");
  await expect(converse(system, file, "other.new")).rejects.toThrow();

  await system.cli("sync");
  expect(await system.cli("list", "users")).toContain("alice é");
  const reports = (await (await page.request.get(new URL("csp-reports", system.ready.page_url).href)).json()) as unknown[];
  expect(reports).toEqual([]);
});

test("what is made offline is published when creds come, also after the tab was closed", async ({ context, system }) => {
  const first = await context.newPage();
  await first.goto(system.ready.page_url);
  await connect(first, system);
  await first.reload();
  await expect(status(first)).toHaveAttribute("data-kind", "offline");
  await bringKey(first, system);
  await make(first, "bob");
  await expect(entry(first, "bob")).toHaveAttribute("data-state", "pending");
  await expect(status(first)).toContainText("1 command waits");
  await first.close();

  const second = await context.newPage();
  await second.goto(system.ready.page_url);
  await expect(entry(second, "bob")).toHaveAttribute("data-state", "pending");
  await connect(second, system);
  await expect(entry(second, "bob")).toHaveAttribute("data-state", "confirmed");
});

test("page and native host append at once, and each event is there once", async ({ page, system }) => {
  await page.goto(system.ready.page_url);
  await connect(page, system);
  await bringKey(page, system);
  const native = (async () => {
    for (let number = 0; number < 5; number += 1) {
      await system.cli("user", "create", `native-${number}`, "--account", "APP");
      await system.cli("sync");
    }
  })();
  for (let number = 0; number < 5; number += 1) await make(page, `page-${number}`);
  await native;
  await expect(entries(page).filter({ hasText: "on the stream" })).toHaveCount(5);
  await system.cli("sync");
  const users = await system.cli("list", "users");
  for (let number = 0; number < 5; number += 1) {
    expect(users).toContain(`native-${number}`);
    expect(users).toContain(`page-${number}`);
  }
  // The native host has read the whole stream: it takes nothing but whole commands, byte for byte as it would write them.
  const { events } = JSON.parse(await system.cli("log", "--output", "json")) as { events: Logged[] };
  expect(events.length).toBeGreaterThan(30);
  expect(new Set(events.map((event) => event.event_id)).size).toBe(events.length);
  expect(events.filter((event) => event.state !== "confirmed")).toEqual([]);
  expect(events.map((event) => event.sequence)).toEqual(events.map((_, place) => place + 1));
});

test("a field with separators alone is not taken for everything", async ({ page, system }) => {
  await page.goto(system.ready.page_url);
  await connect(page, system);
  await bringKey(page, system);
  await page.getByLabel("Name").fill("commas");
  await page.getByLabel("May publish to").fill(",,,");
  await page.getByRole("button", { name: "Make the user" }).click();
  await expect(page.getByRole("alert").filter({ hasText: "There is no subject in ,,," })).toBeVisible();
  await expect(page.getByTestId("ready")).toHaveCount(0);
  await expect(entries(page)).toHaveCount(0);
  await page.getByLabel("May publish to").fill(" ");
  await make(page, "commas");
  await expect(page.getByTestId("ready")).toContainText("everything");
});

test("a name typed while another user is being made stays", async ({ page, system }) => {
  await page.goto(system.ready.page_url);
  await connect(page, system);
  await bringKey(page, system);
  // Something else writes for a while: making a user waits for it.
  await page.evaluate(async () => {
    const [found] = await indexedDB.databases();
    const db = await new Promise<IDBDatabase>((resolve) => {
      const asked = indexedDB.open(found?.name ?? "");
      asked.onsuccess = () => resolve(asked.result);
    });
    const state = db.transaction("state", "readwrite").objectStore("state");
    const hold = { on: true };
    const again = () => {
      if (hold.on) state.get("one").onsuccess = again;
      else db.close();
    };
    again();
    Object.assign(globalThis, { hold });
  });
  const name = page.getByLabel("Name");
  await name.fill("first");
  await page.getByRole("button", { name: "Make the user" }).click();
  await expect(page.getByRole("button", { name: "Make the user" })).toBeDisabled();
  await name.fill("second");
  await page.evaluate(() => ((globalThis as unknown as { hold: { on: boolean } }).hold.on = false));
  await expect(page.getByTestId("said")).toContainText("User first is made");
  await expect(name).toHaveValue("second");
  await page.getByRole("button", { name: "Make the user" }).click();
  await expect(page.getByTestId("said")).toContainText("User second is made");
  await expect(name).toHaveValue("");
});

test("what others store is taken from the log, without asking", async ({ page, system }) => {
  const sent: string[] = [];
  page.on("websocket", (socket) =>
    socket.on("framesent", ({ payload }) => sent.push(typeof payload === "string" ? payload : payload.toString("latin1"))),
  );
  await page.goto(system.ready.page_url);
  await connect(page, system);
  expect(sent.filter((frame) => frame.includes("STREAM.INFO")).length).toBeGreaterThan(0);
  sent.length = 0;
  await system.cli("user", "create", "by-another", "--account", "APP");
  await system.cli("sync");
  await expect(page.getByTestId("trail")).toContainText("by-another");
  await expect(status(page)).toHaveAttribute("data-kind", "idle");
  expect(sent.filter((frame) => frame.includes("CIMKEYS.API."))).toEqual([]);
  // And what it appends itself stands on that.
  await bringKey(page, system);
  await make(page, "behind-it");
  await expect(entry(page, "behind-it")).toHaveAttribute("data-state", "confirmed");
  expect(sent.filter((frame) => frame.includes("CIMKEYS.API."))).toEqual([]);
});

test("a pasted key works and never becomes text of the page", async ({ page, system }) => {
  const seed = (await readFile(system.ready.signing_key, "utf8")).trim();
  await page.goto(system.ready.page_url);
  await connect(page, system);
  const field = page.getByLabel("Signing key of the account: paste");
  await field.focus();
  await field.evaluate((target, text) => {
    const data = new DataTransfer();
    data.setData("text/plain", text);
    target.dispatchEvent(new ClipboardEvent("paste", { clipboardData: data, bubbles: true, cancelable: true }));
  }, seed);
  await expect(page.getByTestId("account")).toHaveText("APP");
  expect(await page.content()).not.toContain(seed);
});

test("strange keys are refused with words that help", async ({ page, system }) => {
  await page.goto(system.ready.page_url);
  await connect(page, system);
  await page.getByLabel("Signing key of the account", { exact: true }).setInputFiles({
    name: "x.nk", mimeType: "text/plain", buffer: Buffer.from("SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY"),
  });
  await expect(page.getByText(/checksum|No account of this registry/)).toBeVisible();
  await page.getByLabel("Signing key of the account", { exact: true }).setInputFiles({
    name: "x.nk", mimeType: "text/plain", buffer: Buffer.from("nonsense"),
  });
  await expect(page.getByText("a seed has 58 characters")).toBeVisible();
});
