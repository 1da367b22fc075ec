// What happens to the appends of one browser context on their way to the server.

import { expect, type BrowserContext, type WebSocketRoute } from "@playwright/test";

export type Fault = "lose-answer" | "cut-before" | "cut-after" | "die" | "hold";

type Data = string | Buffer;

/** A publish of an event; the inbox of its answer, where it asks for one. Of a batch only the last one does. */
const EVENT = /PUB cowboyai\.security\.keys\.\S+ /u;
const ASKING = /PUB cowboyai\.security\.keys\.\S+ (_INBOX\S+) \d/u;

const textOf = (data: Data) => (typeof data === "string" ? data : data.toString("latin1"));

export class Wire {
  /** The process dies where a fault says so. */
  onDeath: () => void = () => undefined;
  #armed: Fault | undefined;
  #held: (() => void)[] | undefined;
  #met = 0;

  static async of(context: BrowserContext): Promise<Wire> {
    const wire = new Wire();
    await context.routeWebSocket(/.*/u, (socket) => wire.#route(socket));
    return wire;
  }

  arm(fault: Fault): void {
    this.#armed = fault;
  }

  /** What was armed and has not happened. */
  get unmet(): Fault | undefined {
    return this.#armed;
  }

  /** Resolves once an append is held back. */
  async holds(): Promise<void> {
    const met = this.#met;
    await expect.poll(() => this.#held !== undefined || this.#met > met, { intervals: [20, 50] }).toBe(true);
  }

  letGo(): void {
    const held = this.#held ?? [];
    this.#held = undefined;
    for (const send of held) send();
  }

  #route(socket: WebSocketRoute): void {
    const server = socket.connectToServer();
    // The inbox of an answer that this page must not hear, and what then happens to it.
    let unheard: { inbox: string; then: () => void } | undefined;
    let held: (() => void)[] | undefined;
    const cut = () => void socket.close({ code: 4000 });
    socket.onMessage((data) => {
      const text = textOf(data);
      const send = () => server.send(data);
      if (held !== undefined && held === this.#held) {
        held.push(send);
        return;
      }
      const fault = EVENT.test(text) ? this.#armed : undefined;
      const inbox = ASKING.exec(text)?.[1];
      if (fault === "hold") {
        held = [send];
        this.#held = held;
        // The page may give this connection up: what is held back goes on all the same.
        socket.onClose(() => undefined);
        this.#meet();
        return;
      }
      if (fault === "cut-before") {
        this.#meet();
        cut();
        void server.close();
        return;
      }
      if (fault !== undefined && inbox !== undefined) {
        const then = { "lose-answer": () => undefined, "cut-after": cut, die: () => this.onDeath() }[fault];
        unheard = { inbox, then };
        this.#meet();
      }
      send();
    });
    server.onMessage((data) => {
      if (unheard !== undefined && textOf(data).includes(`MSG ${unheard.inbox} `)) {
        const { then } = unheard;
        unheard = undefined;
        then();
        return;
      }
      socket.send(data);
    });
  }

  #meet(): void {
    this.#armed = undefined;
    this.#met += 1;
  }
}
