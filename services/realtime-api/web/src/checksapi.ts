import { get } from "./api";

// What the historical-api answers about scheduled checks; see its openapi.yaml.

export type JobState = "new" | "waiting" | "late" | "running" | "failing";

export interface Job {
  name: string;
  schedule: string;
  time_zone: string;
  source: string;
  state: JobState;
  next: string;
  due: number;
  skipped: number;
  last?: { started: string; finished: string; seconds: number; ok: boolean; ok_at?: string; failures: number };
  error?: string;
  result?: { from: string; to: string; series: number; judged: number; missing: number; not_enough_history: number; off: number; invalid: number; findings: number; critical: number; note?: string };
}

export interface Jobs {
  now: string;
  runner: string;
  alerts_waiting: number;
  alerts_problem?: string;
  jobs: Job[];
}

export interface Finding {
  kind: "volume" | "shape";
  severity: "info" | "warning" | "critical";
  from: string;
  to: string;
  z: number;
  observed?: number;
  expected?: number;
  deviation?: number;
  similarity?: number;
  usual?: number;
  weeks: number;
}

export interface Found extends Finding {
  id: string;
  job: string;
  entity: string;
  metric: string;
  summary: string;
  alert?: "open" | "ended";
  over: boolean;
}

export interface Checked {
  from: string;
  to: string;
  time_zone: string;
  verdict: "usual" | "warning" | "critical" | "not enough history" | "no figures";
  judged: number;
  missing: number;
  not_enough_history: number;
  off: number;
  findings: Finding[];
}

export interface Wanted {
  job: string;
  entity: string;
  metric: string;
  kind: string;
  severity: string;
  /** ISO; empty: all that are kept. */
  from: string;
}

export const getJobs = (signal: AbortSignal) => get<Jobs>("/v1/history/jobs", {}, signal);
export const getFound = (wanted: Wanted, limit: number, signal: AbortSignal) => get<{ anomalies: Found[]; next?: string }>("/v1/history/anomalies", { ...wanted, limit }, signal);

/** Judges the last hours of one series; nothing is kept or told. figures: a job's name, or sensor_mean, sensor_sum or sensor_count of a machine's sensor. */
export const checkNow = (entity: string, metric: string, figures: { job: string } | { source: string }, hours: number) => get<Checked>("/v1/history/anomalies/check", { entity, metric, ...figures, hours });
