import { useSyncExternalStore } from "react";
import { Connection, type Link } from "./connection";
import { forgetState, keepState, keptState } from "./kept";
import { noLive, withoutJudged, withSamples, type Live } from "./live";
import { isClosed, stateName, type Alert, type Anomaly, type Message, type Row, type Summary, type Window } from "./model";

const closedKept = 300;
const windowsKept = 360;
const anomaliesKept = 60;
const rateKept = 60;

/** What is known of the machine that is looked at. */
export interface Detail {
  id: string;
  /** undefined while loading, null when the server does not know it */
  row: Row | null | undefined;
  sensorsTotal: number;
  windows: Window[];
  anomalies: Anomaly[];
  alerts: Alert[];
  /** What no window holds yet. */
  live: Live;
}

/**
 * The page's state. Parts are replaced, never changed in place, so that React can compare them; subscribers are told
 * at most once per animation frame.
 */
export interface Data {
  link: Link;
  everLive: boolean;
  /** When the state that is shown was right, ms, if it is one kept from an earlier visit; else 0. */
  keptAtMs: number;
  summary: Summary | undefined;
  /** Server's clock minus ours, ms. */
  skew: number;
  rates: number[];
  rows: Map<string, Row>;
  /** Grows when rows changed at all, when their order of attention may have, and when machines came or went. */
  rowsVersion: number;
  orderVersion: number;
  membersVersion: number;
  fleetLoaded: boolean;
  alerts: Map<string, Alert>;
  alertsVersion: number;
  alertsLoaded: boolean;
  detail: Detail | undefined;
}

const data: Data = {
  link: { state: "connecting", attempt: 0 },
  everLive: false,
  keptAtMs: 0,
  summary: undefined,
  skew: 0,
  rates: [],
  rows: new Map(),
  rowsVersion: 0,
  orderVersion: 0,
  membersVersion: 0,
  fleetLoaded: false,
  alerts: new Map(),
  alertsVersion: 0,
  alertsLoaded: false,
  detail: undefined,
};

let snapshot: Data = { ...data };
let scheduled = false;
const listeners = new Set<() => void>();

function changed() {
  if (scheduled) return;
  scheduled = true;
  const tell = () => {
    if (!scheduled) return;
    scheduled = false;
    snapshot = { ...data };
    for (const l of listeners) l();
  };
  requestAnimationFrame(tell);
  // A hidden tab has no frames, but its title still counts alerts.
  window.setTimeout(tell, 1000);
}

function takeFleet(m: Extract<Message, { type: "fleet" }>) {
  if (m.reset) {
    data.rows.clear();
    data.orderVersion++;
    data.membersVersion++;
  }
  for (const row of m.rows) {
    const old = data.rows.get(row.id);
    if (!old || rank(old) !== rank(row)) data.orderVersion++;
    if (!old || (old.gw ?? "") !== (row.gw ?? "")) data.membersVersion++;
    data.rows.set(row.id, row);
  }
  for (const id of m.removed ?? []) {
    data.rows.delete(id);
    data.orderVersion++;
    data.membersVersion++;
  }
  if (!m.more) data.fleetLoaded = true;
  data.keptAtMs = 0;
  data.rowsVersion++;
}

function takeAlerts(m: Extract<Message, { type: "alerts" }>) {
  if (m.reset) data.alerts.clear();
  for (const a of m.alerts) data.alerts.set(a.alert_id, a);
  const closed = [...data.alerts.values()].filter(isClosed);
  if (closed.length > closedKept) {
    closed.sort((a, b) => a.at_ms - b.at_ms);
    for (const a of closed.slice(0, closed.length - closedKept)) data.alerts.delete(a.alert_id);
  }
  if (!m.more) data.alertsLoaded = true;
  data.alertsVersion++;
}

/** Merges by key and keeps the last `keep` in the given order. */
function merge<T>(old: T[], news: T[], key: (t: T) => string | number, order: (t: T) => number, keep: number): T[] {
  if (news.length === 0) return old;
  const all = new Map(old.map((t) => [key(t), t]));
  for (const t of news) all.set(key(t), t);
  return [...all.values()].sort((a, b) => order(a) - order(b)).slice(-keep);
}

function takeMachine(m: Extract<Message, { type: "machine" }>) {
  if (data.detail?.id !== m.id) return;
  const old: Detail = m.reset ? { ...blank(m.id), live: data.detail.live } : data.detail;
  const windows = merge(old.windows, m.windows, (w) => w.start_us, (w) => w.start_us, windowsKept);
  data.detail = {
    ...old,
    live: m.windows.length > 0 ? withoutJudged(old.live, windows) : old.live,
    row: m.machine === undefined ? old.row : m.machine,
    sensorsTotal: m.sensors_total || old.sensorsTotal,
    windows,
    anomalies: merge(old.anomalies, m.anomalies ?? [], (a) => a.anomaly_id, (a) => a.observed_us, anomaliesKept),
    alerts: merge(old.alerts, m.alerts ?? [], (a) => a.alert_id, (a) => a.started_us, anomaliesKept),
  };
}

function takeLive(m: Extract<Message, { type: "live" }>) {
  if (data.detail?.id !== m.id) return;
  data.detail = { ...data.detail, live: withoutJudged(withSamples(data.detail.live, m.samples), data.detail.windows) };
}

let build: string | undefined;

const blank = (id: string): Detail => ({ id, row: undefined, sensorsTotal: 0, windows: [], anomalies: [], alerts: [], live: noLive });

const connection = new Connection(
  `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/v1/stream`,
  {
    link(l) {
      data.link = l;
      // What was new when the connection was lost is not any more.
      if (l.state === "lost" && data.detail) data.detail = { ...data.detail, live: noLive };
      if (l.state === "live") data.everLive = true;
      changed();
    },
    message(m) {
      switch (m.type) {
        case "hello":
          // A page that hangs on a wall for months follows the server's upgrades.
          if (build !== undefined && build !== m.build) location.reload();
          build = m.build;
          data.skew = m.server_time_ms - Date.now();
          break;
        case "summary":
          data.summary = m;
          data.skew = m.server_time_ms - Date.now();
          data.rates = [...data.rates, m.windows_per_second].slice(-rateKept);
          break;
        case "fleet":
          takeFleet(m);
          break;
        case "alerts":
          takeAlerts(m);
          break;
        case "machine":
          takeMachine(m);
          break;
        case "live":
          takeLive(m);
          break;
        case "error":
          console.warn("stream:", m.detail);
      }
      changed();
    },
  },
);

/** Follows one machine besides fleet and alerts, its newest values included; undefined follows none. */
export function watchMachine(id: string | undefined) {
  data.detail = id === undefined ? undefined : blank(id);
  connection.subscribe(["fleet", "alerts", ...(id === undefined ? [] : [`machine:${id}`, `live:${id}`])]);
  changed();
}

const keepEveryMs = 20_000;

/** Opens the stream; once. Until it speaks, the state of the last visit is shown. */
export function start() {
  connection.open();
  window.addEventListener("online", () => data.link.state === "lost" && connection.open());
  void keptState().then((k) => {
    if (!k || data.fleetLoaded) return;
    for (const r of k.rows) data.rows.set(r.id, r);
    for (const a of k.alerts) data.alerts.set(a.alert_id, a);
    data.keptAtMs = k.atMs;
    data.fleetLoaded = data.alertsLoaded = true;
    data.rowsVersion++;
    data.orderVersion++;
    data.membersVersion++;
    data.alertsVersion++;
    changed();
  });
  const keep = () => {
    if (data.link.state === "live" && data.fleetLoaded) void keepState({ atMs: Date.now() + data.skew, rows: [...data.rows.values()], alerts: [...data.alerts.values()].filter((a) => !isClosed(a)) });
  };
  window.setInterval(keep, keepEveryMs);
  document.addEventListener("visibilitychange", keep);
}

/** Ends the stream and forgets what it brought: somebody else may come. */
export function stop() {
  connection.close();
  data.fleetLoaded = false; // so that nothing is kept on the way out
  void forgetState().finally(() => location.reload());
}

export const reconnectNow = () => connection.open();

/** Order of attention: 0 needs a human first. A silent machine counts by its worst open alert. */
export function rank(r: Row): number {
  const state = stateName(r.st);
  if (state === "critical" || r.sv === 3) return 0;
  if (state === "silent") return 1;
  if (state === "warning" || r.sv === 2) return 2;
  return state === "learning" ? 3 : 4;
}

export function useData(): Data {
  return useSyncExternalStore(
    (l) => {
      listeners.add(l);
      return () => listeners.delete(l);
    },
    () => snapshot,
  );
}
