import { get, send } from "./api";
import type { Columns, Mark } from "./chart";

/** A stretch of event time, ms. */
export interface Span {
  from: number;
  to: number;
}

interface Rows {
  columns: { name: string }[];
  rows: unknown[][];
}

/** Slices of time that a chart is made of: about one for each two pixels. */
export const slices = 240;

/** The historical-api answers few questions at once and lets others wait; so do charts. What all charts share does not stand in line. */
const atOnce = 3;
let running = 0;
const waiting: (() => void)[] = [];

async function inTurn<T>(signal: AbortSignal, ask: () => Promise<T>): Promise<T> {
  if (running >= atOnce) await new Promise<void>((go) => waiting.push(go));
  running++;
  try {
    signal.throwIfAborted();
    return await ask();
  } finally {
    running--;
    waiting.shift()?.();
  }
}

const rfc3339 = (ms: number) => new Date(ms).toISOString();
const num = (v: unknown) => (typeof v === "number" ? v : null);
const text = (v: unknown) => (typeof v === "string" ? v : "");

/** What was expected in each slice, by sensor. */
export type Bands = Map<string, Map<number, { low: number | null; high: number | null }>>;

/** What was expected of all sensors of a machine, from the windows in the lake. */
export async function loadBands(id: string, span: Span, signal: AbortSignal): Promise<Bands> {
  const quoted = `'${id.replaceAll("'", "''")}'`;
  const from = span.from * 1000;
  const sql = `SELECT sensor, ((epoch_us(window_start) - ${from})::HUGEINT * ${slices} // ${(span.to - span.from) * 1000})::INTEGER AS slice, avg(expected_low) AS low, avg(expected_high) AS high
    FROM windows WHERE equipment_id = ${quoted} AND NOT isnan(expected_low) AND NOT isnan(expected_high) GROUP BY ALL`;
  const got = await send<Rows>("POST", "/v1/history/sql", { sql, from: rfc3339(span.from), to: rfc3339(span.to), format: "json" }, undefined, signal);
  const out: Bands = new Map();
  for (const [sensor, slice, low, high] of got.rows) {
    let of = out.get(text(sensor));
    if (!of) out.set(text(sensor), (of = new Map()));
    of.set(Number(slice), { low: num(low), high: num(high) });
  }
  return out;
}

/** One sensor's values in slices: mean, least and greatest. A slice without values breaks the line. */
export async function loadSeries(id: string, sensor: string, span: Span, signal: AbortSignal): Promise<Columns> {
  const query = { equipment_id: id, sensor, from: rfc3339(span.from), to: rfc3339(span.to), points: slices, method: "mean" };
  const got = await inTurn(signal, () => get<Rows>("/v1/history/series", query, signal));
  const at = Object.fromEntries(got.columns.map((c, i) => [c.name, i]));
  const width = (span.to - span.from) / slices;
  const values = new Map<number, unknown[]>();
  for (const r of got.rows) values.set(Math.round((Date.parse(text(r[at["ts"] ?? 0])) - span.from) / width), r);
  const data: Columns = [[], [], [], [], [], []];
  // With fewer values than slices there would be a gap after each one.
  const sparse = usualStep(values) * 3;
  let last = -Infinity;
  for (let i = 0; i < slices; i++) {
    const r = values.get(i);
    if (!r && i - last < sparse) continue;
    last = r ? i : last;
    data[0].push((span.from + (i + 0.5) * width) / 1000);
    const push = (k: number, name: string) => (data[k] as (number | null)[]).push(r ? num(r[at[name] ?? -1]) : null);
    push(1, "mean");
    push(2, "min");
    push(3, "max");
    for (const k of [4, 5]) (data[k] as (number | null)[]).push(null);
  }
  return data;
}

function usualStep(values: Map<number, unknown>): number {
  const at = [...values.keys()].sort((a, b) => a - b);
  const steps = at.slice(1).map((v, i) => v - (at[i] as number)).sort((a, b) => a - b);
  return steps[steps.length >> 1] ?? 1;
}

/** Windows may be longer than slices: what was expected holds on for so long, ms. */
const holdsMs = 30_000;

/** The same with what was expected. */
export function withBands(data: Columns, span: Span, bands: Map<number, { low: number | null; high: number | null }> | undefined): Columns {
  if (!bands) return data;
  const width = (span.to - span.from) / slices;
  const back = Math.max(1, Math.ceil(holdsMs / width));
  const of = data[0].map((t) => {
    const slice = Math.floor((t * 1000 - span.from) / width);
    for (let i = slice; i >= slice - back; i--) {
      const b = bands.get(i);
      if (b) return b;
    }
    return undefined;
  });
  return [data[0], data[1] ?? [], data[2] ?? [], data[3] ?? [], of.map((b) => b?.low ?? null), of.map((b) => b?.high ?? null)];
}

/** What the stream found in that time, to be marked. */
export async function loadEpisodes(id: string, span: Span, signal: AbortSignal): Promise<Mark[]> {
  const got = await get<Rows>("/v1/history/episodes", { equipment_id: id, from: rfc3339(span.from), to: rfc3339(span.to), limit: 200 }, signal);
  const at = Object.fromEntries(got.columns.map((c, i) => [c.name, i]));
  const cell = (r: unknown[], name: string) => r[at[name] ?? -1];
  return got.rows.map((r) => {
    const contributions = Array.isArray(cell(r, "contributions")) ? (cell(r, "contributions") as { sensor?: unknown; share?: unknown }[]) : [];
    const ended = text(cell(r, "ended_at"));
    return {
      from: Date.parse(text(cell(r, "started_at"))) / 1000,
      to: ended ? Date.parse(ended) / 1000 : undefined,
      critical: text(cell(r, "severity")) === "critical",
      sensors: new Set(contributions.filter((c) => (num(c.share) ?? 0) >= 0.1).map((c) => text(c.sensor))),
    };
  });
}

const shortest = 10_000;
const longest = 400 * 86_400_000;

/** The same middle, so many times as long. */
export function zoomed(s: Span, factor: number): Span {
  const middle = (s.from + s.to) / 2;
  const half = Math.min(longest, Math.max(shortest, (s.to - s.from) * factor)) / 2;
  return { from: Math.round(middle - half), to: Math.round(middle + half) };
}

/** Moved by a share of its length. */
export function panned(s: Span, share: number): Span {
  const by = Math.round((s.to - s.from) * share);
  return { from: s.from + by, to: s.to + by };
}

/** A span from an address, if it is one. */
export function spanOf(query: URLSearchParams): Span | undefined {
  const from = Number(query.get("from"));
  const to = Number(query.get("to"));
  return Number.isSafeInteger(from) && Number.isSafeInteger(to) && query.get("from") && to - from >= 1000 && to - from <= longest && Math.abs(to) < 8e15 ? { from, to } : undefined;
}
