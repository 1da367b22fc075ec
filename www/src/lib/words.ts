// Plain words for what the machine says.

import type { Command } from "cim-keys-wasm";
import type { Entry, PumpStatus } from "../host";

export function statusWords(status: PumpStatus, waiting: number): { tone: "quiet" | "calm" | "busy" | "warn"; text: string } {
  const left = waiting === 0 ? "" : waiting === 1 ? " 1 command waits to be published." : ` ${waiting} commands wait to be published.`;
  switch (status.kind) {
    case "offline":
      return { tone: waiting ? "warn" : "quiet", text: `Not connected: choose a creds file to connect.${left}` };
    case "elsewhere":
      return { tone: "quiet", text: `Another tab of this page publishes. This one takes over when that is closed.${left}` };
    case "working":
      return { tone: "busy", text: `Connected, at work.${left}` };
    case "idle":
      return { tone: "calm", text: `Connected${status.server ? ` to nats-server ${status.server}` : ""}: everything is on the stream.` };
    case "waiting":
      return { tone: "busy", text: `Trying again: ${status.reason.text}.${left}` };
    case "blocked":
      return { tone: "warn", text: `${sentence(status.reason.text)}${left}` };
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

function sentence(text: string): string {
  const begun = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(begun) ? begun : `${begun}.`;
}
