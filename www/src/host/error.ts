// What a person is told: a stable code, and words that say what to do.

export class HostError extends Error {
  readonly code: string;

  constructor(code: string, message: string) {
    super(message);
    this.name = "HostError";
    this.code = code;
  }
}

/** Code and words of whatever was thrown. */
export function reasonOf(error: unknown): { code: string; text: string } {
  if (error instanceof Error) {
    const code = (error as { code?: unknown }).code;
    return { code: typeof code === "string" ? code : error.name, text: error.message };
  }
  return { code: "unknown", text: String(error) };
}
