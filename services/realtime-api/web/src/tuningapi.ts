import { get, send } from "./api";
import { listIncidents, type Incident, type Verdict } from "./inboxapi";

// What the tuning bench answers; see services/all-in-one/internal/tuning/openapi.yaml.

export interface Settings {
  revision: number;
  /** The revision that the fleet is judged under; none: not known. */
  id?: string;
  budget: number;
  warm_up_windows: number;
  window_length: string;
  detectors: string[];
  known_detectors: string[];
  max_machines: number;
  max_samples: number;
  max_span: string;
}

export interface JudgedAlert {
  alert_id: string;
  equipment_id: string;
  cause: string;
  verdict: Verdict;
  started_at: string;
  ended_at?: string;
}

export interface TrialRequest {
  equipment?: string[];
  from: string;
  to: string;
  warm_up: string;
  detection: unknown;
  alerts?: JudgedAlert[];
}

export interface Side {
  pages: number;
  pages_per_machine_month: number;
  low: number;
  high: number;
  causes: { cause: string; pages: number }[];
  real_found: number;
  false_paged: number;
  median_delay_seconds: number;
  delays_compared: number;
}

export interface TrialResult {
  history: {
    from: string | null;
    to: string | null;
    machines: number;
    machines_matched: number;
    samples: number;
    observed_seconds: number;
    cut_at?: string;
    cautions: string[];
  };
  before: Side;
  after: Side;
  alerts: (JudgedAlert & { before_delay_seconds: number | null; after_delay_seconds: number | null })[];
  pages: { equipment_id: string; cause: string; severity: string; at: string; ended_at?: string; in: "before" | "after" | "both"; summary: string; alert_id?: string; verdict?: Verdict }[];
  pages_omitted?: number;
  changes: { key: string; current: string; proposed: string }[];
  /** The revision that it was tried against. */
  base?: string;
  yaml: string;
}

export interface Trial {
  id: string;
  state: "running" | "done" | "failed" | "cancelled";
  progress: number;
  by?: string;
  created_at: string;
  ended_at?: string;
  problem?: string;
  request: TrialRequest;
  result?: TrialResult;
}

export const getSettings = (signal?: AbortSignal) => get<Settings>("/v1/tuning/settings", {}, signal);
export const listTrials = (signal?: AbortSignal) => get<{ trials: Trial[] }>("/v1/tuning/trials", {}, signal);
export const getTrial = (id: string, signal?: AbortSignal) => get<Trial>(`/v1/tuning/trials/${encodeURIComponent(id)}`, {}, signal);
export const beginTrial = (q: TrialRequest) => send<Trial>("POST", "/v1/tuning/trials", q);
export const cancelTrial = (id: string) => send<Trial>("DELETE", `/v1/tuning/trials/${encodeURIComponent(id)}`);

const mostPages = 5;
const mostAlerts = 1000;

/** Alerts of a time that people have judged, the newest first; partly: there are more than are looked through. */
export async function judgedAlerts(since: string, until: string): Promise<{ alerts: JudgedAlert[]; partly: boolean }> {
  const found: Incident[] = [];
  let after = "";
  for (let page = 0; page < mostPages; page++) {
    const got = await listIncidents({ since, until, limit: 1000, after });
    found.push(...got.alerts.filter((a) => a.verdict));
    if (!got.next) {
      after = "";
      break;
    }
    after = got.next;
  }
  const alerts = found.slice(0, mostAlerts).map((a) => ({
    alert_id: a.alert_id,
    equipment_id: a.equipment_id,
    cause: a.cause,
    verdict: a.verdict?.verdict ?? "real",
    started_at: a.started_at,
    ...(a.ended_at ? { ended_at: a.ended_at } : {}),
  }));
  return { alerts, partly: after !== "" || found.length > mostAlerts };
}
