// Drives the core's sync machine over store and connection. One publisher an origin: a Web Lock says which tab.

import type { Machine, Output, Reason, Status } from "cim-keys-wasm";
import { HostError, reasonOf } from "./error";
import type { Host } from "./host";
import { Link, type Target } from "./nats";
import { Store } from "./store";
import { Work } from "./work";

/** How the pump stands, for a person. */
export type PumpStatus =
  | { kind: "offline" }
  | { kind: "elsewhere" }
  | { kind: "working" }
  | { kind: "contended"; millis: number }
  | { kind: "idle"; server: string }
  | { kind: "waiting"; reason: Reason; open: boolean }
  | { kind: "blocked"; reason: Reason };

/** What the machine calls a journal that another process moved: it begins again. */
const MOVED = "journal-moved";
/** Where other creds are needed. */
const CREDS = ["authorization", "creds-expired", "key-missing", "permission"];
/** What the connection says better than the machine, which only knows that it failed. */
const OWN_WORDS = ["unreachable", "creds-expired", "key-missing"];
/** How often a pump that has nothing to do asks how the stream stands, and one without creds that serve looks again. */
const PROBE = 30_000;

/** Why driving ended: to begin again at once, or because other creds are needed. */
type End = "again" | "refused";

export class Pump {
  readonly #host: Host;
  readonly #changed: BroadcastChannel;
  readonly #report: (status: PumpStatus) => void;
  readonly #refresh: () => void;
  #target: Target | undefined;
  /** What is under way, while this tab publishes. */
  #work: Work | undefined;
  #wake: (() => void) | undefined;
  /** Something happened while nobody waited. */
  #due = false;
  /** The same, to a journal that is published from here. */
  #isNew = false;
  /** For how long others were always first. */
  #contended: number | undefined;
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
      this.#news();
    };
    const signal = this.#ended.signal;
    const again = () => this.#again();
    for (const event of ["online", "pageshow"]) globalThis.addEventListener(event, again, { signal });
    document.addEventListener("visibilitychange", again, { signal });
    report({ kind: "offline" });
    void this.#run(name);
  }

  /** Goes on with these creds, in place of those before. */
  use(target: Target): void {
    this.#target = target;
    this.#work?.drop();
    this.#rouse();
  }

  /** The journal has something new, from this tab. */
  committed(): void {
    this.#changed.postMessage("committed");
    this.#refresh();
    this.#news();
  }

  stop(): void {
    this.#ended.abort();
    this.#changed.close();
    this.#work?.drop();
    this.#rouse();
  }

  /** Without creds it looks on; with them it publishes, in one tab at a time. */
  async #run(name: string): Promise<void> {
    while (!this.#ended.signal.aborted) {
      try {
        if (this.#target === undefined) await this.#look(name);
        // Another tab may have creds that serve: this one stands back until it looks again.
        else if ((await this.#publish(name)) === "refused") await this.#rest(PROBE);
      } catch (error) {
        if (this.#ended.signal.aborted) return;
        this.#report({ kind: "blocked", reason: reasonOf(error) });
        await this.#rest(PROBE);
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

  /** Publishes while this tab has the lock: until it is stopped, or its creds are refused. */
  async #publish(name: string): Promise<End> {
    const { locks } = navigator;
    const work = async (): Promise<End> => {
      // Who looks on is to know.
      this.#changed.postMessage("publishing");
      let end: End = "again";
      while (!this.#ended.signal.aborted && end === "again") end = await this.#drive();
      return end;
    };
    const mine = await locks.request(name, { ifAvailable: true }, (lock) => (lock === null ? undefined : work()));
    if (mine !== undefined) return mine;
    this.#report({ kind: "elsewhere" });
    return locks.request(name, { signal: this.#ended.signal }, work);
  }

  /** One machine, until its journal was moved by somebody else or the creds were changed. */
  async #drive(): Promise<End> {
    const { core, store, ambient } = this.#host;
    const target = this.#target;
    let machine: Machine | undefined;
    const work = (this.#work = new Work(() => this.#connect(), () => this.#rouse()));
    this.#contended = undefined;
    try {
      machine = new core.Machine(store.registry, await store.progress());
      let [isIdle, isProbing] = [false, false];
      work.push("tick");
      while (!this.#ended.signal.aborted && this.#target === target) {
        const input = work.take();
        if (input === undefined) {
          const rests = isIdle && (isProbing || !work.isBusy);
          if (!rests && !work.isBusy) throw new HostError("internal", "The sync machine asks for nothing: load the page again.");
          if (rests && this.#isNew) {
            work.push("tick");
            continue;
          }
          if (rests && !isProbing) {
            work.pause(PROBE);
            isProbing = true;
          }
          await this.#rest(Infinity);
          continue;
        }
        // Only this pause is not the machine's own.
        if (isProbing) work.endPause();
        isProbing = false;
        if (input === "tick") this.#isNew = false;
        const { millis, random } = ambient.moment();
        for (const output of machine.handle(input, millis, random)) {
          if (typeof output !== "object" || !("report" in output)) {
            await this.#perform(output, work);
            continue;
          }
          isIdle = output.report === "idle";
          const end = this.#tell(output.report, work);
          if (end !== undefined) return end;
        }
      }
    } catch (error) {
      this.#end(work, target);
      this.#report({ kind: "blocked", reason: reasonOf(error) });
      await this.#rest(PROBE);
    } finally {
      this.#end(work, target);
      machine?.free();
    }
    return "again";
  }

  /** Nothing that is queued may go out behind the next machine's back; what was under way is no reason to hurry. */
  #end(work: Work, target: Target | undefined): void {
    if (this.#work !== work) return;
    this.#work = undefined;
    work.endPause();
    work.drop();
    this.#due = this.#target !== target;
  }

  /** Does one thing: what the store answers comes before anything else is done, what the connection answers later. */
  async #perform(output: Exclude<Output, { report: unknown }>, work: Work): Promise<void> {
    const { store } = this.#host;
    if (output === "drop") work.drop();
    else if ("read_from" in output) work.read(output.read_from);
    else if ("send" in output) work.send(output.send);
    else if ("follow" in output) work.follow(output.follow.on);
    else if ("wait" in output) work.pause(output.wait.millis);
    else if ("load_facts" in output) {
      const { facts } = await store.facts(output.load_facts.scopes, false);
      work.push({ facts: { facts, own: await store.own(output.load_facts.scopes) } });
    } else if ("load" in output) work.push(await store.load(output.load.after, output.load.limit));
    else if ("gather" in output) work.push(await store.gather(output.gather.after, output.gather.messages));
    else if ("persist" in output) {
      const persisted = await store.persist(output.persist);
      if (persisted === "ok") {
        if (output.persist.confirmed.length > 0) this.#contended = undefined;
        this.#changed.postMessage("persisted");
        this.#refresh();
      }
      work.push({ persisted });
    } else {
      // This page makes no revocation: whoever made it decides it anew.
      work.push({ redecided: { command_id: output.redecide.command_id, resolved: false } });
    }
  }

  async #connect(): Promise<Link> {
    const { core, keyring, store, ambient } = this.#host;
    const target = this.#target;
    if (target === undefined) throw new HostError("creds-missing", "Choose the creds file of the browser role.");
    return Link.connect(core, keyring, store.registry, target, Math.floor(ambient.millis() / 1000));
  }

  /** Says how it stands; how driving ends, where it does. */
  #tell(status: Status, work: Work): End | undefined {
    if (status === "working") {
      // Losing to others is said until it is over, not until the next attempt.
      this.#report(this.#contended === undefined ? { kind: "working" } : { kind: "contended", millis: this.#contended });
      return undefined;
    }
    this.#contended = undefined;
    if (status === "idle") this.#report({ kind: "idle", server: work.server });
    else if ("contended" in status) {
      this.#contended = status.contended.millis;
      this.#report({ kind: "contended", millis: this.#contended });
    } else if ("waiting" in status) {
      const { reason, open } = status.waiting;
      this.#report({ kind: "waiting", reason: explained(reason, work.trouble), open });
    } else if (status.blocked.reason.code === MOVED) return "again";
    else {
      const reason = explained(status.blocked.reason, work.trouble);
      this.#report({ kind: "blocked", reason });
      if (CREDS.includes(reason.code)) return "refused";
    }
    return undefined;
  }

  /** Until the time is over or something happens. */
  async #rest(millis: number): Promise<void> {
    if (!this.#due && !this.#ended.signal.aborted) {
      await new Promise<void>((resolve) => {
        const timer = Number.isFinite(millis) ? setTimeout(resolve, millis) : undefined;
        this.#wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
      this.#wake = undefined;
    }
    this.#due = false;
  }

  /** The journal has something new, or another tab speaks: a machine that pauses is not roused before its time. */
  #news(): void {
    this.#isNew = true;
    if (this.#work !== undefined || this.#target === undefined) this.#rouse();
  }

  /** The browser has something new, such as a network: a pause is over. */
  #again(): void {
    this.#work?.hurry();
    this.#rouse();
  }

  #rouse(): void {
    if (this.#wake) this.#wake();
    else this.#due = true;
  }
}

/** The machine's reason, or the connection's own words where those help more. */
function explained(reason: Reason, trouble: Reason | undefined): Reason {
  const isAbout = ["unreachable", "authorization"].includes(reason.code);
  return isAbout && trouble !== undefined && OWN_WORDS.includes(trouble.code) ? trouble : reason;
}
