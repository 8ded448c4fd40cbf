import { useRef, useState } from "react";
import { ApiError } from "./api";
import { type Checked, checkNow, type Finding, type Found, getFound, getJobs, type Job, type Jobs } from "./checksapi";
import { useNow } from "./clock";
import { ago, count, eventTime, num, span } from "./format";
import { StateIcon } from "./icons";
import { useShortcuts } from "./keys";
import { useLoad } from "./load";
import { href, setQuery } from "./route";
import { useFeature } from "./session";
import type { Data } from "./store";
import type { ViewProps } from "./view";
import { Waiting } from "./waiting";

const jobsEveryMs = 10_000;
const findingsEveryMs = 30_000;
const pageSize = 50;
const mostFound = 1000;
const hourMs = 3_600_000;

const stretches = [
  { days: 1, label: "1 day" },
  { days: 7, label: "7 days" },
  { days: 30, label: "30 days" },
  { days: 0, label: "all that is kept" },
];

const sources = [
  { value: "sensor_mean", label: "a sensor's mean" },
  { value: "sensor_sum", label: "a sensor's sum" },
  { value: "sensor_count", label: "a sensor's count of values" },
];

/** A time as milliseconds; 0 where there is none (Go's zero time is of the year 1). */
const ms = (iso: string | undefined) => Math.max(0, iso ? Date.parse(iso) || 0 : 0);
const when = (iso: string | undefined, now: number) => eventTime(ms(iso) * 1000, now);

/** What scheduled checks are there, how they do, what they found; and a check at once. */
export function ChecksPage({ data, query }: ViewProps) {
  const there = useFeature("history");
  const jobs = useLoad<Jobs | undefined>(there ? "jobs" : "", (s) => (there ? getJobs(s) : Promise.resolve(undefined)), jobsEveryMs);
  const now = useNow() + data.skew;
  return (
    <div className="checkspage">
      <div className="pagehead">
        <h1>Checks</h1>
        <p className="hint">Hourly figures of the lake against what is usual at their hour, on a schedule.</p>
      </div>
      {!there ? (
        <div className="empty">
          <p>No historical-api stands behind this page (realtime_api.backends.historical_api).</p>
        </div>
      ) : (
        <>
          <JobsCard jobs={jobs.value} error={jobs.error} again={jobs.again} now={now} />
          <div className="checksgrid">
            <CheckNow jobs={jobs.value?.jobs ?? []} now={now} />
            <Findings data={data} jobs={jobs.value?.jobs ?? []} query={query} now={now} />
          </div>
        </>
      )}
    </div>
  );
}

const troubled = (j: Job) => j.state === "failing" || j.state === "late" || j.skipped > 0;

function JobsCard({ jobs, error, again, now }: { jobs: Jobs | undefined; error: ApiError | undefined; again(): void; now: number }) {
  if (!jobs) {
    return <Waiting error={error} again={again} />;
  }
  if (jobs.jobs.length === 0) {
    return (
      <div className="empty">
        <p>No check is scheduled.</p>
        <p className="hint">
          <code>historical_api.checks.jobs</code> names them: <code>{"- {name: sensors}"}</code> checks every sensor's hourly mean.
        </p>
      </div>
    );
  }
  return (
    <section className="card jobs" aria-label="Jobs">
      <div className="cardhead">
        <h2>Jobs</h2>
        <p className="hint" role="status">
          {jobs.runner ? `run by ${jobs.runner}` : "nobody runs them now"}
          {jobs.alerts_waiting > 0 && `, ${count(jobs.alerts_waiting)} alerts wait for Kafka${jobs.alerts_problem ? `: ${jobs.alerts_problem}` : ""}`}
          {error && "; the historical-api does not answer: last known state"}
        </p>
      </div>
      <div className="scroll" tabIndex={0} role="group" aria-label="Jobs, a table">
        <table>
          <thead>
            <tr>
              <th scope="col">Job</th>
              <th scope="col">State</th>
              <th scope="col">Last run</th>
              <th scope="col">Next run</th>
              <th scope="col">Missed</th>
              <th scope="col">Hours judged</th>
              <th scope="col">Missing</th>
              <th scope="col">Too little history</th>
              <th scope="col">Found</th>
            </tr>
          </thead>
          <tbody>
            {jobs.jobs.map((j) => (
              <JobRow key={j.name} j={j} now={now} />
            ))}
          </tbody>
        </table>
      </div>
    </section>
  );
}

function JobRow({ j, now }: { j: Job; now: number }) {
  const r = j.result;
  const next = ms(j.next);
  return (
    <tr className={`job ${j.state} ${troubled(j) ? "off" : ""}`}>
      <th scope="row">
        {j.name}
        <i>
          {j.schedule}, {j.time_zone}
        </i>
      </th>
      <td>
        <span className={`chip jobstate ${j.state}`}>{j.state}</span>
        {j.error && <p className="problem">{j.error}</p>}
        {r?.note && <p className="hint">{r.note}</p>}
      </td>
      <td>
        {j.last ? (
          <>
            {ago(ms(j.last.started), now)}, {num(j.last.seconds)} s
            {!j.last.ok && (
              <i>
                failed {count(j.last.failures)} times in a row{ms(j.last.ok_at) > 0 && `, well ${ago(ms(j.last.ok_at), now)}`}
              </i>
            )}
          </>
        ) : (
          "never"
        )}
      </td>
      <td>
        {next === 0 ? "–" : next > now ? `in ${span(next - now)}` : "now"}
        {j.due > 0 && <i>{count(j.due)} due</i>}
      </td>
      <td className="n">{count(j.skipped)}</td>
      <td className="n">{r ? count(r.judged) : "–"}</td>
      <td className="n">{r ? count(r.missing) : "–"}</td>
      <td className="n">{r ? count(r.not_enough_history) : "–"}</td>
      <td className="n">{r ? `${count(r.findings)}${r.critical > 0 ? `, ${count(r.critical)} critical` : ""}` : "–"}</td>
    </tr>
  );
}

/** What a finding says in figures. */
function figures(f: Finding): string {
  if (f.kind === "shape") return `as like the usual day as ${num(f.similarity)}; usually ${num(f.usual)}`;
  return `${num(f.observed)}, expected ${num(f.expected)}${f.deviation ? ` ± ${num(f.deviation)}` : ""}`;
}

const hours = (f: Finding) => Math.round((ms(f.to) - ms(f.from)) / hourMs);

function Findings({ data, jobs, query, now }: { data: Data; jobs: Job[]; query: URLSearchParams; now: number }) {
  const days = Number(query.get("days") ?? 7) || 0;
  const wanted = { job: query.get("job") ?? "", entity: query.get("entity") ?? "", metric: query.get("metric") ?? "", kind: query.get("kind") ?? "", severity: query.get("severity") ?? "" };
  const key = JSON.stringify([wanted, days]);
  const [limit, setLimit] = useState({ key, n: pageSize });
  const n = limit.key === key ? limit.n : pageSize;
  const { value, error, again } = useLoad(
    `${key} ${n}`,
    (s) => getFound({ ...wanted, from: days > 0 ? new Date(Math.floor((Date.now() + data.skew) / hourMs) * hourMs - days * 24 * hourMs).toISOString() : "" }, n, s),
    findingsEveryMs,
  );
  const find = useRef<HTMLInputElement>(null);
  useShortcuts("Checks", [{ keys: "/", label: "Find by metric", run: () => find.current?.focus() }]);
  return (
    <section className="card findings" aria-label="Findings">
      <div className="cardhead">
        <h2>Findings</h2>
        <div className="seg" role="group" aria-label="How grave">
          {["", "warning", "critical"].map((s) => (
            <button key={s} type="button" aria-pressed={wanted.severity === s} onClick={() => setQuery({ severity: s })}>
              {s || "all"}
            </button>
          ))}
        </div>
      </div>
      <form className="filters" role="search" aria-label="Findings" onSubmit={(e) => e.preventDefault()}>
        <label>
          <span>Metric</span>
          <input ref={find} type="search" maxLength={128} value={wanted.metric} onChange={(e) => setQuery({ metric: e.target.value })} placeholder="all" />
        </label>
        <label>
          <span>Machine or entity</span>
          <input type="search" maxLength={128} value={wanted.entity} onChange={(e) => setQuery({ entity: e.target.value })} placeholder="all" />
        </label>
        <label>
          <span>Job</span>
          <select value={wanted.job} onChange={(e) => setQuery({ job: e.target.value })}>
            <option value="">all</option>
            {jobs.map((j) => (
              <option key={j.name} value={j.name}>
                {j.name}
              </option>
            ))}
          </select>
        </label>
        <label>
          <span>Kind</span>
          <select value={wanted.kind} onChange={(e) => setQuery({ kind: e.target.value })}>
            <option value="">both</option>
            <option value="volume">volume: hours</option>
            <option value="shape">shape: a day's course</option>
          </select>
        </label>
        <label>
          <span>The last</span>
          <select value={days} onChange={(e) => setQuery({ days: e.target.value === "7" ? "" : e.target.value })}>
            {stretches.map((s) => (
              <option key={s.days} value={s.days}>
                {s.label}
              </option>
            ))}
          </select>
        </label>
      </form>
      {!value ? (
        <Waiting error={error} again={again} />
      ) : value.anomalies.length === 0 ? (
        <div className="empty">
          <StateIcon state="ok" size={30} />
          <p>Nothing unusual was found.</p>
        </div>
      ) : (
        <>
          {error && (
            <p className="hint" role="status">
              {error.message} What is shown was found before.
            </p>
          )}
          <ul>
            {value.anomalies.map((f) => (
              <FoundRow key={f.id} f={f} known={data.rows.has(f.entity)} now={now} />
            ))}
          </ul>
          {value.next && n < mostFound && (
            <button type="button" onClick={() => setLimit({ key, n: Math.min(mostFound, n * 4) })}>
              More
            </button>
          )}
        </>
      )}
    </section>
  );
}

function FoundRow({ f, known, now }: { f: Found; known: boolean; now: number }) {
  // A day before and one after, so that what is usual is in sight.
  const past = { from: String(ms(f.from) - 24 * hourMs), to: String(Math.min(Date.now(), ms(f.to) + 24 * hourMs)) };
  return (
    <li className={`finding s-${f.severity === "critical" ? "critical" : "warning"} ${f.over ? "over" : ""}`}>
      <StateIcon state={f.severity === "critical" ? "critical" : "warning"} />
      <div>
        <p>
          {known ? <a href={href("machine", [f.entity], past)}>{f.entity}</a> : <b>{f.entity}</b>} <b>{f.metric}</b>
        </p>
        <p>{f.summary || figures(f)}</p>
        <p className="hint">
          {f.kind}, {when(f.from, now)}, {hours(f)} h, {num(f.z)} deviations, job {f.job}
          {f.over ? ", over" : ""}
          {f.alert && (
            <>
              , <a href={href("alerts", [f.id])}>{f.alert === "open" ? "alert open" : "alert ended"}</a>
            </>
          )}
        </p>
      </div>
    </li>
  );
}

const verdicts: Record<Checked["verdict"], string> = {
  usual: "As usual.",
  warning: "Unusual.",
  critical: "Very unusual.",
  "not enough history": "Not enough history to judge by.",
  "no figures": "There are no figures.",
};

/** One series, judged at once. */
function CheckNow({ jobs, now }: { jobs: Job[]; now: number }) {
  const [entity, setEntity] = useState("");
  const [metric, setMetric] = useState("");
  const [of, setOf] = useState("sensor_mean");
  const [back, setBack] = useState(24);
  const [busy, setBusy] = useState(false);
  const [got, setGot] = useState<{ entity: string; metric: string; answer: Checked }>();
  const [wrong, setWrong] = useState("");
  const first = useRef<HTMLInputElement>(null);
  useShortcuts("Check now", [{ keys: "n", label: "Check something now", run: () => first.current?.focus() }]);
  const submit = async (e: React.FormEvent) => {
    e.preventDefault();
    setBusy(true);
    setWrong("");
    setGot(undefined);
    try {
      const job = of.startsWith("job ") ? of.slice(4) : "";
      setGot({ entity, metric, answer: await checkNow(entity, metric, job ? { job } : { source: of }, back) });
    } catch (err) {
      setWrong(err instanceof ApiError ? err.message : String(err));
    } finally {
      setBusy(false);
    }
  };
  const a = got?.answer;
  return (
    <form className="card benchform checknow" aria-label="Check now" onSubmit={(e) => void submit(e)}>
      <h2>Check now</h2>
      <label>
        <span>Machine or entity</span>
        <input ref={first} required maxLength={128} value={entity} onChange={(e) => setEntity(e.target.value)} />
      </label>
      <label>
        <span>Sensor or metric</span>
        <input required maxLength={128} value={metric} onChange={(e) => setMetric(e.target.value)} />
      </label>
      <div className="pair">
        <label>
          <span>Figures</span>
          <select value={of} onChange={(e) => setOf(e.target.value)}>
            {sources.map((s) => (
              <option key={s.value} value={s.value}>
                {s.label}
              </option>
            ))}
            {jobs.map((j) => (
              <option key={j.name} value={`job ${j.name}`}>
                job {j.name}
              </option>
            ))}
          </select>
        </label>
        <label>
          <span>The last</span>
          <select value={back} onChange={(e) => setBack(Number(e.target.value))}>
            <option value={24}>24 hours</option>
            <option value={72}>3 days</option>
            <option value={168}>7 days</option>
            <option value={336}>14 days</option>
          </select>
        </label>
      </div>
      <button type="submit" className="primary" disabled={busy}>
        {busy ? "Checking…" : "Check"}
      </button>
      <div className="checked" role="status">
        {wrong && <p className="problem">{wrong}</p>}
        {got && a && (
          <>
            <p className={`verdictline v-${a.verdict.replaceAll(" ", "-")}`}>
              <b>{verdicts[a.verdict] ?? a.verdict}</b> {got.entity}, {got.metric}
            </p>
            <p className="hint">
              {when(a.from, now)} to {when(a.to, now)}: {count(a.judged)} hours judged, {count(a.missing)} missing, {count(a.not_enough_history)} with too little history
              {a.off > 0 && `, ${count(a.off)} of holidays`}. Nothing is kept or told.
            </p>
            <ul>
              {a.findings.map((f) => (
                <li key={`${f.kind} ${f.from}`}>
                  <b>{f.severity}</b> {f.kind}, {when(f.from, now)}, {hours(f)} h: {figures(f)}
                </li>
              ))}
            </ul>
          </>
        )}
      </div>
    </form>
  );
}
