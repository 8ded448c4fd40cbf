import { useSyncExternalStore } from "react";
import { ApiError } from "./api";
import { act, type Act, type Action, type AlertState, type Incident } from "./inboxapi";

/** An act that is on its way, or that failed. Until the router has answered, nothing is taken for done. */
export interface Pending {
  action: Action;
  body: Act;
  /** The same for each attempt, so that one that got through unheard counts once. */
  key: string;
  /** undefined while on its way */
  error: ApiError | undefined;
}

/** What the alert will be once the router agrees. */
export const aims: Record<Action, AlertState | undefined> = {
  acknowledge: "acknowledged",
  shelve: "shelved",
  unshelve: "unacknowledged",
  "out-of-service": "out_of_service",
  "in-service": "unacknowledged",
  verdict: undefined,
};

export const doing: Record<Action, string> = {
  acknowledge: "Acknowledging",
  shelve: "Shelving",
  unshelve: "Ending the shelf",
  "out-of-service": "Taking out of service",
  "in-service": "Putting back into service",
  verdict: "Saving the verdict",
};

let pending = new Map<string, Pending>();
const listeners = new Set<() => void>();
const answered = new Set<(a: Incident) => void>();

function changed(change: (m: Map<string, Pending>) => void) {
  pending = new Map(pending);
  change(pending);
  for (const l of listeners) l();
}

/** Told of each alert as the router answered it. */
export function onAnswer(f: (a: Incident) => void): () => void {
  answered.add(f);
  return () => void answered.delete(f);
}

async function attempt(id: string, p: Pending) {
  changed((m) => m.set(id, { ...p, error: undefined }));
  try {
    const now = await act(id, p.action, p.body, p.key);
    for (const f of answered) f(now);
    changed((m) => m.delete(id));
  } catch (e) {
    changed((m) => m.set(id, { ...p, error: e instanceof ApiError ? e : new ApiError(0, "Failed", String(e), "") }));
  }
}

/** Keys need no secrecy; without TLS a browser gives no randomUUID. */
const newKey = () => [...crypto.getRandomValues(new Uint8Array(16))].map((b) => b.toString(16).padStart(2, "0")).join("");

export const begin = (id: string, action: Action, body: Act) => void attempt(id, { action, body, key: newKey(), error: undefined });

export function again(id: string) {
  const p = pending.get(id);
  if (p?.error) void attempt(id, p);
}

export const dismiss = (id: string) => changed((m) => m.delete(id));

export const usePending = () =>
  useSyncExternalStore(
    (l) => {
      listeners.add(l);
      return () => void listeners.delete(l);
    },
    () => pending,
  );

const nameKey = "tocsin.name";

/** Who acts, where the server does not know: as they said last. */
export function storedName(): string {
  try {
    return localStorage.getItem(nameKey) ?? "";
  } catch {
    return "";
  }
}

export function storeName(name: string) {
  try {
    localStorage.setItem(nameKey, name);
  } catch {
    // asked again next time
  }
}
