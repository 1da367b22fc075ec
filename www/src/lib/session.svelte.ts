// What the page knows, as the components draw it. Everything is done by the host; here stands only what to show.

import type { MessageView, Reason, UserRights } from "cim-keys-wasm";
import { config, HostError, open, Pump, reasonOf, type Authority, type Config, type Counts, type Entry, type Host, type NewUser, type Outcome, type PumpStatus } from "../host";

/** A message of the stream as the trail shows it. */
export interface Line {
  sequence: number;
  event: MessageView | null;
  /** Why it changes nothing. */
  anomaly: string | null;
}

/** A user made here whose key is still in this tab. */
export interface Ready {
  outcome: Outcome;
  name: string;
  account: string;
  rights: UserRights | null;
  /** Whether its creds were handed to the person. */
  isSaved: boolean;
  /** How its command stands. */
  state: Entry["state"];
}

const TRAIL = 200;

export class Session {
  config = $state.raw<Config>();
  fault = $state<Reason>();
  status = $state<PumpStatus>({ kind: "offline" });
  credsName = $state("");
  authority = $state.raw<Authority>();
  journal = $state.raw<Entry[]>([]);
  trail = $state.raw<Line[]>([]);
  ready = $state.raw<Ready[]>([]);
  counts = $state.raw<Counts>({ pending: 0, held: 0 });
  others = $state.raw<{ operator: string; pending: number }[]>([]);
  isPersistent = $state<boolean>();
  #host: Host | undefined;
  #pump: Pump | undefined;
  #brought: string | undefined;
  #refreshing = false;
  #again = false;

  async begin(): Promise<void> {
    try {
      const found = await config();
      this.#host = await open(found.registry);
      // Not before: what is shown can be used.
      this.config = found;
      this.#pump = new Pump(
        this.#host,
        (status) => (this.status = status),
        () => void this.refresh(),
      );
      await this.refresh();
      this.others = await this.#host.store.others().catch(() => []);
      this.isPersistent = await navigator.storage.persist().catch(() => false);
    } catch (error) {
      this.fault = reasonOf(error);
    }
  }

  /** Takes creds in and connects with them. */
  async connect(secret: Uint8Array, fileName: string): Promise<void> {
    const host = this.#opened();
    const user = host.keyring.bring(secret);
    const { token } = user;
    if (token === null) {
      this.#release(user.public_key);
      throw new HostError("not-creds", "This is a seed without a token: choose a creds file of the browser role (cim-keys access renew --role browser).");
    }
    const before = this.#brought;
    this.#brought = user.public_key;
    if (before !== undefined) this.#release(before);
    this.credsName = fileName;
    this.#pump?.use({ url: this.config?.websocket_url ?? "", apiPrefix: this.config?.api_prefix ?? "", user: { ...user, token } });
  }

  /** Takes an account's signing key in. */
  async bringSigningKey(secret: Uint8Array): Promise<void> {
    const host = this.#opened();
    const { public_key } = host.keyring.bring(secret);
    const before = this.authority?.key;
    try {
      this.authority = await host.authority(public_key);
    } finally {
      this.#release(public_key);
      if (before !== undefined) this.#release(before);
    }
  }

  forgetSigningKey(): void {
    const key = this.authority?.key;
    this.authority = undefined;
    if (key !== undefined) this.#release(key);
  }

  /** Wipes a key that nothing here needs: one key may have come in more than once, for more than one purpose. */
  #release(key: string): void {
    const needed = [this.authority?.key, this.#brought, ...this.ready.map(({ outcome }) => outcome.publicKey)];
    if (!needed.includes(key)) this.#opened().keyring.forget(key);
  }

  /** Makes a user; when this returns it is on the disk. */
  async createUser(user: NewUser): Promise<void> {
    const { authority } = this;
    if (!authority) throw new HostError("authority-missing", "Bring the account's signing key first.");
    const host = this.#opened();
    const outcome = await host.createUser(authority, user);
    this.ready = [...this.ready, { outcome, name: user.name, account: authority.account.name, rights: authority.rights ?? user.rights, isSaved: false, state: "pending" }];
    this.#pump?.committed();
  }

  /** Hands the creds file to the person. Whether it arrived only the person knows: the key stays until it is forgotten. */
  saveCreds(ready: Ready): void {
    const host = this.#opened();
    const bytes = host.secretCreds(ready.outcome);
    const url = URL.createObjectURL(new Blob([bytes as Uint8Array<ArrayBuffer>], { type: "application/octet-stream" }));
    bytes.fill(0);
    const link = document.createElement("a");
    link.href = url;
    link.download = `${ready.name.replace(/[^\p{L}\p{N}._-]+/gu, "_") || "user"}.creds`;
    link.click();
    // The browser has its own hold on it once the download has begun.
    setTimeout(() => URL.revokeObjectURL(url), 60_000);
    this.ready = this.ready.map((other) => (other.outcome === ready.outcome ? { ...other, isSaved: true } : other));
  }

  /** Wipes the key of a user whose creds are safe. */
  forget(ready: Ready): void {
    this.ready = this.ready.filter((other) => other.outcome.publicKey !== ready.outcome.publicKey);
    this.#release(ready.outcome.publicKey);
  }

  /** Reads anew what the store holds; at most one read at a time. */
  async refresh(): Promise<void> {
    if (this.#refreshing) {
      this.#again = true;
      return;
    }
    this.#refreshing = true;
    try {
      do {
        this.#again = false;
        await this.#read();
      } while (this.#again);
    } catch (error) {
      this.fault = reasonOf(error);
    } finally {
      this.#refreshing = false;
    }
  }

  async #read(): Promise<void> {
    const { core, store } = this.#opened();
    const [journal, messages, anomalies] = [await store.journal(100), await store.messages(TRAIL), await store.anomalies()];
    const why: Record<number, string> = Object.fromEntries(anomalies.flatMap((anomaly) => anomaly.sequences.map((sequence) => [sequence, anomaly.reason.text])));
    this.journal = journal;
    this.counts = await store.counts();
    for (const { outcome } of this.ready) {
      const state = (await store.entry(outcome.commandId))?.state ?? "pending";
      this.ready = this.ready.map((ready) => (ready.outcome === outcome && ready.state !== state ? { ...ready, state } : ready));
    }
    this.trail = messages.map((message) => {
      let event: MessageView | null = null;
      try {
        event = core.describe_message(message);
      } catch {
        // Not an event: the anomaly says why.
      }
      return { sequence: message.sequence, event, anomaly: why[message.sequence] ?? (event ? null : "this is no event") };
    });
  }

  #opened(): Host {
    if (this.#host) return this.#host;
    throw new HostError("not-open", "The page is not ready: load it again.");
  }
}
