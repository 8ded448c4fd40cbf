import { get } from "./api";
import { useNow } from "./clock";
import { ago, count, num, span } from "./format";
import { useLoad } from "./load";
import type { ViewProps } from "./view";

// What /v1/health/pipeline answers; see openapi.yaml.
interface Hop {
  hop: string;
  count: number;
  p50_ms: number;
  p90_ms: number;
  p99_ms: number;
  max_ms: number;
  target_ms: number;
}

interface Health {
  at_ms: number;
  hops: Hop[];
  backlog_at_ms: number;
  lags: { group: string; topic: string; records: number; members: number }[];
  dead_letters: { topic: string; records: number }[];
  services: { service: string; ready: boolean; reason: string; took_ms: number }[];
  rates: { windows_per_second: number; anomaly_reports_per_second: number };
  log_time_ms: number;
  caught_up: boolean;
}

const everyMs = 3000;
const staleMs = 60_000;

const hops: Record<string, { name: string; what: string }> = {
  gathered: { name: "Gathered", what: "a window's end to the frame that closed it, in Kafka; holds the lateness that is allowed" },
  judged: { name: "Judged", what: "that frame to the window's judgement" },
  reported: { name: "Reported", what: "the frame to the report of its anomaly" },
  routed: { name: "Routed", what: "the report to the alert" },
  delivered: { name: "Delivered", what: "a window in Kafka to the API" },
  shown: { name: "Shown", what: "the frame to the message that tells this page" },
};

const time = (t: number) => (t < 1000 ? `${count(t)} ms` : t < 60_000 ? `${+(t / 1000).toFixed(1)} s` : span(t));

/** What stands in the way of a page, in words; nothing does when it is empty. */
function troubles(h: Health): string[] {
  const out: string[] = [];
  for (const s of h.services) if (!s.ready) out.push(`${s.service} is not ready${s.reason ? `: ${s.reason}` : ""}.`);
  for (const p of h.hops) if (p.count > 0 && p.target_ms > 0 && p.p99_ms > p.target_ms) out.push(`${hops[p.hop]?.name ?? p.hop} takes ${time(p.p99_ms)} for 1 in 100; ${time(p.target_ms)} is the target.`);
  for (const l of h.lags) if (l.members === 0 && l.records > 0) out.push(`Nobody works for ${l.group}; ${count(l.records)} records of ${l.topic} wait.`);
  for (const d of h.dead_letters) if (d.records > 0) out.push(`${count(d.records)} records are set aside in ${d.topic}.`);
  if (!h.caught_up) out.push("The API is still reading the past: what is shown is not the present yet.");
  return out;
}

/** How Tocsin itself does: how long each hop takes, what waits, what was set aside, who is ready. */
export function HealthPage({ data }: ViewProps) {
  const now = useNow() + data.skew;
  const { value: h, error, again } = useLoad("pipeline", (s) => get<Health>("/v1/health/pipeline", {}, s), everyMs);
  return (
    <div className="healthpage">
      <div className="pagehead">
        <h1>Health</h1>
        {h && (
          <p className="hint">
            {num(h.rates.windows_per_second)} windows and {num(h.rates.anomaly_reports_per_second)} reports a second
            {h.log_time_ms > 0 && `, the newest record ${ago(h.log_time_ms, now)}`}
            {error && `; the server does not answer, as of ${ago(h.at_ms, now)}`}
          </p>
        )}
      </div>
      {!h ? (
        error ? (
          <div className="empty">
            <p>{error.message}</p>
            <button type="button" onClick={again}>
              Try again
            </button>
          </div>
        ) : (
          <div className="skeletons wide" role="status" aria-label="Loading">
            <span className="skeleton" />
            <span className="skeleton" />
            <span className="skeleton" />
          </div>
        )
      ) : (
        <Known h={h} now={now} />
      )}
    </div>
  );
}

function Known({ h, now }: { h: Health; now: number }) {
  const wrong = troubles(h);
  const letters = h.dead_letters.filter((d) => d.records > 0);
  return (
    <div className="healthgrid">
      <section className={`card whole ${wrong.length > 0 ? "cautions" : "well"}`} role="status">
        {wrong.length === 0 ? (
          <p>
            <b>All is well.</b> Every service is ready, every hop within its target, nothing is set aside.
          </p>
        ) : (
          <>
            <h2>What needs a look</h2>
            <ul>
              {wrong.map((t) => (
                <li key={t}>{t}</li>
              ))}
            </ul>
          </>
        )}
      </section>
      <section className="card whole">
        <h2>How long each hop takes, over the last minute</h2>
        <div className="hops">
          {h.hops.map((p) => (
            <HopRow key={p.hop} p={p} />
          ))}
        </div>
      </section>
      <section className="card">
        <h2>Services</h2>
        <ul className="services">
          {h.services.map((s) => (
            <li key={s.service} className={s.ready ? "" : "off"}>
              <b>{s.service}</b>
              <span>{s.ready ? "ready" : "not ready"}</span>
              <span className="hint">{s.ready ? (s.took_ms > 0 ? `answered in ${s.took_ms} ms` : "") : s.reason}</span>
            </li>
          ))}
        </ul>
        <p className="hint">This one, and those that the page talks to.</p>
      </section>
      <section className="card">
        <h2>What waits</h2>
        {h.backlog_at_ms === 0 ? (
          <p className="hint">The brokers have not said yet.</p>
        ) : h.lags.length === 0 ? (
          <p className="hint">No consumer group is known.</p>
        ) : (
          <div className="scroll">
            <table className="sides lags">
              <thead>
                <tr>
                  <th scope="col">Group and topic</th>
                  <th scope="col">Records behind</th>
                  <th scope="col">At work</th>
                </tr>
              </thead>
              <tbody>
                {h.lags.map((l) => (
                  <tr key={`${l.group} ${l.topic}`} className={l.members === 0 && l.records > 0 ? "off" : ""}>
                    <th scope="row">
                      {l.group} <i>{l.topic}</i>
                    </th>
                    <td>{count(l.records)}</td>
                    <td>{count(l.members)}</td>
                  </tr>
                ))}
              </tbody>
            </table>
          </div>
        )}
        {h.backlog_at_ms > 0 && now - h.backlog_at_ms > staleMs && <p className="hint">The brokers said so {ago(h.backlog_at_ms, now)}.</p>}
      </section>
      <section className="card">
        <h2>Dead letters</h2>
        {letters.length === 0 ? (
          <p className="hint">{h.backlog_at_ms === 0 ? "The brokers have not said yet." : "None: every record could be processed."}</p>
        ) : (
          <>
            <ul className="services">
              {letters.map((d) => (
                <li key={d.topic} className="off">
                  <b>{d.topic}</b>
                  <span>{count(d.records)}</span>
                </li>
              ))}
            </ul>
            <p className="hint">
              <code>tocsin dlq list</code> says why, <code>tocsin dlq retry</code> gives them back.
            </p>
          </>
        )}
      </section>
    </div>
  );
}

const decades = [1, 10, 100, 1000, 10_000, 100_000];
/** Where a duration stands between 1 ms and 100 s, in percent of the width, logarithmic. */
const place = (t: number) => 20 * Math.log10(Math.max(1, Math.min(100_000, t)));

/** One hop on the scale that all share: half, most and nearly all of the records, and the target. */
function HopRow({ p }: { p: Hop }) {
  const h = hops[p.hop] ?? { name: p.hop, what: "" };
  const late = p.target_ms > 0 && p.p99_ms > p.target_ms;
  return (
    <div className={`hop ${late ? "late" : ""}`}>
      <div className="hopname">
        <b>{h.name}</b>
        <i>{h.what}</i>
      </div>
      <svg viewBox="0 0 100 14" preserveAspectRatio="none" aria-hidden="true">
        {decades.map((d) => (
          <rect key={d} x={place(d) - 0.1} y="0" width="0.2" height="14" className="tick" />
        ))}
        {p.count > 0 && (
          <>
            <rect x="0" y="5" width={Math.max(0.5, place(p.p99_ms))} height="4" className="p99" />
            <rect x="0" y="4" width={Math.max(0.5, place(p.p90_ms))} height="6" className="p90" />
            <rect x="0" y="3" width={Math.max(0.5, place(p.p50_ms))} height="8" className="p50" />
          </>
        )}
        {p.target_ms > 0 && <rect x={place(p.target_ms) - 0.25} y="0" width="0.5" height="14" className="target" />}
      </svg>
      <div className="hopfigures">
        {p.count === 0 ? (
          <span className="hint">nothing went this way</span>
        ) : (
          <>
            <span>
              <i>half within</i> {time(p.p50_ms)}
            </span>
            <span>
              <i>99 %</i> <b>{time(p.p99_ms)}</b>
              {p.target_ms > 0 && <i> of {time(p.target_ms)}</i>}
            </span>
            <span>
              <i>worst</i> {time(p.max_ms)}
            </span>
          </>
        )}
      </div>
    </div>
  );
}
