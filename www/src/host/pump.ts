// Drives the core's sync machine over store and connection. One publisher an origin: a Web Lock says which tab.

import type { Input, Machine, Output, Reason, Status } from "cim-keys-wasm";
import { HostError, reasonOf } from "./error";
import type { Host } from "./host";
import { Link, type Target } from "./nats";
import { Store } from "./store";

/** How the pump stands, for a person. */
export type PumpStatus =
  | { kind: "offline" }
  | { kind: "elsewhere" }
  | { kind: "working" }
  | { kind: "idle"; server: string }
  | { kind: "waiting"; reason: Reason }
  | { kind: "blocked"; reason: Reason };

/** What the machine calls a journal that another process moved: it begins again. */
const MOVED = "journal-moved";

export class Pump {
  readonly #host: Host;
  readonly #changed: BroadcastChannel;
  readonly #report: (status: PumpStatus) => void;
  readonly #refresh: () => void;
  #target: Target | undefined;
  #link: Link | undefined;
  /** The connection's own words, where the machine only knows that it failed. */
  #trouble: Reason | undefined;
  #wake: (() => void) | undefined;
  /** Something happened while nobody waited. */
  #due = false;
  #ended = new AbortController();

  /** `report` hears how it stands, `refresh` that the store has changed, in this tab or another. */
  constructor(host: Host, report: (status: PumpStatus) => void, refresh: () => void) {
    this.#host = host;
    this.#report = report;
    this.#refresh = refresh;
    const name = Store.name(host.store.registry.operator);
    this.#changed = new BroadcastChannel(name);
    this.#changed.onmessage = () => {
      refresh();
      this.#rouse();
    };
    const signal = this.#ended.signal;
    const again = () => this.#rouse();
    for (const event of ["online", "pageshow"]) globalThis.addEventListener(event, again, { signal });
    document.addEventListener("visibilitychange", again, { signal });
    report({ kind: "offline" });
    void this.#run(name);
  }

  /** Goes on with these creds, in place of those before. */
  use(target: Target): void {
    this.#target = target;
    this.#trouble = undefined;
    this.#link?.drop();
    this.#rouse();
  }

  /** The journal has something new, from this tab. */
  committed(): void {
    this.#changed.postMessage("committed");
    this.#refresh();
    this.#rouse();
  }

  stop(): void {
    this.#ended.abort();
    this.#changed.close();
    this.#link?.drop();
    this.#rouse();
  }

  /** Without creds it looks on; with them it publishes, in one tab at a time. */
  async #run(name: string): Promise<void> {
    while (!this.#ended.signal.aborted) {
      try {
        if (this.#target === undefined) await this.#look(name);
        else await this.#publish(name);
      } catch (error) {
        if (this.#ended.signal.aborted) return;
        this.#report({ kind: "blocked", reason: reasonOf(error) });
        await this.#rest(30_000);
      }
    }
  }

  /** Says whether another tab publishes, until something changes. */
  async #look(name: string): Promise<void> {
    const { locks } = navigator;
    const isFree = await locks.request(name, { mode: "shared", ifAvailable: true }, (lock) => lock !== null);
    this.#report({ kind: isFree ? "offline" : "elsewhere" });
    const waiting = new AbortController();
    // Granted once that tab has ended.
    if (!isFree) void locks.request(name, { mode: "shared", signal: waiting.signal }, () => this.#rouse()).catch(() => undefined);
    await this.#rest(Infinity);
    waiting.abort();
  }

  async #publish(name: string): Promise<void> {
    const { locks } = navigator;
    const work = async (): Promise<void> => {
      // Who looks on is to know.
      this.#changed.postMessage("publishing");
      while (!this.#ended.signal.aborted) await this.#drive();
    };
    const isMine = await locks.request(name, { ifAvailable: true }, async (lock) => {
      if (lock !== null) await work();
      return lock !== null;
    });
    if (isMine) return;
    this.#report({ kind: "elsewhere" });
    await locks.request(name, { signal: this.#ended.signal }, work);
  }

  /** One machine, until its journal was moved by somebody else or the creds were changed. */
  async #drive(): Promise<void> {
    const { core, store, ambient } = this.#host;
    let machine: Machine | undefined;
    const target = this.#target;
    try {
      machine = new core.Machine(store.registry, await store.progress());
      let input: Input = "tick";
      while (!this.#ended.signal.aborted && this.#target === target) {
        const { millis, random } = ambient.moment();
        let answer: Input | undefined;
        for (const output of machine.handle(input, millis, random)) {
          if (typeof output === "object" && "report" in output) {
            if (this.#tell(output.report)) return;
            if (output.report === "idle") {
              await this.#rest(Infinity);
              answer = "tick";
            }
          } else {
            answer = (await this.#perform(output)) ?? answer;
          }
        }
        if (answer === undefined) throw new HostError("internal", "The sync machine asks for nothing: load the page again.");
        input = answer;
      }
    } catch (error) {
      this.#report({ kind: "blocked", reason: reasonOf(error) });
      await this.#rest(30_000);
    } finally {
      machine?.free();
    }
  }

  async #perform(output: Exclude<Output, { report: unknown }>): Promise<Input | undefined> {
    const { store } = this.#host;
    if (output === "drop") {
      const link = this.#link;
      this.#link = undefined;
      link?.drop();
      return undefined;
    }
    if ("read_from" in output) return this.#read(output.read_from);
    if ("load_facts" in output) {
      const { facts } = await store.facts(output.load_facts.scopes, false);
      return { facts: { facts, own: await store.own(output.load_facts.scopes) } };
    }
    if ("load" in output) return store.load(output.load.after, output.load.limit);
    if ("persist" in output) {
      const persisted = await store.persist(output.persist);
      if (persisted === "ok") {
        this.#changed.postMessage("persisted");
        this.#refresh();
      }
      return { persisted };
    }
    if ("send" in output) {
      const link = this.#link;
      return link === undefined || link.isClosed ? "disconnected" : { reply: await link.send(output.send) };
    }
    // This page makes no revocation: whoever made it decides it anew.
    if ("redecide" in output) return { redecided: { command_id: output.redecide.command_id, resolved: false } };
    await this.#rest(output.wait.millis);
    return "tick";
  }

  async #read(from: { after: number; limit: number }): Promise<Input> {
    if (this.#link?.isClosed) {
      // The machine must know: behind a new connection it looks at the message at `head` again.
      this.#link = undefined;
      return "disconnected";
    }
    const target = this.#target;
    try {
      this.#link ??= await this.#connect();
    } catch (error) {
      const reason = reasonOf(error);
      this.#trouble = reason;
      const refused = ["authorization", "creds-expired", "key-missing"].includes(reason.code);
      return { read_failed: refused ? { authorization: { reason: reason.text } } : "unreachable" };
    }
    if (this.#target !== target) {
      // Other creds came meanwhile: what they are for begins with a connection of their own.
      this.#link.drop();
      this.#link = undefined;
      return "disconnected";
    }
    return this.#link.read(from);
  }

  async #connect(): Promise<Link> {
    const { core, keyring, store, ambient } = this.#host;
    const target = this.#target;
    if (target === undefined) throw new HostError("creds-missing", "Choose the creds file of the browser role.");
    const link = await Link.connect(core, keyring, store.registry, target, Math.floor(ambient.millis() / 1000));
    this.#trouble = undefined;
    void link.onStored(() => this.#rouse()).catch(() => undefined);
    // What was dropped here is no news: a pause after it is meant.
    void link.ended().then(() => {
      if (this.#link === link) this.#rouse();
    });
    return link;
  }

  /** True where the machine is done and another begins. */
  #tell(status: Status): boolean {
    if (status === "idle") this.#report({ kind: "idle", server: this.#link?.server ?? "" });
    else if (status === "working") this.#report({ kind: "working" });
    else if ("waiting" in status) this.#report({ kind: "waiting", reason: this.#explained(status.waiting.reason) });
    else if (status.blocked.reason.code === MOVED) return true;
    else this.#report({ kind: "blocked", reason: this.#explained(status.blocked.reason) });
    return false;
  }

  #explained(reason: Reason): Reason {
    return this.#trouble !== undefined && ["unreachable", "authorization"].includes(reason.code) ? this.#trouble : reason;
  }

  /** Until the time is over or something happens. */
  async #rest(millis: number): Promise<void> {
    if (this.#due || this.#ended.signal.aborted) {
      this.#due = false;
      return;
    }
    await new Promise<void>((resolve) => {
      const timer = Number.isFinite(millis) ? setTimeout(resolve, millis) : undefined;
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
    this.#wake = undefined;
    this.#due = false;
  }

  #rouse(): void {
    if (this.#wake) this.#wake();
    else this.#due = true;
  }
}
