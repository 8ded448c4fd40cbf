import { get, send } from "./api";

// What the stream-processor answers; see services/stream-processor/internal/revise/openapi.yaml.

export interface Key {
  key: string;
  was: string;
  is: string;
}

export interface Revision {
  id: string;
  kind: "file" | "release" | "settings" | "correction" | "back";
  by?: string;
  why?: string;
  trial?: string;
  back_to?: string;
  at: string;
  changes: Key[];
}

/** What the fleet is judged under, and what who looks may change. */
export interface Detection extends Revision {
  applied: Key[];
  partitions: number;
  following: number;
  rights: "read" | "correct" | "change";
  /** Who looks; none: anybody, who says so with each change. */
  name?: string;
}

export interface Reason {
  by?: string;
  why: string;
}

export const getDetection = (signal?: AbortSignal) => get<Detection>("/v1/detection", {}, signal);
export const listRevisions = (signal?: AbortSignal) => get<{ revisions: Revision[] }>("/v1/detection/revisions", { limit: 20 }, signal);
export const applySettings = (base: string, detection: unknown, trial: string, reason: Reason) => send<Detection>("POST", "/v1/detection/changes", { base, detection, trial, ...reason });
export const goBack = (base: string, back_to: string, reason: Reason) => send<Detection>("POST", "/v1/detection/changes", { base, back_to, ...reason });
export const newNormal = (machine: string, from: string, reason: Reason) => send<Detection>("POST", "/v1/detection/corrections", { machine, kind: "new_normal", from, ...reason });
