// Runs a wasip1 program in Node with stdin, stdout, stderr and its arguments, and nothing else: no folder, no environment.
// WASI preview 1 has no network.
//
//   node sandbox/run.mjs PROGRAM.wasm ARGUMENT… < plan.json
import { readFile } from "node:fs/promises";
import { WASI } from "node:wasi";

const [file, ...rest] = process.argv.slice(2);
if (file === undefined) {
  console.error("usage: node run.mjs PROGRAM.wasm ARGUMENT…");
  process.exit(2);
}
const wasi = new WASI({ version: "preview1", args: [file, ...rest], env: {}, preopens: {}, returnOnExit: true });
const module = await WebAssembly.compile(await readFile(file));
process.exitCode = wasi.start(await WebAssembly.instantiate(module, wasi.getImportObject()));
