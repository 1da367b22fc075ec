/** Public key of an nkey, such as `A…`. */
export type PublicKey = string;
/** UUID with hyphens, lower case. */
export type Uuid = string;
/** SHA-256, base64url. */
export type Digest = string;
/** RFC 3339 in UTC with milliseconds. */
export type Timestamp = string;
/** `operator:O…`, `account:A…`, `user:A…/U…` or `key:…`. */
export type EntityId = string;
/** `header.payload` of a token. */
export type UnsignedToken = string;
export type Kind = "account" | "cluster" | "curve" | "operator" | "server" | "user";
/** Names and values in order. */
export type Headers = [name: string, value: string][];

export interface Version { version: string; schema: number }
export interface Imported { public_key: PublicKey; kind: Kind; token: string | null }
export interface RegistryId { operator: PublicKey; namespace: string }

/** The facts that a host supplies with a command. */
export interface Context {
  now: Timestamp;
  command_id: Uuid;
  attempt: number;
  correlation_id: Uuid;
  causation_id: Uuid;
  actor: string;
  authority: PublicKey;
  keys: PublicKey[];
}

/** Subjects allowed and denied; nothing in `allow` means everything. */
export interface PermissionList { allow?: string[]; deny?: string[] }

/** What a user may do. Missing numbers are 0, which admits nobody: -1 is unlimited. */
export interface UserRights {
  pub: PermissionList;
  sub: PermissionList;
  resp?: { max: number; ttl: number };
  src?: string[];
  times?: { start?: string; end?: string }[];
  times_location?: string;
  subs?: number;
  data?: number;
  payload?: number;
  bearer_token?: boolean;
  proxy_required?: boolean;
  allowed_connection_types?: string[];
}

/** Limits of an account, as its token has them. */
export type AccountLimits = Record<string, unknown>;

export type Command =
  | { found_registry: { name: string } }
  | { create_account: { name: string; limits: AccountLimits } }
  | {
      create_user: {
        account: PublicKey;
        name: string;
        /** Null where the authority is a scoped key, whose role has them. */
        rights: UserRights | null;
        /** Unix seconds; 0 is never. */
        expires: number;
        tags: string[];
        credentials: boolean;
      };
    }
  | { set_permissions: { account: PublicKey; user: PublicKey; rights: UserRights } }
  | { revoke_user: { account: PublicKey; user: PublicKey } }
  | { generate_credentials: { account: PublicKey; user: PublicKey; expires: number } }
  | {
      generate_key: {
        kind: Kind;
        owner: PublicKey | null;
        label: string | null;
        role: { name: string; template: UserRights } | null;
      };
    }
  | { revoke_key: { key: PublicKey; owner: PublicKey | null } }
  | {
      void_command: {
        command_id: Uuid;
        /** Whose signing key vouches, for its own attempts alone; null where the operator does, for all of them. */
        account: PublicKey | null;
        /** Whose creds or token were handed out for it; `issued_at` in Unix seconds. */
        revoke: { account: PublicKey; user: PublicKey; issued_at: number } | null;
      };
    }
  | { raise_schema: { level: number } };

export type Lookup = { entity: EntityId } | { name: { parent: PublicKey; name: string } } | { command: Uuid };

export interface Issued { jwt: UnsignedToken; signature: string | null }
interface Times { created: Timestamp; updated: Timestamp }
export type Entity =
  /** `schema` is the level in force; missing while it is 1. */
  | { operator: { key: PublicKey; token: Issued; schema?: number } & Times }
  | { account: { key: PublicKey; token: Issued } & Times }
  | {
      user: {
        account: PublicKey;
        key: PublicKey;
        token: Issued;
        revoked_at: number | null;
        credentials: boolean;
      } & Times;
    }
  | {
      key: {
        key: PublicKey;
        owner: PublicKey | null;
        label: string | null;
        revoked_at: number | null;
      } & Times;
    };

/** What used a command id up: the admitted command of this id, or one that voided it. */
export interface Recorded {
  command_id: Uuid;
  attempt: number;
  command_hash: Digest;
  draft_hash: Digest;
  authority: PublicKey;
  first: number;
  last: number;
  /** Authorities whose attempts are void, the operator's key for all; missing where the command itself was admitted. */
  voided?: PublicKey[];
}

/** Answers to look-ups; null where there is none. */
export interface Facts {
  registry: RegistryId;
  entities: [EntityId, Entity | null][];
  names: [parent: PublicKey, name: string, holder: EntityId | null][];
  commands: [Uuid, Recorded | null][];
}

/** An event as it goes over the wire. */
export interface Envelope { subject: string; headers: Headers; payload: string }
/** An answer to a request for many messages. Of a doubtful one `parse_message` tells; behind `end` none follows. */
export type Batched = { stored: StoredMessage } | "doubtful" | { end: { status: number } };
/** A message as it is stored on the stream; payload in base64. */
export interface StoredMessage { sequence: number; subject: string; headers: Headers; payload: string; time?: string }

/** A command that is not on the stream yet. */
export interface Pending {
  /** Place in the journal, ascending; the store gives it. */
  position: number;
  command: Command;
  context: Context;
  facts_hash: Digest;
  draft_hash: Digest;
  envelopes: Envelope[];
  messages_hash: Digest | null;
}

/** Whose signature is wanted, over which bytes (base64). */
export interface SigningRequest { public_key: PublicKey; bytes: string }

/** A completed draft, ready for the journal: all of it is written in one transaction. */
export interface Decision {
  command_id: Uuid;
  command_hash: Digest;
  draft_hash: Digest;
  messages_hash: Digest;
  pending: Pending;
  /** The entities that it changes, as it leaves them. */
  entities: Entity[];
  /** Whole tokens, in the order of the events that bring them. */
  tokens: string[];
}

/** A command whose messages can be sent. */
export interface Ready {
  /** Place in the journal, ascending. */
  position: number;
  command_id: Uuid;
  attempt: number;
  command_hash: Digest;
  draft_hash: Digest;
  authority: PublicKey;
  envelopes: Envelope[];
  messages_hash: Digest | null;
}

export interface Reason { code: string; text: string }
export interface StreamIdentity { name: string; created: string }
/** How far a journal has come. Kept as it is. */
export interface Progress {
  stream: StreamIdentity | null;
  head: number;
  head_digest: Digest | null;
  mark: { sequence: number; time: string; chain: Digest } | null;
  assembler: unknown;
  recheck_due: boolean;
  rechecked: number;
  archive: StreamIdentity | null;
  archive_missing: boolean;
  /** The schema level in force at `head`; missing while it is 1. */
  schema?: number;
}
export interface StreamInfo {
  identity: StreamIdentity;
  config: unknown;
  first: number;
  last: number;
  first_age: number | null;
  server: [number, number, number] | null;
}
export type State = "pending" | "held" | "confirmed" | "settled" | "dropped";
/** What the journal knows of one of its commands. */
export interface Own {
  command_id: Uuid;
  position: number;
  state: State;
  draft_hash: Digest;
  command_hash: Digest;
  authority: PublicKey;
}
export interface Hold { command_id: Uuid; reason: Reason }
export interface Anomaly { sequences: number[]; reason: Reason }

export type Failure =
  | "unreachable"
  | "no_responders"
  | "stream_missing"
  | { permission: { subject: string } }
  | { authorization: { reason: string } }
  | { code: { code: number } };
export type Reply =
  | { ack: { stream: string; sequence: number; duplicate: boolean } }
  | { error: { code: number } }
  | "no_responders"
  | "unknown"
  | { permission: { subject: string } }
  | { authorization: { reason: string } };
export type Persisted = "ok" | "stale" | { failed: { reason: string } };

/** What happened; see `sync::Input` of the core. */
export type Input =
  | "tick"
  | { read: { info: StreamInfo; messages: StoredMessage[] } }
  | { read_failed: Failure }
  | { facts: { facts: Facts; own: Own[] } }
  | { loaded: { commands: Pending[]; more: boolean; held_revocations: Uuid[]; revision: number } }
  | { gathered: { commands: Ready[]; held_revocations: Uuid[] } }
  | { persisted: Persisted }
  | { redecided: { command_id: Uuid; resolved: boolean } }
  | { reply: Reply }
  | { tail: StoredMessage }
  | "disconnected";

export interface Outgoing { subject: string; headers: Headers; payload: string }
/** What becomes of what pending commands left: nothing; that of the first ones is the state at `head` now; all of it anew. */
export type Overlay = "keep" | { settle: { position: number } } | { replace: { until: number | null; entities: [position: number, Entity][] } };
/** An own command that is on the stream: which attempt, as the journal has it, and the sequence of its first event. */
export interface Landed { command_id: Uuid; draft_hash: Digest; first: number }
/** One transaction. */
export interface Persist {
  expect_head: number;
  expect_revision: number | null;
  progress: Progress;
  entities: Entity[];
  recorded: Recorded[];
  messages: StoredMessage[];
  anomalies: Anomaly[];
  /** Own commands that are on the stream. Where the journal has another attempt at one of them by now, all of it is stale. */
  confirmed: Landed[];
  held: Hold[];
  rechecked: [Uuid, Digest][];
  overlay: Overlay;
}
export type Status =
  | "idle"
  | "working"
  /** Other writers were always first, for so long. */
  | { contended: { millis: number } }
  /** `open`: the server fails too often to be asked more. */
  | { waiting: { reason: Reason; open: boolean; millis: number } }
  | { blocked: { reason: Reason } };

/** What a host must do; see `sync::Output` of the core. */
export type Output =
  | { read_from: { stream: string; after: number; limit: number } }
  | { load_facts: { scopes: Lookup[] } }
  | { load: { after: number; limit: number } }
  | { gather: { after: number; messages: number } }
  | { persist: Persist }
  | { send: { messages: Outgoing[]; batch: boolean } }
  | { follow: { on: boolean } }
  | "drop"
  | { redecide: { command_id: Uuid } }
  | { wait: { millis: number } }
  | { report: Status };

export interface Endpoints {
  stream_info: string;
  direct_get: string;
  message_get: string;
  archive: string;
  archive_info: string;
  archive_direct_get: string;
  archive_message_get: string;
  log: string;
  inbox: string;
}

export interface EntityIndex { id: EntityId; parent: PublicKey | null; name: string; holds: boolean }
export interface SigningKeyView { key: PublicKey; role: string | null; rights: UserRights | null }
export interface EntityView {
  id: EntityId;
  kind: "operator" | "account" | "user" | "key";
  key: PublicKey;
  name: string;
  /** A user's account, or the owner of a key. */
  account: PublicKey | null;
  issuer: PublicKey | null;
  issued_at: number | null;
  expires: number | null;
  revoked_at: number | null;
  rights: UserRights | null;
  signing_keys: SigningKeyView[];
  tags: string[];
  created: Timestamp;
  updated: Timestamp;
}
export interface MessageView {
  sequence: number;
  /** `entity.operation` */
  type: string;
  entity: PublicKey;
  name: string | null;
  time: Timestamp;
  event_id: Uuid;
  correlation_id: Uuid;
  causation_id: Uuid;
  command_id: Uuid;
  actor: string;
  authority: PublicKey;
  index: number;
  count: number;
}
/** What a token says, by the names that JWTs and NATS give: times in Unix seconds. */
export interface Claims {
  exp?: number;
  iat?: number;
  iss: PublicKey;
  name?: string;
  nbf?: number;
  sub: PublicKey;
  nats: Record<string, unknown>;
  [other: string]: unknown;
}
export interface TokenView {
  kind: Kind;
  claims: Claims;
  /** The first rule that the claims break: code and words. */
  broken: [code: string, text: string] | null;
}

export interface BundledCommand { command: Command; context: Context; draft_hash: Digest; envelopes: Envelope[] }
export interface Bundle { registry: RegistryId; commands: BundledCommand[] }
