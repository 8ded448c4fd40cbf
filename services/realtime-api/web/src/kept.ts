import type { Alert, Row } from "./model";

// The last state is kept in the browser, so that the page shows it, with its age, when it is opened while the server is away.
export interface Kept {
  atMs: number;
  rows: Row[];
  alerts: Alert[];
}

const cache = "tocsin-state";
const address = "/kept-state";

export async function keepState(k: Kept): Promise<void> {
  if (!("caches" in window)) return;
  try {
    await (await caches.open(cache)).put(address, new Response(JSON.stringify(k), { headers: { "Content-Type": "application/json" } }));
  } catch {
    // no room, or forbidden: then there is nothing to show without a connection
  }
}

export async function keptState(): Promise<Kept | undefined> {
  if (!("caches" in window)) return undefined;
  try {
    const r = await caches.match(address, { cacheName: cache });
    return r ? ((await r.json()) as Kept) : undefined;
  } catch {
    return undefined;
  }
}

/** On signing out nothing of what was seen stays. */
export async function forgetState(): Promise<void> {
  if ("caches" in window) await caches.delete(cache);
}
