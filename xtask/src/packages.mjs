// Succeeds when node_modules has what package-lock.json says: npm keeps its own account of what it has installed.
import { readFileSync } from "node:fs";

const packages = (file) => JSON.parse(readFileSync(file, "utf8")).packages;
let installed;
try {
  installed = packages("node_modules/.package-lock.json");
} catch {
  process.exit(1);
}
const wanted = packages("package-lock.json");
const same = (a, b) => a.version === b.version && a.integrity === b.integrity;
// What is optional may be left out: it is for other platforms.
const missing = Object.entries(wanted).some(
  ([path, entry]) => path !== "" && !(installed[path] ? same(installed[path], entry) : entry.optional),
);
const strange = Object.keys(installed).some((path) => !wanted[path]);
process.exit(missing || strange ? 1 : 0);
