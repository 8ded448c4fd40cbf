import { useMemo, useState } from "react";
import { AlertCard } from "./alerts";
import { episodes, SensorChart, spacing } from "./chart";
import { useNow } from "./clock";
import { ago, causeName, count, eventTime, odds, scoreText, span, surprise, surpriseMax } from "./format";
import { Icon, SeverityIcon, StateIcon, stateLabel } from "./icons";
import { isClosed, severity, stateName, type Anomaly, type Window } from "./model";
import type { Data, Detail } from "./store";
import type { ViewProps } from "./view";

/** How many windows are shown; live windows are 5 s apart, so these are 2, 5 and 15 minutes. */
const spans = [24, 60, 180] as const;

export function MachinePage({ data, params }: ViewProps) {
  const id = params[0] ?? "";
  const detail = data.detail?.id === id ? data.detail : undefined;
  return (
    <div className="machinepage">
      <a className="back" href="#/">
        <Icon name="back" /> Fleet
      </a>
      {!detail || detail.row === undefined ? (
        <Loading id={id} />
      ) : detail.row === null ? (
        <>
          <h1>{id}</h1>
          <div className="empty">
            <p>Nothing has been heard of this machine.</p>
            <p className="hint">If it reports, it appears here by itself.</p>
          </div>
        </>
      ) : (
        <Known data={data} detail={detail} />
      )}
    </div>
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

function Known({ data, detail }: { data: Data; detail: Detail }) {
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
            {row.gw && <span>via {row.gw}</span>}
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
            <button key={n} type="button" aria-pressed={range === n} onClick={() => setRange(n)}>
              {span((n * step) / 1000)}
            </button>
          ))}
        </div>
      </div>
      {windows.length === 0 ? (
        <div className="empty">
          <p>No recent windows of this machine.</p>
        </div>
      ) : (
        <div className="charts">
          {shown.map((n) => (
            <SensorChart key={n} sensor={n} windows={windows} step={step} marks={marks} />
          ))}
        </div>
      )}
      <Anomalies list={detail.anomalies} now={now} />
    </>
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

/** The record's order, but sensors that an open alert blames come first. */
function useSensorOrder(detail: Detail): string[] {
  const key = JSON.stringify(detail.windows.at(-1)?.sensors.map((s) => s.sensor) ?? []);
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

function Anomalies({ list, now }: { list: Anomaly[]; now: number }) {
  const latest = [...list].reverse().slice(0, 20);
  return (
    <section className="anomalies">
      <h2>Last reports</h2>
      {latest.length === 0 ? (
        <p className="hint">No anomaly has been reported.</p>
      ) : (
        <div className="scroll">
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
                  <td className="text">{a.summary}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
    </section>
  );
}
