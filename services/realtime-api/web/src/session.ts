import { useSyncExternalStore } from "react";
import { ApiError, get, onUnauthorized, send } from "./api";

/** Who looks, and what there is to look at; see openapi.yaml. */
export interface Session {
  authenticated: boolean;
  anonymous: boolean;
  name: string;
  equipment: string[];
  all_machines: boolean;
  /** Whether one can sign in at all. */
  login: boolean;
  expires_at_ms: number;
  features: Record<string, boolean>;
}

export type Known = { state: "asking" } | { state: "unreachable" } | { state: "stranger" } | { state: "known"; session: Session };

/** A page that hangs on an answer shows nothing: after this long it shows what was kept. */
const patienceMs = 4000;

let known: Known = { state: "asking" };
const listeners = new Set<() => void>();

function now(k: Known) {
  known = k;
  for (const l of listeners) l();
}

const take = (s: Session) => now(s.authenticated ? { state: "known", session: s } : { state: "stranger" });

/** Asks the server who we are. Away, what was known stays. */
export async function refreshSession(): Promise<void> {
  try {
    take(await get<Session>("/v1/session", {}, AbortSignal.timeout(patienceMs)));
  } catch (e) {
    if (e instanceof ApiError && e.status === 401) now({ state: "stranger" });
    else if (known.state !== "known") now({ state: "unreachable" });
  }
}

export async function signIn(token: string): Promise<void> {
  take(await send<Session>("POST", "/v1/session", { token }));
}

export async function signOut(): Promise<void> {
  await send("DELETE", "/v1/session");
  await refreshSession();
}

onUnauthorized(() => {
  if (known.state === "known") now({ state: "stranger" });
});

export const currentSession = (): Known => known;

export function onSession(l: () => void): () => void {
  listeners.add(l);
  return () => void listeners.delete(l);
}

export const useSession = (): Known => useSyncExternalStore(onSession, () => known);

/** Whether a service stands behind the page: "router", "history", "models". */
export function useFeature(name: string): boolean {
  const k = useSession();
  return k.state === "known" && k.session.features[name] === true;
}
