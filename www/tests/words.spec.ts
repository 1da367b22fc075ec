// Plain words, and what typed words mean. No browser is needed.

import { expect, test } from "@playwright/test";
import { permissionsOf, statusWords } from "../src/lib/words";

const none = { pending: 0, held: 0 };
const reason = (text: string) => ({ code: "x", text });

test("each sentence ends with one full stop", () => {
  const two = { pending: 2, held: 1 };
  for (const text of ["the server does not answer", "the server does not answer.", "see that it runs, and that this page may use it."]) {
    for (const counts of [none, two]) {
      for (const open of [false, true]) {
        const said = statusWords({ kind: "waiting", reason: reason(text), open }, counts).text;
        expect(said).not.toContain("..");
        expect(said).toMatch(/\.$/u);
      }
      expect(statusWords({ kind: "blocked", reason: reason(text) }, counts).text).not.toContain("..");
    }
  }
  expect(statusWords({ kind: "waiting", reason: reason("no answer in time"), open: false }, two).text).toBe(
    "Trying again: no answer in time. 2 commands wait to be published. 1 command is held and was not published: see below.",
  );
});

test("losing to others, and a server that is left alone, are said in words", () => {
  expect(statusWords({ kind: "contended", millis: 3_400 }, { pending: 1, held: 0 }).text).toBe(
    "At work. Other writers were always first, for 3 s now: it goes on trying. 1 command waits to be published.",
  );
  expect(statusWords({ kind: "waiting", reason: reason("nobody answers"), open: true }, none)).toEqual({
    tone: "warn",
    text: "The server fails too often and is left alone for a while: nobody answers.",
  });
});

test("a page that is older than its registry says what to do", () => {
  const text = "this registry asks for schema 2, this version knows 1: upgrade";
  const said = statusWords({ kind: "blocked", reason: { code: "newer-schema", text } }, { pending: 1, held: 0 });
  expect(said.tone).toBe("warn");
  expect(said.text).toMatch(/^This page is older than its registry, .*: load a newer one\. This registry asks for schema 2, .* 1 command waits to be published\.$/u);
});

test("nothing typed is everything, and nothing else is", () => {
  expect(permissionsOf("")).toEqual({});
  expect(permissionsOf("  ")).toEqual({});
  expect(permissionsOf("orders.> events.*,a")).toEqual({ allow: ["orders.>", "events.*", "a"] });
  for (const text of [",", ",,,", " , , "]) expect(() => permissionsOf(text), text).toThrow("There is no subject");
});
