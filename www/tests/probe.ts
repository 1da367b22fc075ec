// The page's host as a module by itself, served from the page's own address: tests drive it without the page.

import type { Page } from "@playwright/test";
import { fileURLToPath } from "node:url";
import { build } from "vite";

const root = fileURLToPath(new URL("../", import.meta.url));

let built: Promise<string> | undefined;

/** The host as one file. What it loads beside is what the page loads. */
function bundle(): Promise<string> {
  built ??= (async () => {
    const output = await build({
      root,
      configFile: `${root}vite.config.ts`,
      logLevel: "error",
      build: {
        write: false,
        rollupOptions: { input: `${root}src/host/index.ts`, preserveEntrySignatures: "strict", output: { format: "es" } },
      },
    });
    for (const piece of "output" in output ? output.output : []) if (piece.type === "chunk" && piece.isEntry) return piece.code;
    throw new Error("the host was not built");
  })();
  return built;
}

/** Where the page may import it from. */
export async function probe(page: Page): Promise<string> {
  const path = "/probe.js";
  const body = await bundle();
  await page.route(`**${path}`, (route) => route.fulfill({ contentType: "text/javascript", body }));
  return path;
}
