import { get, send } from "./api";

export interface PushKey {
  receiver: string;
  public_key: string;
}

interface Subscription {
  id: string;
  receiver: string;
}

export interface PushState {
  /** Why pages cannot be pushed here; empty when they can. */
  why: string;
  keys: PushKey[];
  mine: Subscription | undefined;
  others: number;
}

const key = "tocsin.push";

/** Which of the router's subscriptions is this browser's. */
function remembered(): string {
  try {
    return localStorage.getItem(key) ?? "";
  } catch {
    return "";
  }
}

function remember(id: string) {
  try {
    if (id) localStorage.setItem(key, id);
    else localStorage.removeItem(key);
  } catch {
    // storage is forbidden: the subscription counts as another device's
  }
}

export async function pushState(): Promise<PushState> {
  const none = { keys: [], mine: undefined, others: 0 };
  if (!("serviceWorker" in navigator) || !("PushManager" in window) || !window.isSecureContext) {
    return { ...none, why: "This browser cannot be sent pages here. It needs HTTPS; on an iPhone, install the page first." };
  }
  const { keys } = await get<{ keys: PushKey[] }>("/v1/router/push/keys");
  if (!keys?.length) return { ...none, why: "No receiver of the routing file has a web_push configuration." };
  if (Notification.permission === "denied") return { ...none, why: "Notifications of this page are blocked in the browser's settings." };
  const { subscriptions } = await get<{ subscriptions: Subscription[] }>("/v1/router/push/subscriptions");
  const here = await (await navigator.serviceWorker.ready).pushManager.getSubscription();
  const mine = here ? subscriptions.find((s) => s.id === remembered()) : undefined;
  return { why: "", keys, mine, others: subscriptions.length - (mine ? 1 : 0) };
}

export async function subscribePush(k: PushKey): Promise<void> {
  if ((await Notification.requestPermission()) !== "granted") throw new Error("The browser was not allowed to show notifications.");
  const { pushManager } = await navigator.serviceWorker.ready;
  // One made with another key cannot be used with this one.
  await (await pushManager.getSubscription())?.unsubscribe();
  const s = await pushManager.subscribe({ userVisibleOnly: true, applicationServerKey: k.public_key });
  const made = await send<Subscription>("POST", "/v1/router/push/subscriptions", { receiver: k.receiver, ...s.toJSON() });
  remember(made.id);
}

export async function unsubscribePush(state: PushState): Promise<void> {
  if (state.mine) await send("DELETE", `/v1/router/push/subscriptions/${encodeURIComponent(state.mine.id)}`);
  remember("");
  await (await (await navigator.serviceWorker.ready).pushManager.getSubscription())?.unsubscribe();
}
