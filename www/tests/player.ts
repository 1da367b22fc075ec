// What the contract's player orders, done with tabs of the page: a host is a browser context, its process a tab.

import { expect, type Browser, type BrowserContext, type Page } from "@playwright/test";
import { entry, status } from "./system";
import { Wire, type Fault } from "./wire";

interface Host {
  context: BrowserContext;
  wire: Wire;
  /** None while its process is gone. */
  page: Page | undefined;
  /** Creds to read what is on the stream with, while it has not done so. */
  unread: string | null;
  /** A user that is being made. */
  making?: Promise<unknown>;
}

interface Seen {
  kind: string;
  code: string;
  text: string;
}

type Standing = "idle" | "offline" | "elsewhere" | "dead" | { blocked: string; says?: string } | { waiting: string };
type Users = Record<string, string[]>;
type Made = { host: string; user: string; command_id: string };
type Row = { command_id: string; state: string; code: string | null; first: number | null };

export type Order =
  | { do: "begin"; page: string; operator: string; signing: string }
  | { do: "open"; host: string; creds: string | null }
  | { do: "make"; host: string; user: string }
  | { do: "together"; users: Users }
  | { do: "connect"; host: string; entrance: string; creds: string }
  | { do: "disconnect" | "on-its-way" | "let-go" | "kill" | "start" | "journal"; host: string }
  | { do: "arm"; host: string; fault: Fault }
  | { do: "unmet" }
  | { do: "beside"; host: string; of: string }
  | { do: "store"; host: string; disk: "works" | "fails" }
  | { do: "stands"; wanted: Record<string, Standing> };

/** How long a host may take to stand as it should: only a failure ever takes so long. */
const PATIENCE = 40_000;

export class Player {
  readonly #browser: Browser;
  readonly #hosts = new Map<string, Host>();
  #address = "";
  #operator = "";
  #signing = "";

  constructor(browser: Browser) {
    this.#browser = browser;
  }

  async close(): Promise<void> {
    for (const { context } of this.#hosts.values()) await context.close();
  }

  /** Does what is ordered. An order that is not known here is an error. */
  async perform(order: Order): Promise<unknown> {
    if ("host" in order && !["open", "connect", "beside"].includes(order.do)) await this.#read(order.host);
    switch (order.do) {
      case "begin":
        this.#address = order.page;
        this.#operator = order.operator;
        this.#signing = order.signing;
        return null;
      case "open":
        return this.#open(order.host, order.creds);
      case "make": {
        const host = this.#host(order.host);
        const made = this.#make(order.host, order.user);
        host.making = made.catch(() => undefined);
        return made;
      }
      case "together":
        return (await Promise.all(Object.entries(order.users).map(([host, users]) => this.#makeAll(host, users)))).flat();
      case "connect":
        return this.#connect(order.host, order.entrance, order.creds);
      case "disconnect":
        // Creds are in a tab's memory alone.
        await this.#end(order.host);
        return this.#begin(order.host);
      case "arm":
        this.#host(order.host).wire.arm(order.fault);
        return null;
      case "on-its-way":
        await this.#host(order.host).wire.holds();
        return null;
      case "let-go":
        this.#host(order.host).wire.letGo();
        return null;
      case "unmet":
        return [...this.#hosts].flatMap(([host, { wire }]) => (wire.unmet === undefined ? [] : [`${wire.unmet} of ${host}`]));
      case "kill":
        return this.#end(order.host);
      case "start":
        return this.#begin(order.host);
      case "beside": {
        const { context, wire } = this.#host(order.of);
        this.#hosts.set(order.host, { context, wire, page: undefined, unread: null });
        return this.#begin(order.host);
      }
      case "store":
        return this.#page(order.host).evaluate(refuseWrites, order.disk === "fails");
      case "stands":
        return Object.fromEntries(
          await Promise.all(Object.entries(order.wanted).map(async ([host, wanted]) => [host, await this.#stands(host, wanted)] as const)),
        );
      case "journal":
        return this.#page(order.host).evaluate(readJournal, `cim-keys/${this.#operator}`);
      default:
        throw new Error(`the page's driver does not know ${JSON.stringify(order)}`);
    }
  }

  /** A context with a tab that reads what is on the stream before anything else is asked of it. */
  async #open(name: string, creds: string | null): Promise<null> {
    const context = await this.#browser.newContext();
    const host: Host = { context, wire: await Wire.of(context), page: undefined, unread: creds };
    host.wire.onDeath = () => {
      const { page } = host;
      host.page = undefined;
      // A person who has been told that a user is made is told so before: the append may be faster than the sentence.
      void (host.making ?? Promise.resolve()).then(() => page?.close());
    };
    this.#hosts.set(name, host);
    return this.#begin(name);
  }

  /** Reads what is on the stream, where that was not done yet, and gives the connection up. */
  async #read(name: string): Promise<void> {
    const host = this.#host(name);
    if (host.unread === null) return;
    await this.#connect(name, "writer", host.unread);
    await this.#end(name);
    await this.#begin(name);
  }

  async #connect(name: string, entrance: string, creds: string): Promise<null> {
    const host = this.#host(name);
    // A host that comes in for the first time reads first; whoever cannot must have done so before.
    if (!["writer", "named", "reader"].includes(entrance)) await this.#read(name);
    await bring(this.#page(name), "Creds file of the browser role", creds);
    if (host.unread !== null) await expect(status(this.#page(name))).toHaveAttribute("data-kind", "idle");
    host.unread = null;
    return null;
  }

  #host(name: string): Host {
    const host = this.#hosts.get(name);
    if (host === undefined) throw new Error(`nobody is called ${name}`);
    return host;
  }

  #page(name: string): Page {
    const { page } = this.#host(name);
    if (page === undefined) throw new Error(`${name} is dead`);
    return page;
  }

  async #begin(name: string): Promise<null> {
    const host = this.#host(name);
    host.page = await host.context.newPage();
    await host.page.goto(this.#address);
    await expect(host.page.getByLabel("Creds file of the browser role")).toBeEnabled();
    return null;
  }

  /** As a crash ends it: nothing is asked, nothing is told. */
  async #end(name: string): Promise<null> {
    const host = this.#host(name);
    const { page } = host;
    host.page = undefined;
    await page?.close();
    return null;
  }

  async #make(host: string, user: string): Promise<Made> {
    const page = this.#page(host);
    if (!(await page.getByTestId("account").isVisible())) {
      await bring(page, "Signing key of the account", this.#signing);
      await expect(page.getByTestId("account")).toHaveText("APP");
    }
    await page.getByLabel("Name").fill(user);
    await page.getByRole("button", { name: "Make the user" }).click();
    await expect(page.getByTestId("said")).toContainText(`User ${user} is made`);
    const id = await entry(page, user).getAttribute("data-command");
    if (id === null) throw new Error(`${host} has no command for ${user}`);
    return { host, user, command_id: id };
  }

  async #makeAll(host: string, users: string[]): Promise<Made[]> {
    const made: Made[] = [];
    for (const user of users) made.push(await this.#make(host, user));
    return made;
  }

  /** A host that waits is asked to look now, as a browser does that is online again; then it works until it stands so. */
  async #stands(name: string, wanted: Standing): Promise<Seen> {
    const host = this.#host(name);
    let seen = await look(host.page);
    if (seen.kind === "waiting" || seen.kind === "blocked") {
      await host.page?.evaluate(() => globalThis.dispatchEvent(new Event("online")));
    }
    const fitting = expect.poll(async () => fits(wanted, (seen = await look(host.page))), { timeout: PATIENCE, intervals: [20, 50, 100] });
    // Whoever ordered it judges what was seen.
    await fitting.toBe(true).catch(() => undefined);
    return seen;
  }
}

function fits(wanted: Standing, { kind, code, text }: Seen): boolean {
  if (typeof wanted === "string") return kind === wanted;
  if ("blocked" in wanted) return kind === "blocked" && code === wanted.blocked && text.includes(wanted.says ?? "");
  return kind === "waiting" && code === wanted.waiting;
}

async function look(page: Page | undefined): Promise<Seen> {
  if (page === undefined) return { kind: "dead", code: "", text: "" };
  return page.evaluate(() => {
    const line = document.querySelector<HTMLElement>("[data-testid=status]");
    const pending = document.querySelectorAll("[data-testid=journal] [data-state=pending]").length;
    const { kind = "", code = "" } = line?.dataset ?? {};
    // What it says of its connection and what it shows of its journal are drawn one after the other.
    return { kind: kind === "idle" && pending > 0 ? "working" : kind, code, text: line?.textContent ?? "" };
  });
}

async function bring(page: Page, label: string, secret: string): Promise<null> {
  const field = page.getByLabel(label, { exact: true });
  await expect(field).toBeEnabled();
  await field.setInputFiles({ name: "brought", mimeType: "text/plain", buffer: Buffer.from(secret) });
  return null;
}

/** In the page: the browser's storage refuses writes as if it were full, or takes them again. */
function refuseWrites(refuse: boolean): null {
  const all = globalThis as { put?: IDBObjectStore["put"] };
  all.put ??= IDBObjectStore.prototype.put;
  IDBObjectStore.prototype.put = refuse
    ? () => {
        throw new DOMException("no room", "QuotaExceededError");
      }
    : all.put;
  return null;
}

/** In the page: what is in the browser's storage. */
async function readJournal(name: string): Promise<{ rows: Row[]; trail: [number, string][] }> {
  const settled = <T>(asked: IDBRequest<T>) =>
    new Promise<T>((resolve, reject) => {
      asked.onsuccess = () => resolve(asked.result);
      asked.onerror = () => reject(asked.error ?? new Error("no answer"));
    });
  const db = await settled(indexedDB.open(name));
  try {
    const tx = db.transaction(["journal", "messages"], "readonly");
    type Entry = { command_id: string; state: string; reason?: { code: string }; first?: number };
    type Message = { sequence: number; headers: [string, string][] };
    const [journal, messages] = await Promise.all([
      settled<Entry[]>(tx.objectStore("journal").getAll()),
      settled<Message[]>(tx.objectStore("messages").getAll()),
    ]);
    return {
      rows: journal.map(({ command_id, state, reason, first }) => ({ command_id, state, code: reason?.code ?? null, first: first ?? null })),
      trail: messages.map(({ sequence, headers }) => [sequence, headers.find(([header]) => header === "CIM-Event-Id")?.[1] ?? ""]),
    };
  } finally {
    db.close();
  }
}
