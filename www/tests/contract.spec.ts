// The contract of whoever drives the sync machine, played by the page: the scenarios of tests/contract/scenarios.json, each
// with a server and browser contexts of its own. The player and its judge are `stage`: it orders, this does.

import { expect, test } from "@playwright/test";
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { Player, type Order } from "./player";

interface Scenario {
  name: string;
  for?: { drivers: string[] };
}

type Last = { do: "end" } | { do: "fail"; why: string };

const here = (path: string) => fileURLToPath(new URL(path, import.meta.url));
const program = process.env["STAGE_BIN"] ?? here("../../target/debug/stage");
const all = JSON.parse(readFileSync(here("../../tests/contract/scenarios.json"), "utf8")) as Scenario[];

for (const { name } of all.filter((scenario) => scenario.for?.drivers.includes("page") ?? true)) {
  test(`contract: ${name}`, async ({ browser }) => {
    const stage = spawn(program, [name], { stdio: ["pipe", "pipe", "pipe"] });
    let talk = "";
    stage.stderr.on("data", (piece: Buffer) => (talk += piece.toString()));
    const ended = new Promise<number | null>((resolve) => stage.once("exit", resolve));
    const player = new Player(browser);
    let last: Last | undefined;
    try {
      for await (const line of createInterface({ input: stage.stdout })) {
        const order = JSON.parse(line) as Order | Last;
        if (order.do === "end" || order.do === "fail") {
          last = order;
          break;
        }
        const answer = await player.perform(order).then(
          (ok) => ({ ok }),
          (error: unknown) => ({ error: error instanceof Error ? error.message : String(error) }),
        );
        stage.stdin.write(`${JSON.stringify(answer)}\n`);
      }
    } finally {
      await player.close();
      stage.stdin.end();
    }
    const code = await ended;
    expect(last, talk).toEqual({ do: "end" });
    expect(code, talk).toBe(0);
  });
}
