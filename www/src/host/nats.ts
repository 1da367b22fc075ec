// The connection: subjects, requests and answers are the core's; this carries them over a websocket.

import type { Endpoints, Failure, Imported, Input, Output, Reply, RegistryId, StoredMessage, StreamInfo } from "cim-keys-wasm";
import { createInbox, errors, headers as newHeaders, wsconnect, type Msg, type MsgHdrs, type NatsConnection, type Subscription } from "@nats-io/nats-core";
import type { MsgHdrsImpl, MsgImpl } from "@nats-io/nats-core/internal";
import type { Core } from "./core";
import { HostError } from "./error";
import type { Keyring } from "./keyring";

/** How long one answer may take, in milliseconds. */
const ANSWER = 5_000;
/** How long the client may take to say why a connection was closed. */
const CLOSED = 500;
/** How long one batch of messages may take. */
const BATCH = 30_000;

const encoder = new TextEncoder();

type ReadFrom = Extract<Output, { read_from: unknown }>["read_from"];
type Send = Extract<Output, { send: unknown }>["send"];
type Readable = Extract<Input, { read: unknown }>["read"];

/** Where to, and as whom. */
export interface Target {
  url: string;
  apiPrefix: string;
  /** Creds that were brought in: public key and token. The seed is in the keyring. */
  user: Imported & { token: string };
}

export class Link {
  readonly #core: Core;
  readonly #connection: NatsConnection;
  readonly #socket: WebSocket;
  readonly #endpoints: Endpoints;
  readonly #namespace: string;
  /** Subjects that the server has denied since the connection began. */
  readonly #denied: string[] = [];
  /** Requests that wait for an answer which a denial takes away. */
  readonly #asking = new Set<(subject: string) => void>();
  #refused: string | undefined;
  #log: Subscription | undefined;
  #closed = false;

  private constructor(core: Core, connection: NatsConnection, socket: WebSocket, endpoints: Endpoints, namespace: string) {
    this.#core = core;
    this.#connection = connection;
    this.#socket = socket;
    this.#endpoints = endpoints;
    this.#namespace = namespace;
    void this.#watch();
    void connection.closed().then((error) => {
      this.#closed = true;
      if (error instanceof Error && isRefusal(error)) this.#refused ??= error.message;
    });
  }

  /** Connects once. Connecting again is the sync machine's decision. */
  static async connect(core: Core, keyring: Keyring, registry: RegistryId, target: Target, nowSeconds: number): Promise<Link> {
    const { claims } = core.inspect_token(target.user.token);
    if (claims.exp !== undefined && claims.exp !== 0 && claims.exp <= nowSeconds) {
      throw new HostError("creds-expired", `These creds ended ${new Date(claims.exp * 1000).toLocaleString()}: ask for new ones (cim-keys access renew --role browser) and choose that file.`);
    }
    if (!keyring.inner.has(target.user.public_key)) {
      throw new HostError("key-missing", "The key of these creds is not in this tab any more: choose the creds file again.");
    }
    const endpoints = core.endpoints(registry, target.apiPrefix, target.user.public_key);
    let socket: WebSocket | undefined;
    try {
      const opened = (socket = new WebSocket(target.url));
      const connecting = wsconnect({
        servers: target.url,
        wsFactory: () => Promise.resolve({ socket: opened, encrypted: opened.url.startsWith("wss:") }),
        authenticator: (nonce) => ({
          jwt: target.user.token,
          nkey: "",
          sig: btoa(String.fromCharCode(...keyring.inner.sign(target.user.public_key, new TextEncoder().encode(nonce ?? "")))),
        }),
        inboxPrefix: endpoints.inbox,
        reconnect: false,
        timeout: ANSWER,
        pingInterval: 20_000,
        maxPingOut: 2,
        ignoreClusterUpdates: true,
        name: "cim-keys page",
      });
      // The client waits for ever where a connection ends between its two greetings. What it says itself comes first.
      const gone = new Promise<never>((_, reject) => {
        const end = (millis: number) => setTimeout(() => reject(new Error("gone")), millis);
        opened.addEventListener("close", () => end(CLOSED), { once: true });
        end(2 * ANSWER);
      });
      const late = () => void connecting.then((connection) => connection.close()).catch(() => undefined);
      const connection = await Promise.race([connecting, gone]).catch((error: unknown) => {
        late();
        throw error;
      });
      gone.catch(() => undefined);
      return new Link(core, connection, opened, endpoints, registry.namespace);
    } catch (error) {
      socket?.close();
      if (error instanceof Error && isRefusal(error)) throw new HostError("authorization", error.message);
      throw new HostError("unreachable", `The server ${target.url} cannot be reached: see that it runs, and that this page may use it.`);
    }
  }

  get isClosed(): boolean {
    return this.#closed || this.#connection.isClosed();
  }

  get server(): string {
    return this.#connection.info?.version ?? "";
  }

  /**
   * Nothing that is queued here is sent any more. A server that has stopped answering is not waited for: it would not take
   * part in closing either, and the client would hold its end open until everything is sent.
   */
  drop(): void {
    this.#closed = true;
    this.#socket.close();
    void this.#connection.close();
  }

  /** Hands over what the stream stores from now on, until the connection ends or it is told to stop. */
  follow(hear: (message: StoredMessage) => void): void {
    this.unfollow();
    const log = this.#connection.subscribe(this.#endpoints.log);
    this.#log = log;
    const listen = async (): Promise<void> => {
      for await (const message of log) {
        const found = this.#core.parse_logged(this.#namespace, message.subject, headerBlock(message), message.data);
        if (found !== null && this.#log === log) hear(found);
      }
    };
    // Where listening is not permitted, the stream is looked at from time to time all the same.
    void listen().catch(() => undefined);
  }

  unfollow(): void {
    const log = this.#log;
    this.#log = undefined;
    log?.unsubscribe();
  }

  /** Resolves when the connection has ended. */
  async ended(): Promise<void> {
    await this.#connection.closed();
  }

  /** How the leader says that the stream stands, and what is stored behind `after`, in order and without a gap. */
  async read({ stream, after, limit }: ReadFrom): Promise<{ read: Readable } | { read_failed: Failure }> {
    const from = this.#at(stream);
    const asked = await this.#ask(from.info, "");
    if ("failure" in asked) return { read_failed: asked.failure };
    const parsed = this.#core.parse_stream_info(asked.answer.data, this.server || null);
    if ("failure" in parsed) return { read_failed: parsed.failure };
    const info: StreamInfo = parsed.info;
    const last = Math.min(info.last, after + limit);
    const messages: StoredMessage[] = [];
    let next = Math.max(after + 1, info.first);
    const size = () => messages.reduce((bytes, { payload }) => bytes + payload.length, 0);
    while (next <= last && size() < this.#core.batch_bytes()) {
      const before = next;
      const batch = await this.#batch(from.direct_get, next, last - next + 1);
      if ("failure" in batch) {
        return messages.length > 0 ? { read: { info, messages } } : { read_failed: batch.failure };
      }
      for (const message of batch.messages) {
        // Behind a gap or a message that only looks like one the leader is asked.
        if (message?.sequence !== next) break;
        messages.push(message);
        next += 1;
      }
      if (next === before) {
        const single = await this.#single(from.message_get, next);
        if ("failure" in single) return { read_failed: single.failure };
        if (single.message === null) break;
        messages.push(single.message);
        next += 1;
      }
    }
    return { read: { info, messages } };
  }

  /** Where the stream, or its archive, is asked. */
  #at(stream: string): { info: string; direct_get: string; message_get: string } {
    const at = this.#endpoints;
    return stream === at.archive
      ? { info: at.archive_info, direct_get: at.archive_direct_get, message_get: at.archive_message_get }
      : { info: at.stream_info, direct_get: at.direct_get, message_get: at.message_get };
  }

  /** Publishes one message plainly, several as an atomic batch of which only the last one wants an answer. */
  async send({ messages }: Send): Promise<Reply> {
    const subjects = new Set(messages.map((message) => message.subject));
    const before = this.#denied.length;
    const reply = await this.#send(messages);
    const denied = this.#denied.slice(before).find((subject) => subjects.has(subject));
    if (denied !== undefined && !(typeof reply === "object" && "ack" in reply)) return { permission: { subject: denied } };
    return reply;
  }

  async #send(messages: Send["messages"]): Promise<Reply> {
    const most = this.#connection.info?.max_payload ?? Infinity;
    const ready = messages.map(({ subject, headers, payload }) => ({ subject, headers: carried(headers), payload: encoder.encode(payload) }));
    // The number that a stream gives for it: nothing was sent. The client would throw, and what it throws says nothing.
    if (ready.some(({ headers, payload }) => headers.encode().length + payload.length > most)) return { error: { code: 10054 } };
    const last = ready.pop();
    if (last === undefined) return "unknown";
    try {
      for (const { subject, headers, payload } of ready) this.#connection.publish(subject, payload, { headers });
    } catch {
      return "unknown";
    }
    const asked = await this.#ask(last.subject, last.payload, last.headers);
    if ("answer" in asked) return this.#core.parse_reply(asked.answer.data);
    const { failure } = asked;
    if (failure === "no_responders") return failure;
    return typeof failure === "object" && !("code" in failure) ? failure : "unknown";
  }

  async #ask(subject: string, data: string | Uint8Array, headers?: MsgHdrs): Promise<{ answer: Msg } | { failure: Failure }> {
    let heard: ((subject: string) => void) | undefined;
    // A server says nothing to a request that it denies: only the connection hears of it.
    const denied = new Promise<{ failure: Failure }>((resolve) => {
      heard = (other) => {
        if (other === subject) resolve({ failure: { permission: { subject } } });
      };
      this.#asking.add(heard);
    });
    const options = { timeout: ANSWER, ...(headers ? { headers } : {}) };
    const answered = this.#connection.request(subject, data, options).then(
      (answer) => ({ answer }),
      (error: unknown) => ({ failure: this.#failure(error, subject) }),
    );
    try {
      return await Promise.race([answered, denied]);
    } finally {
      if (heard) this.#asking.delete(heard);
    }
  }

  /** May be answered by a copy that is behind: its end proves nothing. */
  async #batch(subject: string, first: number, count: number): Promise<{ messages: (StoredMessage | null)[] } | { failure: Failure }> {
    const inbox = createInbox(this.#endpoints.inbox);
    const messages: (StoredMessage | null)[] = [];
    let isLate = false;
    try {
      const subscription = this.#connection.subscribe(inbox);
      // The whole of it: who answers may fall silent in its middle.
      const late = setTimeout(() => {
        isLate = true;
        subscription.unsubscribe();
      }, BATCH);
      try {
        this.#connection.publish(subject, this.#core.direct_get_request(first, count), { reply: inbox });
        for await (const answer of subscription) {
          const found = this.#core.parse_batched(headerBlock(answer), answer.data);
          if (typeof found === "object" && "end" in found) {
            if (found.end.status === 503 && messages.length === 0) return { failure: "no_responders" };
            break;
          }
          messages.push(found === "doubtful" ? null : found.stored);
          if (messages.length === count) break;
        }
      } finally {
        clearTimeout(late);
        subscription.unsubscribe();
      }
      const isSilent = (isLate || this.isClosed) && messages.length === 0;
      return isSilent ? { failure: this.#failure(undefined, inbox) } : { messages };
    } catch (error) {
      return messages.length > 0 ? { messages } : { failure: this.#failure(error, subject) };
    }
  }

  async #single(subject: string, sequence: number): Promise<{ message: StoredMessage | null } | { failure: Failure }> {
    const asked = await this.#ask(subject, this.#core.message_get_request(sequence));
    return "failure" in asked ? asked : this.#core.parse_message(asked.answer.data);
  }

  #failure(error: unknown, subject: string): Failure {
    if (this.#refused !== undefined) return { authorization: { reason: this.#refused } };
    if (this.#denied.includes(subject)) return { permission: { subject } };
    const cause = error instanceof Error && error.cause !== undefined ? error.cause : error;
    for (const found of [error, cause]) {
      if (found instanceof errors.NoRespondersError) return "no_responders";
      if (found instanceof errors.PermissionViolationError) return { permission: { subject: found.subject } };
      if (found instanceof Error && isRefusal(found)) return { authorization: { reason: found.message } };
    }
    return "unreachable";
  }

  async #watch(): Promise<void> {
    for await (const status of this.#connection.status()) {
      if (status.type !== "error") continue;
      const { error } = status;
      if (error instanceof errors.PermissionViolationError) {
        this.#denied.push(error.subject);
        for (const heard of this.#asking) heard(error.subject);
      } else if (isRefusal(error)) {
        // What such a server still takes is not known: the session is over.
        this.#refused = error.message;
        this.drop();
      }
    }
  }
}

function isRefusal(error: Error): boolean {
  return error instanceof errors.AuthorizationError || error instanceof errors.UserAuthenticationExpiredError;
}

/** Its type knows how long they are on the wire, so that another version of the client does not build without it. */
function carried(list: [string, string][]): MsgHdrsImpl {
  const headers = newHeaders() as MsgHdrsImpl;
  for (const [name, value] of list) headers.append(name, value);
  return headers;
}

/**
 * The headers of a message as they came: the client's own reading leaves out what it does not expect, and throws at names
 * that anybody may have stored. Its type knows them, so that another version of it does not build without them.
 */
function headerBlock(message: Msg): Uint8Array {
  const { _msg, _rdata } = message as MsgImpl;
  return _rdata.subarray(0, Math.max(_msg.hdr, 0));
}
