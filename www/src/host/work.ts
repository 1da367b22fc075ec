// What is under way for one sync machine: one question, one append, the log. What came back waits in one line.

import type { Failure, Input, Output, Reason } from "cim-keys-wasm";
import { reasonOf } from "./error";
import type { Link } from "./nats";

type ReadFrom = Extract<Output, { read_from: unknown }>["read_from"];
type Send = Extract<Output, { send: unknown }>["send"];

export class Work {
  readonly #connect: () => Promise<Link>;
  readonly #wake: () => void;
  /** Each with the connection that it came over: what an old one said is not handed in behind its end. */
  readonly #line: { input: Input; of?: Link }[] = [];
  #link: Link | undefined;
  /** A read, and an append, whose answer is waited for. */
  #question: symbol | undefined;
  #flight: symbol | undefined;
  #pause: ReturnType<typeof setTimeout> | undefined;
  #follows = false;
  #isListening = false;
  #trouble: Reason | undefined;
  #broken: { error: unknown } | undefined;

  /** `wake` is called when something has come back. */
  constructor(connect: () => Promise<Link>, wake: () => void) {
    this.#connect = connect;
    this.#wake = wake;
  }

  /** Whether anything is under way that will bring an input, or one is there. */
  get isBusy(): boolean {
    return this.#line.length > 0 || this.#question !== undefined || this.#flight !== undefined || this.#pause !== undefined;
  }

  get server(): string {
    return this.#link?.server ?? "";
  }

  /** The connection's own words, where the machine only knows that it failed. */
  get trouble(): Reason | undefined {
    return this.#trouble;
  }

  /** What came back first, if anything has. */
  take(): Input | undefined {
    if (this.#broken) throw this.#broken.error;
    for (;;) {
      const first = this.#line.shift();
      if (first === undefined || first.of === undefined || first.of === this.#link) return first?.input;
    }
  }

  push(input: Input, of?: Link): void {
    this.#line.push(of ? { input, of } : { input });
    this.#wake();
  }

  pause(millis: number): void {
    this.endPause();
    this.#pause = setTimeout(() => this.hurry(), millis);
  }

  endPause(): void {
    clearTimeout(this.#pause);
    this.#pause = undefined;
  }

  /** Ends a pause before its time. */
  hurry(): void {
    if (this.#pause === undefined) return;
    this.endPause();
    this.push("tick");
  }

  /** Listens to the log on this connection, or once there is one. */
  follow(on: boolean): void {
    this.#follows = on;
    this.#isListening = false;
    this.#link?.unfollow();
  }

  /** Reads, on a new connection where there is none. */
  read(from: ReadFrom): void {
    if (this.#link?.isClosed) {
      // The machine must know: behind a new connection it looks at the message at `head` again.
      this.#lose();
      return;
    }
    const question = (this.#question = Symbol());
    this.#read(from, question).then(
      (input) => {
        if (this.#question !== question) return;
        this.#question = undefined;
        this.push(input, this.#link);
      },
      (error: unknown) => this.#break(error),
    );
  }

  async #read(from: ReadFrom, question: symbol): Promise<Input> {
    if (this.#link === undefined) {
      try {
        const link = await this.#connect();
        if (this.#question !== question) {
          link.drop();
          return "disconnected";
        }
        this.#link = link;
        this.#trouble = undefined;
        void link.ended().then(() => {
          // What was dropped here is no news.
          if (this.#link === link) this.#lose();
        });
      } catch (error) {
        this.#trouble = reasonOf(error);
        return { read_failed: failureOf(this.#trouble) };
      }
    }
    const link = this.#link;
    if (this.#follows && !this.#isListening) {
      // From before the first look on: nothing falls between.
      this.#isListening = true;
      link.follow((message) => this.push({ tail: message }, link));
    }
    return link.read(from);
  }

  /** Publishes. What else is asked goes on meanwhile. */
  send(send: Send): void {
    const link = this.#link;
    if (link === undefined || link.isClosed) {
      this.#lose();
      return;
    }
    const flight = (this.#flight = Symbol());
    link.send(send).then(
      (reply) => {
        if (this.#flight !== flight) return;
        this.#flight = undefined;
        this.push({ reply }, link);
      },
      (error: unknown) => this.#break(error),
    );
  }

  /** Ends the connection with all that is queued in it. */
  drop(): void {
    const link = this.#link;
    this.#link = undefined;
    this.#question = this.#flight = undefined;
    this.#follows = this.#isListening = false;
    link?.drop();
  }

  /** The connection has ended by itself. A pause is the machine's, not the connection's. */
  #lose(): void {
    this.drop();
    this.push("disconnected");
  }

  #break(error: unknown): void {
    this.#broken ??= { error };
    this.#wake();
  }
}

function failureOf({ code, text }: Reason): Failure {
  const isRefused = ["authorization", "creds-expired", "key-missing"].includes(code);
  return isRefused ? { authorization: { reason: text } } : "unreachable";
}
