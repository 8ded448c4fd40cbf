// What the server sends; see internal/stream and openapi.yaml.

export const State = { learning: 1, ok: 2, warning: 3, critical: 4, silent: 5 } as const;
export type StateName = keyof typeof State;
export const stateNames: StateName[] = ["critical", "warning", "silent", "learning", "ok"];

const byNumber = new Map<number, StateName>(Object.entries(State).map(([k, v]) => [v, k as StateName]));
export const stateName = (n: number): StateName => byNumber.get(n) ?? "learning";

/** One machine in the stream's short form. */
export interface Row {
  id: string;
  st: number;
  sv?: number;
  sc: number | null;
  t: number;
  al?: number;
  gw?: string;
  /** Site, line and group, as far as the server knows them. */
  si?: string;
  li?: string;
  gr?: string;
}

export type Severity = "critical" | "warning" | "info";

export function severity(s: string): Severity {
  if (s === "SEVERITY_CRITICAL") return "critical";
  return s === "SEVERITY_WARNING" ? "warning" : "info";
}

export interface Contribution {
  sensor: string;
  share: number | null;
  observed: number | null;
  expected_low: number | null;
  expected_high: number | null;
  detector: string;
  /** The statistic of the window that the numbers are of: "mean" or "stddev". */
  statistic: string;
}

export interface Alert {
  event_id: string;
  alert_id: string;
  equipment_id: string;
  cause: string;
  transition: string;
  severity: string;
  score: number | null;
  started_us: number;
  ended_us: number;
  at_ms: number;
  summary: string;
  labels: Record<string, string>;
  annotations: Record<string, string>;
  contributions: Contribution[];
}

export const isClosed = (a: Alert) => a.transition === "ALERT_TRANSITION_CLOSED";

export interface Anomaly {
  anomaly_id: string;
  episode_id: string;
  equipment_id: string;
  cause: string;
  phase: string;
  severity: string;
  score: number | null;
  confidence: number | null;
  started_us: number;
  observed_us: number;
  judged_at_ms: number;
  contributions: Contribution[];
  summary: string;
}

export interface SensorWindow {
  sensor: string;
  count: number;
  mean: number | null;
  stddev: number | null;
  min: number | null;
  max: number | null;
  last: number | null;
  unusable: number;
  score: number | null;
  expected_low: number | null;
  expected_high: number | null;
}

/** The newest value of a sensor, before anybody has judged it. */
export interface Sample {
  sensor: string;
  time_us: number;
  /** null: the source has none, or rejects it */
  value: number | null;
  quality: string;
}

export interface Window {
  start_us: number;
  end_us: number;
  revision: number;
  sensors: SensorWindow[];
  score: number | null;
  learning: boolean;
  closed_at_ms: number;
  /** What the machine was doing; absent or empty while it is known to do but one thing. */
  regime?: string;
}

export interface Summary {
  machines: Record<string, number>;
  open_alerts: number;
  windows_per_second: number;
  anomaly_reports_per_second: number;
  server_time_ms: number;
  log_time_ms: number;
  pipeline_delay_ms: number | null;
  caught_up: boolean;
  coalesced_ticks: number;
}

interface Head {
  version: number;
  reset?: boolean;
  more?: boolean;
}

export type Message =
  | { type: "hello"; instance: string; build: string; interval_ms: number; server_time_ms: number }
  | ({ type: "summary" } & Summary)
  | ({ type: "fleet"; rows: Row[]; removed?: string[] } & Head)
  | ({ type: "alerts"; alerts: Alert[] } & Head)
  | ({
      type: "machine";
      id: string;
      machine?: Row | null;
      sensors_total?: number;
      windows: Window[];
      anomalies?: Anomaly[];
      alerts?: Alert[];
    } & Head)
  | { type: "live"; id: string; samples: Sample[] }
  | { type: "error"; detail: string };
