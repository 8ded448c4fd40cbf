import { get, send } from "./api";
import type { Contribution } from "./model";

// What the alert-router answers; see its openapi.yaml.

export type AlertState = "unacknowledged" | "acknowledged" | "returned" | "closed" | "shelved" | "out_of_service" | "suppressed";
export type Verdict = "real" | "false" | "known" | "sensor";

export interface Mark {
  by: string;
  at: string;
  until?: string;
  comment?: string;
  inherited?: boolean;
}

export interface Incident {
  alert_id: string;
  equipment_id: string;
  cause: string;
  gateway_id?: string;
  severity: "info" | "warning" | "critical";
  state: AlertState;
  open: boolean;
  summary: string;
  score: number | null;
  started_at: string;
  ended_at?: string;
  opened_at: string;
  closed_at?: string;
  acknowledged?: Mark;
  shelved?: Mark;
  out_of_service?: Mark;
  verdict?: { verdict: Verdict; by: string; at: string; comment?: string };
  held?: string;
  incident_id?: string;
  incident_machines?: number;
  note?: string;
  labels?: Record<string, string>;
  annotations?: Record<string, string>;
  contributions?: Contribution[];
}

export interface Transition {
  id: string;
  transition: string;
  severity: string;
  state: AlertState;
  at: string;
  by: string;
  comment?: string;
  until?: string;
  verdict?: Verdict;
}

export interface Notification {
  idempotency_key: string;
  receiver: string;
  integration: string;
  status: "firing" | "resolved";
  reason: string;
  outcome: "sent" | "retry" | "failed";
  attempts: number;
  at: string;
  latency_ms?: number;
  error?: string;
}

const base = "/v1/router/alerts";
const one = (id: string) => `${base}/${encodeURIComponent(id)}`;

export interface Page {
  alerts: Incident[];
  next?: string;
}

export const listIncidents = (query: Record<string, string | number>, signal?: AbortSignal) => get<Page>(base, query, signal);
export const getIncident = (id: string, signal?: AbortSignal) => get<Incident>(one(id), {}, signal);
export const getTransitions = (id: string, signal?: AbortSignal) => get<{ transitions: Transition[]; next?: string }>(`${one(id)}/transitions`, { limit: 200 }, signal);
export const getNotifications = (id: string, signal?: AbortSignal) => get<{ notifications: Notification[] }>(`${one(id)}/notifications`, {}, signal);

export type Action = "acknowledge" | "shelve" | "unshelve" | "out-of-service" | "in-service" | "verdict";

export interface Act {
  by?: string;
  comment?: string;
  duration?: string;
  verdict?: Verdict;
}

export const act = (id: string, action: Action, body: Act, key: string) => send<Incident>("POST", `${one(id)}/${action}`, body, key);

export const stateNames: Record<AlertState, string> = {
  unacknowledged: "unacknowledged",
  acknowledged: "acknowledged",
  suppressed: "suppressed",
  shelved: "shelved",
  out_of_service: "out of service",
  returned: "cleared, not acknowledged",
  closed: "closed",
};

export const verdictNames: Record<Verdict, string> = { real: "real fault", false: "false alarm", known: "known, expected", sensor: "sensor at fault" };

/** The time as microseconds, which the page's formats take. */
export const us = (t: string | undefined) => (t ? Date.parse(t) * 1000 : 0);
export const ms = (t: string | undefined) => (t ? Date.parse(t) : 0);
