// A private system for one test: `cim-keys up` with a real nats-server, on loopback, in a folder of its own.

import { expect, test as base, type Page } from "@playwright/test";
import { execFile, spawn, type ChildProcess } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

const run = promisify(execFile);
const program = process.env["CIM_KEYS_BIN"] ?? fileURLToPath(new URL("../../target/debug/cim-keys", import.meta.url));

export interface Ready {
  page_url: string;
  server_url: string;
  websocket_url: string;
  creds: Record<string, string>;
  signing_key: string;
  data_dir: string;
}

export class System {
  readonly ready: Ready;
  readonly #child: ChildProcess;

  private constructor(ready: Ready, child: ChildProcess) {
    this.ready = ready;
    this.#child = child;
  }

  /** Starts one, or starts the one of a folder again. */
  static async up(folder: string, more: string[] = []): Promise<System> {
    const words = ["up", "--data", folder, "--output", "json", ...more];
    const child = spawn(program, words, { stdio: ["ignore", "pipe", "pipe"] });
    let talk = "";
    child.stderr.on("data", (piece: Buffer) => (talk += piece.toString()));
    const line = await new Promise<string>((resolve, reject) => {
      createInterface({ input: child.stdout }).once("line", resolve);
      child.once("exit", (code) => reject(new Error(`cim-keys up ended with ${code}: ${talk}`)));
    });
    return new System(JSON.parse(line) as Ready, child);
  }

  async down(): Promise<void> {
    const ended = new Promise((resolve) => this.#child.once("exit", resolve));
    this.#child.kill("SIGINT");
    await ended;
  }

  /** Runs the program on the same registry. */
  async cli(...words: string[]): Promise<string> {
    const { stdout } = await run(program, ["--data", this.ready.data_dir, ...words], {
      env: { ...process.env, NATS_URL: this.ready.server_url, NATS_CREDS: this.ready.creds["host"] ?? "" },
    });
    return stdout;
  }
}

/** Connects with async-nats and a creds file, and hears what it says. */
export async function converse(system: System, creds: string, subject: string): Promise<string> {
  const client = process.env["CONVERSE_BIN"] ?? fileURLToPath(new URL("../../target/debug/converse", import.meta.url));
  return (await run(client, [system.ready.server_url, creds, subject])).stdout.trim();
}

export const test = base.extend<{ folder: string; system: System }>({
  // eslint-disable-next-line no-empty-pattern
  folder: async ({}, use) => {
    const folder = await mkdtemp(join(tmpdir(), "cim-keys-page-"));
    await use(folder);
    await rm(folder, { recursive: true, force: true });
  },
  system: async ({ folder }, use) => {
    const system = await System.up(join(folder, "system"));
    await use(system);
    await system.down();
  },
});

export const status = (page: Page) => page.getByTestId("status");
export const entries = (page: Page) => page.getByTestId("journal").locator("li");

/** The command that made a user. */
export const entry = (page: Page, name: string) => entries(page).filter({ hasText: `create user ${name}` });

export async function connect(page: Page, system: System, role = "browser"): Promise<void> {
  const field = page.getByLabel("Creds file of the browser role");
  await expect(field).toBeEnabled();
  await field.setInputFiles(system.ready.creds[role] ?? "");
  await expect(status(page)).toHaveAttribute("data-kind", "idle");
}

export async function bringKey(page: Page, system: System): Promise<void> {
  const field = page.getByLabel("Signing key of the account", { exact: true });
  await expect(field).toBeEnabled();
  await field.setInputFiles(system.ready.signing_key);
  await expect(page.getByTestId("account")).toHaveText("APP");
}

export async function make(page: Page, name: string): Promise<void> {
  await page.getByLabel("Name").fill(name);
  await page.getByRole("button", { name: "Make the user" }).click();
  await expect(page.getByTestId("said")).toContainText(name);
}

export { expect };
