import type { Sample, Window } from "./model";

/** Values of one sensor that no window holds yet, the oldest first. */
export type Trace = readonly Sample[];

/** By sensor. Parts are replaced, never changed in place. */
export type Live = ReadonlyMap<string, Trace>;

export const noLive: Live = new Map();

/** A minute, at four messages a second. */
const traceKept = 240;

/** How far a value may lie from now to be called so: the clocks of gateways differ. */
const freshMs = 15_000;

/** Tells whether the value is of now. What a gateway sends late, or a replay, is not. */
export const isFresh = (s: Sample, nowMs: number) => Math.abs(nowMs - s.time_us / 1000) <= freshMs;

/** Adds what has come. A value that is earlier than those before begins anew: a clock was set back, or what was ahead has proved wrong. */
export function withSamples(live: Live, samples: Sample[]): Live {
  const next = new Map(live);
  for (const s of samples) {
    const before = next.get(s.sensor) ?? [];
    const last = before.at(-1);
    next.set(s.sensor, last && s.time_us < last.time_us ? [s] : [...(last?.time_us === s.time_us ? before.slice(0, -1) : before), s].slice(-traceKept));
  }
  return next;
}

/** Leaves out what the windows hold by now. */
export function withoutJudged(live: Live, windows: Window[]): Live {
  const end = windows.at(-1)?.end_us;
  if (end === undefined || live.size === 0) return live;
  const next = new Map<string, Trace>();
  for (const [sensor, trace] of live) {
    const left = trace.filter((s) => s.time_us >= end);
    if (left.length > 0) next.set(sensor, left.length === trace.length ? trace : left);
  }
  return next;
}

/** Why a value is not shown as a number, or is to be taken with care. */
export function qualityNote(s: Sample): string {
  if (s.quality === "QUALITY_BAD") return "bad quality";
  if (s.quality === "QUALITY_UNCERTAIN") return "uncertain";
  return s.value === null ? "no value" : "";
}
