// Plain words for what the machine says.

import type { Command, PermissionList } from "cim-keys-wasm";
import type { Counts, Entry, PumpStatus } from "../host";
import { HostError } from "../host/error";
import type { Ready } from "./session.svelte";

export function statusWords(status: PumpStatus, { pending, held }: Counts): { tone: "quiet" | "calm" | "busy" | "warn"; text: string } {
  const waits = pending === 0 ? "" : pending === 1 ? " 1 command waits to be published." : ` ${pending} commands wait to be published.`;
  const stays = held === 0 ? "" : held === 1 ? " 1 command is held and was not published: see below." : ` ${held} commands are held and were not published: see below.`;
  const left = waits + stays;
  switch (status.kind) {
    case "offline":
      return { tone: left ? "warn" : "quiet", text: `Not connected: choose a creds file to connect.${left}` };
    case "elsewhere":
      return { tone: "quiet", text: `Another tab of this page publishes. This one takes over when that is closed.${left}` };
    case "working":
      return { tone: "busy", text: `At work.${left}` };
    case "contended":
      return { tone: "busy", text: `At work. Other writers were always first, for ${Math.round(status.millis / 1000)} s now: it goes on trying.${left}` };
    case "idle": {
      const where = `Connected${status.server ? ` to nats-server ${status.server}` : ""}`;
      return left ? { tone: "warn", text: `${where}.${left}` } : { tone: "calm", text: `${where}: everything is on the stream.` };
    }
    case "waiting":
      return status.open
        ? { tone: "warn", text: `The server fails too often and is left alone for a while: ${ended(status.reason.text)}${left}` }
        : { tone: "busy", text: `Trying again: ${ended(status.reason.text)}${left}` };
    case "blocked":
      // The machine says to upgrade the program: here that is this page.
      if (status.reason.code === "newer-schema") {
        return { tone: "warn", text: `This page is older than its registry, and shows what it has read without changing anything: load a newer one. ${sentence(status.reason.text)}${left}` };
      }
      return { tone: "warn", text: `${sentence(status.reason.text)}${left}` };
  }
}

/** What a person must know before handing out creds of a user made here. */
export function readyWords(ready: Ready): string {
  switch (ready.state) {
    case "pending":
      return "Unpublished: the server takes its creds already, but no event tells of them yet.";
    case "held":
      return "Held: no event tells of this user, yet the server would take its creds. Hand none out; if you did, have this key revoked.";
    default:
      return "On the stream.";
  }
}

export function commandWords(command: Command): string {
  if ("create_user" in command) return `create user ${command.create_user.name}`;
  return (Object.keys(command)[0] ?? "").replaceAll("_", " ");
}

export function entryWords(entry: Entry): string {
  switch (entry.state) {
    case "confirmed":
      return `on the stream at ${entry.first ?? "?"}`;
    case "held":
      return `held: ${entry.reason?.text ?? ""}. It was not published: make it anew.`;
    case "pending":
      return "pending: on this disk, not on the stream yet";
    default:
      return entry.state;
  }
}

/** What was typed as subjects: everything where nothing was typed, and only there. */
export function permissionsOf(text: string): PermissionList {
  const allow = text.split(/[\s,]+/u).filter((word) => word.length > 0);
  if (allow.length > 0) return { allow };
  if (text.trim().length > 0) throw new HostError("subjects-none", `There is no subject in ${text.trim()}: name some, or leave the field empty for everything.`);
  return {};
}

function sentence(text: string): string {
  return ended(text.charAt(0).toUpperCase() + text.slice(1));
}

/** With one full stop, whether it brings one or not. */
function ended(text: string): string {
  return /[.!?]$/.test(text) ? text : `${text}.`;
}
