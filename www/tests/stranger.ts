// Somebody who may append and is less polite than any client: what it stores is what it is told, byte for byte.

import { fromSeed } from "@nats-io/nkeys";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { connect, type Socket } from "node:net";

export class Stranger {
  readonly #socket: Socket;
  #heard = "";

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.on("data", (piece: Buffer) => (this.#heard += piece.toString("latin1")));
  }

  /** Comes in with a creds file. */
  static async connect(url: string, creds: string): Promise<Stranger> {
    const text = await readFile(creds, "utf8");
    const [jwt, seed] = Array.from(text.matchAll(/-+BEGIN [^-]+-+\n([^\n]+)\n/gu), (found) => found[1] ?? "");
    const { hostname, port } = new URL(url);
    const stranger = new Stranger(connect(Number(port), hostname));
    const info = JSON.parse((await stranger.#until(/INFO (\{[^\r]*\}) *\r\n/u))[1] ?? "{}") as { nonce?: string };
    const signed = fromSeed(Buffer.from(seed ?? "")).sign(Buffer.from(info.nonce ?? ""));
    const login = { jwt, sig: Buffer.from(signed).toString("base64url"), headers: true, verbose: false, pedantic: false, lang: "none", version: "0" };
    stranger.#socket.write(`CONNECT ${JSON.stringify(login)}\r\n`);
    await stranger.#settle();
    return stranger;
  }

  /** Publishes with a header block as it is. */
  async publish(subject: string, block: string, payload: string): Promise<void> {
    const [head, body] = [Buffer.from(block), Buffer.from(payload)];
    this.#socket.write(`HPUB ${subject} ${head.length} ${head.length + body.length}\r\n`);
    this.#socket.write(Buffer.concat([head, body, Buffer.from("\r\n")]));
    await this.#settle();
  }

  close(): void {
    this.#socket.destroy();
  }

  /** The server has worked off what it was sent. */
  async #settle(): Promise<void> {
    this.#socket.write("PING\r\n");
    await this.#until(/PONG\r\n/u);
  }

  async #until(pattern: RegExp): Promise<RegExpExecArray> {
    for (;;) {
      const refused = /-ERR [^\r]*/u.exec(this.#heard);
      if (refused) throw new Error(refused[0]);
      const found = pattern.exec(this.#heard);
      if (found) {
        this.#heard = this.#heard.slice(found.index + found[0].length);
        return found;
      }
      await once(this.#socket, "data");
    }
  }
}
