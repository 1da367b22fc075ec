// Stands where the NATS client takes its own signing along, which asks for seeds in JavaScript: here they are in the
// core's memory alone, and `nats` hands the client signatures.

import { HostError } from "./error";

function none(): never {
  throw new HostError("internal", "This page's client signs with the core alone: load the page again.");
}

export const fromSeed = none;
export const encode = none;
