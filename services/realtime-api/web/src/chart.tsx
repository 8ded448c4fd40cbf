import { useEffect, useLayoutEffect, useMemo, useRef, useState, type RefObject } from "react";
import uPlot from "uplot";
import { clock, day, eventTime, num, surprise, surpriseMax } from "./format";
import { isFresh, qualityNote, type Trace } from "./live";
import { isClosed, severity, type Alert, type Anomaly, type SensorWindow, type Window } from "./model";
import { token, useTheme } from "./theme";

/** A stretch of event time that is marked, in seconds. */
export interface Mark {
  from: number;
  /** undefined while it lasts */
  to: number | undefined;
  critical: boolean;
  sensors: Set<string>;
}

/** Episodes to mark: from the anomaly reports, and from alerts, which may be older than the reports kept. */
export function episodes(anomalies: Anomaly[], alerts: Alert[]): Mark[] {
  const out = new Map<string, Mark>();
  for (const a of anomalies) {
    const m = out.get(a.episode_id);
    const sensors = new Set([...(m?.sensors ?? []), ...a.contributions.filter((c) => (c.share ?? 0) >= 0.1).map((c) => c.sensor)]);
    out.set(a.episode_id, {
      from: a.started_us / 1e6,
      to: a.phase === "PHASE_ENDED" ? a.observed_us / 1e6 : undefined,
      critical: m?.critical || severity(a.severity) === "critical",
      sensors,
    });
  }
  for (const a of alerts) {
    const m = out.get(a.alert_id);
    out.set(a.alert_id, {
      from: a.started_us / 1e6,
      to: isClosed(a) ? a.ended_us / 1e6 : m?.to,
      critical: m?.critical || severity(a.severity) === "critical",
      sensors: new Set([...(m?.sensors ?? []), ...a.contributions.filter((c) => (c.share ?? 0) >= 0.1).map((c) => c.sensor)]),
    });
  }
  return [...out.values()];
}

/** The usual distance between two windows, in microseconds: the median, so that gaps do not count. */
export function spacing(windows: Window[]): number {
  const steps = windows.slice(1).map((w, i) => w.start_us - (windows[i] as Window).start_us);
  steps.sort((a, b) => a - b);
  return steps[steps.length >> 1] ?? 5e6;
}

/** Columns of x in seconds, mean, min, max, expected low and high; in a chart also values that are not judged yet. */
export type Columns = [number[], ...(number | null)[][]];

/** Columns of x, mean, min, max, expected low and high. A gap in time breaks the line. */
function columns(sensor: string, windows: Window[], step: number): { data: Columns; latest: SensorWindow | undefined } {
  const data: Columns = [[], [], [], [], [], []];
  let latest: SensorWindow | undefined;
  let before = Infinity;
  const push = (x: number, s: SensorWindow | undefined) => {
    data[0].push(x);
    const usable = s && s.count > 0;
    [usable ? s.mean : null, usable ? s.min : null, usable ? s.max : null, s?.expected_low ?? null, s?.expected_high ?? null].forEach((v, i) => (data[i + 1] as (number | null)[]).push(v));
  };
  for (const w of windows) {
    if (w.start_us - before > 3 * step) push((before + step) / 1e6, undefined);
    const s = w.sensors.find((x) => x.sensor === sensor);
    push((w.start_us + w.end_us) / 2e6, s);
    if (s) latest = s;
    before = w.start_us;
  }
  return { data, latest };
}

/** Adds a column of values that no window holds yet; their line begins at the last window's mean. The columns before end there. */
function withLive(data: Columns, trace: Trace): Columns {
  if (trace.length === 0) return [...data, data[0].map(() => null)];
  const means = data[1] as (number | null)[];
  const tail = trace.map(() => null);
  const first = data[0].map((_, i) => (i === means.length - 1 ? (means[i] ?? null) : null));
  return [[...data[0], ...trace.map((s) => s.time_us / 1e6)], ...data.slice(1).map((c) => [...c, ...tail]), [...first, ...trace.map((s) => s.value)]] as Columns;
}

/** The scale holds what was measured, and the expected band as far as that does not flatten it. */
function limits(data: Columns): [number, number] {
  let lo = Infinity;
  let hi = -Infinity;
  for (const i of [1, 2, 3, 6]) {
    for (const v of (data[i] ?? []) as (number | null)[]) {
      if (v === null) continue;
      lo = Math.min(lo, v);
      hi = Math.max(hi, v);
    }
  }
  if (lo > hi) return [0, 1];
  const reach = (hi - lo || Math.abs(hi) || 1) * 1.2;
  let [low, high] = [lo, hi];
  for (const v of data[4] as (number | null)[]) if (v !== null) low = Math.min(low, Math.max(v, lo - reach));
  for (const v of data[5] as (number | null)[]) if (v !== null) high = Math.max(high, Math.min(v, hi + reach));
  const pad = (high - low || Math.abs(high) || 1) * 0.08;
  return [low - pad, high + pad];
}

const cursors = uPlot.sync("machine");

/** What a chart shows instead of the last windows: a stretch of the past, once it is there. */
export interface Past {
  from: number;
  to: number;
  data: Columns | undefined;
  note: string;
}

const nothing: Columns = [[], [], [], [], [], [], []];
const noTrace: Trace = [];

/** Whether the element is in sight: what is not is drawn only when its windows change. */
function useInSight(box: RefObject<HTMLElement | null>): boolean {
  const [seen, setSeen] = useState(false);
  useEffect(() => {
    const watch = new IntersectionObserver((e) => setSeen(e.at(-1)?.isIntersecting ?? false), { rootMargin: "100px" });
    if (box.current) watch.observe(box.current);
    return () => watch.disconnect();
  }, [box]);
  return seen;
}

interface ChartProps {
  sensor: string;
  windows: Window[];
  step: number;
  marks: Mark[];
  /** What no window holds yet, and our time, by which to tell whether it is of now. */
  trace?: Trace | undefined;
  now?: number;
  past?: Past | undefined;
  /** A stretch was drawn with the mouse, seconds. */
  onZoom?: (from: number, to: number) => void;
  onZoomOut?: () => void;
}

export function SensorChart({ sensor, windows, step, marks, trace, now = Date.now(), past, onZoom, onZoomOut }: ChartProps) {
  const box = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | undefined>(undefined);
  const theme = useTheme();
  const live = useMemo(() => columns(sensor, windows, step), [sensor, windows, step]);
  const drawn = useInSight(box) ? (trace ?? noTrace) : noTrace;
  const data = useMemo(() => withLive(past ? (past.data ?? nothing) : live.data, past ? noTrace : drawn), [past?.data, !past, live.data, drawn]);
  const latest = past ? undefined : live.latest;
  const mine = useMemo(() => marks.filter((m) => m.sensors.size === 0 || m.sensors.has(sensor)), [marks, sensor]);
  const current = useRef<Current["current"]>({ data, marks: mine });
  current.current = { data, marks: mine, range: past && [past.from / 1000, past.to / 1000], onZoom, onZoomOut };
  const [hover, setHover] = useState<number | null>(null);

  useLayoutEffect(() => {
    const el = box.current;
    if (!el) return;
    const u = new uPlot(options(el, current, setHover), current.current.data as uPlot.AlignedData, el);
    plot.current = u;
    const watch = new ResizeObserver(() => u.setSize({ width: el.clientWidth, height: el.clientHeight }));
    watch.observe(el);
    return () => {
      watch.disconnect();
      u.destroy();
      plot.current = undefined;
    };
  }, [theme]);
  useEffect(() => {
    const u = plot.current;
    if (!u) return;
    u.setData(data as uPlot.AlignedData, true);
  }, [data, mine, past?.from, past?.to]);

  const at = hover !== null && hover < data[0].length ? hover : null;
  const mean = at === null ? latest?.mean : data[1]?.[at];
  const low = at === null ? latest?.expected_low : data[4]?.[at];
  const high = at === null ? latest?.expected_high : data[5]?.[at];
  const lasting = past ? [] : mine.filter((m) => m.to === undefined && m.sensors.size > 0);
  const blame = lasting.find((m) => m.critical) ?? lasting[0];
  const out = mean != null && low != null && high != null && (mean < low || mean > high);
  // Not judged: the newest value, or the one under the pointer.
  const newest = past || at !== null ? undefined : trace?.at(-1);
  const pointed = at !== null && mean == null ? data[6]?.[at] : undefined;
  const unjudged = newest !== undefined || pointed != null;
  const value = newest ? newest.value : (pointed ?? mean);
  const stale = newest !== undefined && !isFresh(newest, now);
  const note = newest ? qualityNote(newest) : "";
  return (
    <figure className={`chart ${blame ? `blamed ${blame.critical ? "s-critical" : "s-warning"}` : ""}`}>
      <figcaption>
        <span className="sensor" title={sensor}>
          {sensor}
        </span>
        <span className={`now ${unjudged ? `unjudged ${stale ? "stale" : ""}` : out ? "out" : ""}`} title={unjudged ? "As it was sent; not judged yet" : "Mean over the window"}>
          {unjudged && <i role="img" aria-label={stale ? "not of now, not judged yet:" : "now, not judged yet:"} />}
          {past && value == null ? "" : num(value)}
        </span>
        <span className="sub">
          {at === null ? "" : `${eventTime((data[0][at] ?? 0) * 1e6, Date.now())} · `}
          {note && <em>{note} · </em>}
          {newest && stale && <em>of {eventTime(newest.time_us, now)} · </em>}
          {newest && latest && (
            <span className={`mean ${out ? "out" : ""}`} title="Mean over the last window">
              mean {num(mean)} ·{" "}
            </span>
          )}
          {low != null && high != null ? `expected ${num(low)} – ${num(high)}` : past ? (at === null ? past.note : "\u00a0") : pointed != null || (newest && !latest) ? "not judged yet" : "nothing expected yet"}
          {latest && latest.unusable > 0 && at === null && <em> · {latest.unusable} unusable</em>}
        </span>
        {!past && (
          <span className="mini gauge" title={`Score ${latest?.score?.toFixed(4) ?? "–"}`}>
            <span className="fill" style={{ transform: `scaleX(${Math.min(1, surprise(latest?.score ?? null) / surpriseMax)})` }} />
          </span>
        )}
      </figcaption>
      <div
        className="plot"
        ref={box}
        role="img"
        aria-label={newest ? `${sensor}: ${note || num(newest.value)}${stale ? ` of ${eventTime(newest.time_us, now)}` : ""}, not judged yet${latest ? `; mean of the last window ${num(latest.mean)}` : ""}` : `${sensor}: ${num(latest?.mean)}`}
      />
    </figure>
  );
}

interface Current {
  current: {
    data: Columns;
    marks: Mark[];
    range?: [number, number] | undefined;
    onZoom?: ((from: number, to: number) => void) | undefined;
    onZoomOut?: (() => void) | undefined;
  };
}

/** A stretch drawn with the mouse has at least so many pixels. */
const leastDrag = 6;

function options(el: HTMLElement, current: Current, hover: (i: number | null) => void): uPlot.Options {
  const ink = token("--chart-ink");
  const grid = { stroke: token("--chart-grid"), width: 1 };
  const line = token("--chart-line");
  const band = token("--chart-band-edge");
  const axis: uPlot.Axis = { stroke: ink, grid, ticks: { show: false }, font: "11px system-ui, sans-serif" };
  const edge: uPlot.Series = { stroke: band, width: 1, dash: [4, 4], points: { show: false } };
  return {
    width: el.clientWidth,
    height: el.clientHeight,
    legend: { show: false },
    padding: [6, 8, 0, 0],
    cursor: {
      sync: { key: cursors.key, setSeries: false },
      drag: { x: true, y: false, setScale: false, dist: leastDrag },
      bind: {
        dblclick: () => () => {
          current.current.onZoomOut?.();
          return null;
        },
      },
      y: false,
      points: { show: (_, i) => (i === 1 ? pointElement() : (undefined as unknown as HTMLElement)) },
    },
    scales: { x: { time: true, range: (_, min, max) => current.current.range ?? [min, Math.max(max, min + 30)] }, y: { range: () => limits(current.current.data) } },
    series: [
      {},
      { stroke: line, width: 1.75, points: { size: 4, width: 0, fill: line } },
      { width: 0, points: { show: false } },
      { width: 0, points: { show: false } },
      edge,
      edge,
      { stroke: line, width: 1, dash: [2, 3], points: { show: true, size: 5, width: 1.25, stroke: line, fill: token("--surface") } },
    ],
    bands: [
      { series: [5, 4], fill: token("--chart-band") },
      { series: [3, 2], fill: token("--chart-range") },
    ],
    axes: [
      { ...axis, size: 22, space: 70, values: (_, ts, __, ___, step) => ts.map((t) => tick(t, step)) },
      { ...axis, size: 52, gap: 4, space: 28, values: (_, vs) => vs.map((v) => compact(v)) },
    ],
    hooks: {
      drawClear: [(u) => paintMarks(u, current.current.marks)],
      setSelect: [
        (u) => {
          const { left, width } = u.select;
          if (width < leastDrag) return;
          const [from, to] = [u.posToVal(left, "x"), u.posToVal(left + width, "x")];
          u.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
          current.current.onZoom?.(from, to);
        },
      ],
      setCursor: [(u) => hover(u.cursor.left !== undefined && u.cursor.left >= 0 ? (u.cursor.idx ?? null) : null)],
    },
  };
}

function pointElement(): HTMLElement {
  const e = document.createElement("div");
  e.className = "u-cursor-pt dot";
  return e;
}

/** A tick's label: the day where ticks are days apart, seconds where they are less than a minute apart. */
function tick(t: number, step: number): string {
  if (step >= 86_400) return day(t * 1000);
  return step >= 60 ? clock(t * 1000).slice(0, 5) : clock(t * 1000);
}

const compact = (v: number) => (Math.abs(v) >= 10_000 ? `${Number((v / 1000).toFixed(1))}k` : String(Number(v.toPrecision(6))));

/** Shades the episodes behind the lines, with a solid edge where each began. */
function paintMarks(u: uPlot, marks: Mark[]) {
  const { ctx, bbox } = u;
  const end = u.scales["x"]?.max ?? 0;
  const start = u.scales["x"]?.min ?? 0;
  ctx.save();
  for (const m of marks) {
    const to = Math.min(m.to ?? end, end);
    if (to < start || m.from > end) continue;
    const x0 = u.valToPos(Math.max(m.from, start), "x", true);
    const x1 = u.valToPos(to, "x", true);
    ctx.fillStyle = token(m.critical ? "--mark-critical" : "--mark-warning");
    ctx.fillRect(x0, bbox.top, Math.max(x1 - x0, 2), bbox.height);
    ctx.fillStyle = token(m.critical ? "--critical" : "--warning");
    ctx.fillRect(x0, bbox.top, Math.max(x1 - x0, 2), 3 * devicePixelRatio);
    if (m.from >= start) ctx.fillRect(x0, bbox.top, 1.5 * devicePixelRatio, bbox.height);
  }
  ctx.restore();
}
