#!/usr/bin/env -S node --no-warnings --single-threaded
// Runs one wasm32-wasip1 program (a test binary): the runner that .cargo/config.toml names.
// One thread: the background threads of Node 20 end the process with SIGSEGV after a program that grew its memory much.
import { readFile } from "node:fs/promises";
import { WASI } from "node:wasi";

const [path, ...args] = process.argv.slice(2);
const wasi = new WASI({ version: "preview1", args: [path, ...args], env: {}, returnOnExit: true });
const module = await WebAssembly.compile(await readFile(path));
process.exitCode = wasi.start(await WebAssembly.instantiate(module, wasi.getImportObject()));
