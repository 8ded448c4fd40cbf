import { useEffect, useMemo, useRef, useState } from "react";
import { AlertCard } from "./alerts";
import { episodes, SensorChart, spacing, type Columns, type Mark } from "./chart";
import { useNow } from "./clock";
import { CoverageLine } from "./covered";
import { ago, causeName, count, eventTime, num, odds, scoreText, span as duration, surprise, surpriseMax } from "./format";
import { loadBands, loadEpisodes, loadSeries, panned, spanOf, withBands, zoomed, type Bands, type Span } from "./history";
import { Icon, SeverityIcon, StateIcon, stateLabel } from "./icons";
import { useShortcuts } from "./keys";
import { useLoad } from "./load";
import { isClosed, severity, stateName, type Anomaly, type Window } from "./model";
import { href, setQuery } from "./route";
import { useFeature } from "./session";
import type { Data, Detail } from "./store";
import type { ViewProps } from "./view";

/** How many windows are shown; live windows are 5 s apart, so these are 2, 5 and 15 minutes. */
const spans = [24, 60, 180] as const;

export function MachinePage({ data, params, query }: ViewProps) {
  const id = params[0] ?? "";
  const detail = data.detail?.id === id ? data.detail : undefined;
  return (
    <div className="machinepage">
      <a className="back" href="#/">
        <Icon name="back" /> Fleet
      </a>
      {!detail || detail.row === undefined ? (
        <Loading id={id} />
      ) : detail.row === null && detail.live.size > 0 ? (
        <Unjudged detail={detail} skew={data.skew} />
      ) : detail.row === null ? (
        <>
          <h1>{id}</h1>
          <div className="empty">
            <p>Nothing has been heard of this machine.</p>
            <p className="hint">If it reports, it appears here by itself.</p>
          </div>
        </>
      ) : (
        <Known data={data} detail={detail} query={query} />
      )}
    </div>
  );
}

/** A machine of which values come and no window has yet. */
function Unjudged({ detail, skew }: { detail: Detail; skew: number }) {
  const now = useNow() + skew;
  return (
    <>
      <h1>{detail.id}</h1>
      <p className="note" role="status">
        Its first values come in. None is judged yet; what is expected of it has to be learned.
      </p>
      <div className="charts">
        {[...detail.live].map(([sensor, trace]) => (
          <SensorChart key={sensor} sensor={sensor} windows={none} step={5e6} marks={none} trace={trace} now={now} />
        ))}
      </div>
    </>
  );
}

function Loading({ id }: { id: string }) {
  return (
    <>
      <h1>{id}</h1>
      <div className="skeletons charts" role="status" aria-label="Loading">
        {Array.from({ length: 6 }, (_, i) => (
          <span key={i} className="skeleton" />
        ))}
      </div>
    </>
  );
}

function Known({ data, detail, query }: { data: Data; detail: Detail; query: URLSearchParams }) {
  const now = useNow() + data.skew;
  const [range, setRange] = useState<number>(180);
  const [filter, setFilter] = useState("");
  const row = detail.row;
  const windows = useMemo(() => detail.windows.slice(-range), [detail.windows, range]);
  // Of a replayed file with a row each five minutes, windows are five minutes apart.
  const step = useMemo(() => spacing(detail.windows), [detail.windows]);
  const open = detail.alerts.filter((a) => !isClosed(a));
  const marks = useMemo(() => episodes(detail.anomalies, detail.alerts), [detail.anomalies, detail.alerts]);
  const names = useSensorOrder(detail);
  const history = useFeature("history");
  const span = useSpan(query);
  const past = usePast(detail.id, history ? span : undefined);
  const anchor = row?.t ? Math.round(row.t / 1000) : Math.round(now);
  const liveSpan = { from: anchor - (range * step) / 1000, to: anchor };
  const zoom = (s: Span | undefined) => setQuery({ from: s ? String(Math.round(s.from)) : "", to: s ? String(Math.round(s.to)) : "" });
  const out = () => zoom(zoomed(span ?? liveSpan, 4));
  useShortcuts(
    "Machine",
    history
      ? [
          { keys: "-", label: "Zoom out, into the past", run: out },
          { keys: "+", label: "Zoom in", run: () => zoom(zoomed(span ?? liveSpan, 0.25)) },
          { keys: "ArrowLeft", label: "Earlier", run: () => zoom(panned(span ?? liveSpan, -0.5)) },
          { keys: "ArrowRight", label: "Later", run: () => span && zoom(panned(span, 0.5)) },
          { keys: "l", label: "Live", run: () => zoom(undefined) },
        ]
      : [],
  );
  if (!row) return null;
  const state = stateName(row.st);
  const shown = names.filter((n) => n.toLowerCase().includes(filter.trim().toLowerCase()));
  return (
    <>
      <div className={`machinehead s-${state}`}>
        <StateIcon state={state} size={30} />
        <div className="title">
          <h1>{row.id}</h1>
          <p>
            <b className="statename">{stateLabel[state]}</b>
            {(row.si || row.li || row.gr) && <span>{[row.si && `site ${row.si}`, row.li && `line ${row.li}`, row.gr].filter(Boolean).join(" · ")}</span>}
            {row.gw && <span>via {row.gw}</span>}
            {windows.at(-1)?.regime && <span className="regime">regime {windows.at(-1)?.regime}</span>}
            <span>{detail.sensorsTotal === 1 ? "1 sensor" : `${count(detail.sensorsTotal)} sensors`}</span>
            {row.t > 0 && (
              <span>
                data until {eventTime(row.t, now)}
                {Math.abs(now - row.t / 1000) < 43_200_000 ? ` (${ago(row.t / 1000, now)})` : ""}
              </span>
            )}
          </p>
        </div>
        <ScoreStrip windows={windows} />
        <div className="bigscore" title="Calibrated score: 1 - p-value. Higher is more unusual.">
          <span className="value">{scoreText(row.sc)}</span>
          <span className="gauge">
            <span className="fill" style={{ transform: `scaleX(${Math.min(1, surprise(row.sc) / surpriseMax)})` }} />
          </span>
          <span className="odds">{odds(row.sc) === "usual" ? "nothing unusual" : odds(row.sc)}</span>
        </div>
      </div>
      {state === "silent" && (
        <p className="note s-silent">
          <StateIcon state="silent" /> Nothing is heard of this machine. What is shown is its last known state; alerts stay as they were.
        </p>
      )}
      {state === "learning" && (
        <p className="note s-learning">
          <StateIcon state="learning" /> The baselines are still being learned: scores are not trusted yet.
        </p>
      )}
      {open.length > 0 && (
        <ul className="alertlist" aria-label="Open alerts">
          {open.map((a) => (
            <AlertCard key={a.alert_id} alert={a} skew={data.skew} unfolded />
          ))}
        </ul>
      )}
      <div className="tools charttools">
        <h2>Sensors</h2>
        {names.length > 8 && (
          <label className="search">
            <Icon name="search" />
            <input type="search" placeholder="Find a sensor" aria-label="Find a sensor" value={filter} onChange={(e) => setFilter(e.target.value)} />
          </label>
        )}
        {detail.sensorsTotal > names.length && <span className="found">the {names.length} most unusual of {count(detail.sensorsTotal)}</span>}
        <Legend />
        <div className="seg" role="group" aria-label="Span shown">
          {spans.map((n) => (
            <button key={n} type="button" aria-pressed={!past && range === n} onClick={() => (setRange(n), zoom(undefined))}>
              {duration((n * step) / 1000)}
            </button>
          ))}
          {history &&
            pasts.map(({ label, ms }) => (
              <button key={label} type="button" aria-pressed={past !== undefined && span !== undefined && span.to - span.from === ms} onClick={() => zoom({ from: anchor - ms, to: anchor })}>
                {label}
              </button>
            ))}
        </div>
        {history && (
          <div className="views" role="group" aria-label="Move in time">
            <button type="button" className="ghost" aria-label="Earlier" title="Earlier (←)" onClick={() => zoom(panned(span ?? liveSpan, -0.5))}>
              <Icon name="back" />
            </button>
            <button type="button" className="ghost" aria-label="Later" title="Later (→)" disabled={!past} onClick={() => span && zoom(panned(span, 0.5))}>
              <Icon name="chevron" />
            </button>
            <button type="button" className="ghost" aria-label="Zoom out" title="Zoom out (-), or double click on a chart" onClick={out}>
              <Icon name="minus" />
            </button>
            <button type="button" className="ghost" aria-label="Zoom in" title="Zoom in (+), or draw over a chart" onClick={() => zoom(zoomed(span ?? liveSpan, 0.25))}>
              <Icon name="plus" />
            </button>
          </div>
        )}
      </div>
      {past && span && (
        <p className="note past" role="status">
          <b>
            {eventTime(span.from * 1000, now)} – {eventTime(span.to * 1000, now)}
          </b>{" "}
          from the lake{past.failed && `: ${past.failed}`}
          <button type="button" className="primary" onClick={() => zoom(undefined)}>
            Live
          </button>
        </p>
      )}
      {past && span ? (
        <div className="charts">
          {shown.map((n) => (
            <PastChart key={n} id={detail.id} sensor={n} span={span} bands={past.bands} marks={past.marks} onZoom={(a, b) => zoom({ from: a * 1000, to: b * 1000 })} onZoomOut={out} />
          ))}
        </div>
      ) : windows.length === 0 && detail.live.size === 0 ? (
        <div className="empty">
          <p>No recent windows of this machine.</p>
        </div>
      ) : (
        <div className="charts">
          {shown.map((n) => (
            <SensorChart key={n} sensor={n} windows={windows} step={step} marks={marks} trace={detail.live.get(n)} now={now} {...(history && { onZoom: (a: number, b: number) => zoom({ from: a * 1000, to: b * 1000 }), onZoomOut: out })} />
          ))}
        </div>
      )}
      <CoverageLine id={detail.id} />
      <Anomalies list={detail.anomalies} known={new Set(detail.alerts.map((a) => a.alert_id))} now={now} />
    </>
  );
}

const pasts = [
  { label: "1 h", ms: 3_600_000 },
  { label: "6 h", ms: 6 * 3_600_000 },
  { label: "1 d", ms: 86_400_000 },
  { label: "7 d", ms: 7 * 86_400_000 },
  { label: "30 d", ms: 30 * 86_400_000 },
];

/** The span in the address, the same object for as long as it is the same. */
function useSpan(query: URLSearchParams): Span | undefined {
  const s = spanOf(query);
  const key = s ? `${s.from}-${s.to}` : "";
  return useMemo(() => s, [key]);
}

interface PastOfMachine {
  bands: Bands | undefined;
  marks: Mark[];
  failed: string;
}

const none: never[] = [];

/** What all charts of a span share. */
function usePast(id: string, span: Span | undefined): PastOfMachine | undefined {
  const key = span ? `${id} ${span.from} ${span.to}` : "";
  const bands = useLoad<Bands | undefined>(`bands ${key}`, async (signal) => (span ? loadBands(id, span, signal) : undefined));
  const marks = useLoad<Mark[]>(`marks ${key}`, async (signal) => (span ? loadEpisodes(id, span, signal) : none));
  if (!span) return undefined;
  return { bands: bands.value, marks: marks.value ?? none, failed: (marks.error ?? bands.error)?.message ?? "" };
}

/** "0.52 to 3.1 in this time". */
function extent(data: Columns): string {
  const of = (k: number, pick: (...v: number[]) => number) => (data[k] as (number | null)[]).reduce<number | null>((m, v) => (v === null ? m : m === null ? v : pick(m, v)), null);
  return `${num(of(2, Math.min))} to ${num(of(3, Math.max))} in this time`;
}

/** One sensor's chart of a span, loaded once it is in sight. */
function PastChart({ id, sensor, span, bands, marks, onZoom, onZoomOut }: { id: string; sensor: string; span: Span; bands: Bands | undefined; marks: Mark[]; onZoom(a: number, b: number): void; onZoomOut(): void }) {
  const box = useRef<HTMLDivElement>(null);
  const [seen, setSeen] = useState(false);
  useEffect(() => {
    const watch = new IntersectionObserver((e) => e.some((x) => x.isIntersecting) && setSeen(true), { rootMargin: "200px" });
    if (box.current) watch.observe(box.current);
    return () => watch.disconnect();
  }, []);
  const series = useLoad(`${seen} ${id} ${sensor} ${span.from} ${span.to}`, async (signal) => (seen ? loadSeries(id, sensor, span, signal) : undefined));
  const mine = bands?.get(sensor);
  const data = useMemo(() => series.value && withBands(series.value, span, mine), [series.value, span, mine]);
  const note = series.error ? series.error.message : !series.value ? "loading" : series.value[0].length === 0 ? "nothing in the lake" : extent(series.value);
  return (
    <div ref={box} className={series.value ? "" : "waiting"}>
      <SensorChart sensor={sensor} windows={[]} step={5e6} marks={marks} past={{ ...span, data, note }} onZoom={onZoom} onZoomOut={onZoomOut} />
    </div>
  );
}

/** The machine's score, window by window, on the logarithmic scale of the gauge. */
function ScoreStrip({ windows }: { windows: Window[] }) {
  if (windows.length < 2) return null;
  const pitch = 1000 / windows.length;
  return (
    <svg className="strip" viewBox="0 0 1000 40" preserveAspectRatio="none" role="img" aria-label="Score over time">
      {windows.map((w, i) => {
        const h = 1.5 + 38.5 * Math.min(1, surprise(w.score) / surpriseMax);
        return (
          <rect
            key={w.start_us}
            className={w.learning ? "dim" : h > 24 ? "high" : ""}
            x={(i * pitch).toFixed(1)}
            width={Math.max(1, pitch - 1).toFixed(1)}
            y={(40 - h).toFixed(1)}
            height={h.toFixed(1)}
          />
        );
      })}
    </svg>
  );
}

/** The record's order, then what no window has yet, but sensors that an open alert blames come first. */
function useSensorOrder(detail: Detail): string[] {
  const judged = detail.windows.at(-1)?.sensors.map((s) => s.sensor) ?? [];
  // Of a wide machine only some are charted, and no others come live.
  const key = JSON.stringify(detail.sensorsTotal > judged.length ? judged : [...new Set([...judged, ...detail.live.keys()])]);
  return useMemo(() => {
    const blame = new Map<string, number>();
    for (const a of detail.alerts) {
      if (isClosed(a)) continue;
      for (const c of a.contributions) blame.set(c.sensor, Math.max(blame.get(c.sensor) ?? 0, c.share ?? 0));
    }
    const names = JSON.parse(key) as string[];
    return names.map((n, i) => ({ n, i })).sort((a, b) => (blame.get(b.n) ?? 0) - (blame.get(a.n) ?? 0) || a.i - b.i).map((x) => x.n);
  }, [key, detail.alerts]);
}

function Legend() {
  return (
    <span className="legend" aria-hidden="true">
      <span>
        <i className="k-mean" /> mean
      </span>
      <span>
        <i className="k-live" /> not judged yet
      </span>
      <span>
        <i className="k-range" /> min–max
      </span>
      <span>
        <i className="k-band" /> expected
      </span>
      <span>
        <i className="k-mark" /> anomaly
      </span>
    </span>
  );
}

const phases: Record<string, string> = { PHASE_STARTED: "started", PHASE_ONGOING: "ongoing", PHASE_ENDED: "ended" };

function Anomalies({ list, known, now }: { list: Anomaly[]; known: Set<string>; now: number }) {
  const latest = [...list].reverse().slice(0, 20);
  return (
    <section className="anomalies">
      <h2>Last reports</h2>
      {latest.length === 0 ? (
        <p className="hint">No anomaly has been reported.</p>
      ) : (
        <div className="scroll" tabIndex={0} role="region" aria-label="Last reports">
          <table>
            <thead>
              <tr>
                <th>Time</th>
                <th>Cause</th>
                <th>Phase</th>
                <th className="r">Score</th>
                <th>Report</th>
              </tr>
            </thead>
            <tbody>
              {latest.map((a) => (
                <tr key={a.anomaly_id}>
                  <td className="t">{eventTime(a.observed_us, now)}</td>
                  <td className={`s-${severity(a.severity) === "info" ? "learning" : severity(a.severity)}`}>
                    <span className="withicon">
                      <SeverityIcon severity={severity(a.severity)} size={13} /> {causeName(a.cause)}
                    </span>
                  </td>
                  <td>{phases[a.phase] ?? ""}</td>
                  <td className="r">{scoreText(a.score)}</td>
                  <td className="text">{known.has(a.episode_id) ? <a href={href("alerts", [a.episode_id])}>{a.summary || "Alert"}</a> : a.summary}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
    </section>
  );
}
