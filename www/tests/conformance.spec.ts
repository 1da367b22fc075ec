// Equal inputs give equal bytes in Chromium as well: the module that the page uses against the one file of vectors.

import { createServer } from "node:http";
import { readFile } from "node:fs/promises";
import { expect, test } from "@playwright/test";

const root = new URL("../../", import.meta.url);
const files: Record<string, { path: string; kind: string }> = {
  "/conformance.mjs": { path: "host-wasm/tests/conformance.mjs", kind: "text/javascript" },
  "/cim_keys_wasm.js": { path: "target/wasm-pkg/web/cim_keys_wasm.js", kind: "text/javascript" },
  "/cim_keys_wasm_bg.wasm": { path: "target/wasm-pkg/web/cim_keys_wasm_bg.wasm", kind: "application/wasm" },
  "/vectors.json": { path: "core/tests/data/conformance.json", kind: "application/json" },
};

test("every byte is the same in Chromium", async ({ page }) => {
  const server = createServer((request, response) => {
    if (request.url === "/") return void response.writeHead(200, { "content-type": "text/html" }).end("<!doctype html>");
    const file = files[request.url ?? ""];
    if (!file) return void response.writeHead(404).end();
    void readFile(new URL(file.path, root)).then((bytes) => response.writeHead(200, { "content-type": file.kind }).end(bytes));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("no port");
  try {
    await page.goto(`http://127.0.0.1:${address.port}/`);
    const differences = await page.evaluate(async () => {
      const load = (path: string) => import(path) as Promise<Record<string, unknown>>;
      const api = await load("/cim_keys_wasm.js");
      const module_or_path = await (await fetch("/cim_keys_wasm_bg.wasm")).arrayBuffer();
      await (api["default"] as (from: { module_or_path: ArrayBuffer }) => Promise<unknown>)({ module_or_path });
      const { differences } = (await load("/conformance.mjs")) as { differences: (api: unknown, vectors: unknown) => string[] };
      const vectors = (await (await fetch("/vectors.json")).json()) as { steps: { context: { actor: string } }[] };
      const found = differences(api, vectors);
      const [first] = vectors.steps;
      if (first) first.context.actor = "somebody else";
      return { found, changed: differences(api, vectors).length };
    });
    expect(differences.found).toEqual([]);
    expect(differences.changed).toBeGreaterThan(0);
  } finally {
    server.close();
  }
});
