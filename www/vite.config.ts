import { svelte } from "@sveltejs/vite-plugin-svelte";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { defineConfig } from "vite";

const built = fileURLToPath(new URL("../target/wasm-pkg/web/", import.meta.url));

export default defineConfig({
  plugins: [svelte()],
  resolve: {
    alias: {
      "cim-keys-wasm": `${built}cim_keys_wasm.js`,
      "@nats-io/nkeys": fileURLToPath(new URL("src/host/no-nkeys.ts", import.meta.url)),
    },
  },
  define: {
    // What the page instantiates is what was built with it, or nothing.
    __WASM_SHA256__: JSON.stringify(
      createHash("sha256").update(readFileSync(`${built}cim_keys_wasm_bg.wasm`)).digest("hex"),
    ),
  },
  build: {
    target: "es2023",
    // Everything is a file of its own: the content security policy knows no inline anything.
    assetsInlineLimit: 0,
    modulePreload: false,
  },
});
