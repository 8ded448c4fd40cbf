import { useEffect, useState, type FormEvent } from "react";
import { ApiError } from "./api";
import { ApplyCard, Revisions } from "./applied";
import { useNow } from "./clock";
import { ago, causeName, count, eventTime, num, span } from "./format";
import { ms, us, verdictNames } from "./inboxapi";
import { useLoad } from "./load";
import { href, machineHref } from "./route";
import { useFeature } from "./session";
import { say } from "./toast";
import { beginTrial, cancelTrial, getSettings, getTrial, judgedAlerts, listTrials, type Settings, type Side, type Trial, type TrialResult } from "./tuningapi";
import type { ViewProps } from "./view";

const budgets = ["0.1", "0.25", "0.5", "1", "2", "4", "10"];
const stretches = [
  { days: 1, label: "1 day" },
  { days: 7, label: "7 days" },
  { days: 30, label: "30 days" },
  { days: 90, label: "90 days" },
];
const warmUps = [
  { value: "0s", label: "nothing" },
  { value: "1h", label: "1 hour" },
  { value: "24h", label: "1 day" },
  { value: "168h", label: "7 days" },
];
const dayMs = 86_400_000;

/** What a change of settings would have meant, before it is made. */
export function TuningPage({ data, params }: ViewProps) {
  const there = useFeature("tuning");
  const settings = useLoad(there ? "settings" : "", (s) => (there ? getSettings(s) : Promise.resolve(undefined)), there ? 5000 : 0);
  const id = params[0];
  return (
    <div className="tuningpage">
      <div className="pagehead">
        <h1>Tuning</h1>
        <p className="hint">What a change would have meant for the past, judged by the code that judges the stream. Nothing changes how machines are watched until somebody applies it.</p>
      </div>
      {!there ? (
        <div className="empty">
          <p>No tuning bench stands behind this page.</p>
          <p className="hint">
            Run <code>tuning-bench</code> beside the services and name it in <code>realtime_api.backends.tuning_bench</code>; <code>tocsin backtest --compare</code> does the same from the command line.
          </p>
        </div>
      ) : settings.error && !settings.value ? (
        <div className="empty">
          <p>{settings.error.message}</p>
          <button type="button" onClick={settings.again}>
            Try again
          </button>
        </div>
      ) : !settings.value ? (
        <div className="skeletons wide" role="status" aria-label="Loading">
          <span className="skeleton" />
          <span className="skeleton" />
        </div>
      ) : (
        <div className="bench">
          <Form key={settings.value.id ?? ""} settings={settings.value} />
          {id ? (
            <TrialView key={id} id={id} skew={data.skew} />
          ) : (
            <div className="trial">
              <Trials skew={data.skew} />
              <Revisions skew={data.skew} />
            </div>
          )}
        </div>
      )}
    </div>
  );
}

function Form({ settings }: { settings: Settings }) {
  const router = useFeature("router");
  const [machines, setMachines] = useState("");
  const [days, setDays] = useState(7);
  const [warmUp, setWarmUp] = useState("24h");
  const [budget, setBudget] = useState(String(settings.budget));
  const [warmUpWindows, setWarmUpWindows] = useState(String(settings.warm_up_windows));
  const [length, setLength] = useState(settings.window_length);
  const [detectors, setDetectors] = useState(settings.detectors);
  const [busy, setBusy] = useState(false);
  const [wrong, setWrong] = useState("");
  const known = settings.known_detectors.filter((d) => (d !== "champion" && d !== "shadow") || settings.detectors.includes(d));
  const toggle = (d: string) => setDetectors(detectors.includes(d) ? detectors.filter((x) => x !== d) : known.filter((x) => x === d || detectors.includes(x)));
  const detection: Record<string, unknown> = {};
  const calibrate: Record<string, unknown> = {};
  if (Number(budget) !== settings.budget) calibrate["budget"] = Number(budget);
  if (Number(warmUpWindows) !== settings.warm_up_windows) calibrate["warm_up"] = Number(warmUpWindows);
  if (Object.keys(calibrate).length > 0) detection["calibrate"] = calibrate;
  if (length.trim() !== settings.window_length) detection["window_length"] = length.trim();
  if (detectors.toSorted().join() !== settings.detectors.toSorted().join()) detection["detect"] = { detectors };
  const same = Object.keys(detection).length === 0;
  const submit = async (e: FormEvent) => {
    e.preventDefault();
    setBusy(true);
    setWrong("");
    const to = new Date();
    const from = new Date(to.getTime() - days * dayMs);
    try {
      const judged = router ? await judgedAlerts(from.toISOString(), to.toISOString()) : { alerts: [], partly: false };
      if (judged.partly) say("There are more judged alerts in that time than one trial takes: the newest are held against it.", true);
      const trial = await beginTrial({
        equipment: machines.split(/[\s,]+/).filter(Boolean),
        from: from.toISOString(),
        to: to.toISOString(),
        warm_up: warmUp,
        detection,
        alerts: judged.alerts,
      });
      location.hash = href("tuning", [trial.id]);
    } catch (e) {
      setWrong(e instanceof ApiError ? e.message : String(e));
    } finally {
      setBusy(false);
    }
  };
  return (
    <form className="card benchform" onSubmit={(e) => void submit(e)} aria-label="A trial">
      <h2>On which history</h2>
      <label>
        <span>Machines</span>
        <input value={machines} onChange={(e) => setMachines(e.target.value)} placeholder="all, or press-7, line-a-*" />
      </label>
      <div className="pair">
        <label>
          <span>The last</span>
          <select value={days} onChange={(e) => setDays(Number(e.target.value))}>
            {stretches.map((s) => (
              <option key={s.days} value={s.days}>
                {s.label}
              </option>
            ))}
          </select>
        </label>
        <label>
          <span>Learned from before</span>
          <select value={warmUp} onChange={(e) => setWarmUp(e.target.value)}>
            {warmUps.map((w) => (
              <option key={w.value} value={w.value}>
                {w.label}
              </option>
            ))}
          </select>
        </label>
      </div>
      <p className="hint">
        At most {count(settings.max_machines)} machines (of more, a sample) and {count(settings.max_samples)} samples. Judged beside the stream, on one processor.
      </p>
      <h2>What is proposed</h2>
      <label>
        <span>Budget: false pages of a machine per month (now {num(settings.budget)})</span>
        <input type="number" min="0.001" max="100000" step="any" required list="budgets" value={budget} onChange={(e) => setBudget(e.target.value)} />
        <datalist id="budgets">
          {budgets.map((b) => (
            <option key={b} value={b} />
          ))}
        </datalist>
      </label>
      <div className="pair">
        <label>
          <span>Windows to learn from first</span>
          <input type="number" min="1" step="1" required value={warmUpWindows} onChange={(e) => setWarmUpWindows(e.target.value)} />
        </label>
        <label>
          <span>Length of windows</span>
          <input required pattern="([0-9.]+(ms|s|m|h))+" title="Such as 5s or 1m" value={length} onChange={(e) => setLength(e.target.value)} />
        </label>
      </div>
      <fieldset className="choices">
        <legend>Detectors</legend>
        {known.map((d) => (
          <label key={d} className={settings.detectors.includes(d) ? "inuse" : ""}>
            <input type="checkbox" checked={detectors.includes(d)} onChange={() => toggle(d)} /> {d}
          </label>
        ))}
      </fieldset>
      {!router && <p className="hint">Without an alert-router behind this page nobody knows which past alerts were real: pages are counted only.</p>}
      <p className="wrong" role="alert">
        {wrong}
      </p>
      <button type="submit" className="primary" disabled={busy || same || detectors.length === 0}>
        {busy ? "Beginning…" : "Try it on the past"}
      </button>
      {same && <p className="hint">Change something first: this is what holds now.</p>}
    </form>
  );
}

function Trials({ skew }: { skew: number }) {
  const { value, error } = useLoad("trials", listTrials, 5000);
  const now = useNow() + skew;
  return (
    <section className="card">
      <h2>Last trials</h2>
      {error && !value && <p className="hint">{error.message}</p>}
      {value && value.trials.length === 0 && <p className="hint">None since the bench was started.</p>}
      <ul className="earlier">
        {value?.trials.map((t) => (
          <li key={t.id}>
            <a href={href("tuning", [t.id])}>{ago(ms(t.created_at), now)}</a>
            <span>{t.state === "running" ? `${Math.round(t.progress * 100)} %` : t.state}</span>
            <span className="hint">
              {t.request.equipment?.join(", ") || "all machines"}, {span(ms(t.request.to) - ms(t.request.from))}, {JSON.stringify(t.request.detection)}
            </span>
          </li>
        ))}
      </ul>
    </section>
  );
}

function TrialView({ id, skew }: { id: string; skew: number }) {
  const [ended, setEnded] = useState(false);
  const { value: t, error } = useLoad(`trial ${id}`, (s) => getTrial(id, s), ended ? 0 : 1000);
  useEffect(() => {
    if (t && t.state !== "running") setEnded(true);
  }, [t]);
  const cancel = () => void cancelTrial(id).catch((e: unknown) => say(`It could not be cancelled. ${e instanceof Error ? e.message : ""}`, true));
  if (!t) {
    return (
      <section className="card">
        <p className="hint" role="status">
          {error ? error.message : "Loading."}
        </p>
        <a href={href("tuning")}>Last trials</a>
      </section>
    );
  }
  return (
    <section className="trial" aria-label="Trial">
      <p className="trialhead">
        <a href={href("tuning")}>Last trials</a>
        <span className="hint">
          {t.request.equipment?.join(", ") || "all machines"}, {span(ms(t.request.to) - ms(t.request.from))} to {eventTime(us(t.request.to), Date.now() + skew)}
        </span>
      </p>
      {t.state === "running" && (
        <div className="card">
          <p role="status">The past is judged under both settings: {Math.round(t.progress * 100)} %</p>
          <progress value={t.progress} max={1} aria-label="Progress" />
          <button type="button" onClick={cancel}>
            Cancel
          </button>
          {error && <p className="hint">{error.message}</p>}
        </div>
      )}
      {t.state === "cancelled" && <p className="card">Cancelled.</p>}
      {t.state === "failed" && (
        <p className="card wrong" role="alert">
          {t.problem}
        </p>
      )}
      {t.result && <Outcome trial={t} r={t.result} />}
    </section>
  );
}

const rate = (s: Side) => num(s.pages_per_machine_month);

function Outcome({ trial, r }: { trial: Trial; r: TrialResult }) {
  const h = r.history;
  const gone = r.alerts.filter((a) => a.verdict !== "false" && a.before_delay_seconds !== null && a.after_delay_seconds === null);
  const saved = r.alerts.filter((a) => a.verdict === "false" && a.before_delay_seconds !== null && a.after_delay_seconds === null);
  const real = r.alerts.filter((a) => a.verdict !== "false").length;
  const wrong = r.alerts.length - real;
  const only = (where: "before" | "after") => r.pages.filter((p) => p.in === where);
  return (
    <>
      <p className="verdictline" role="status">
        {headline(r, gone.length, saved.length)}
      </p>
      <table className="card sides">
        <caption>Both settings over {span(h.observed_seconds * 1000)} of {count(h.machines)} {h.machines === 1 ? "machine" : "machines"}</caption>
        <thead>
          <tr>
            <th scope="col" />
            <th scope="col">Now</th>
            <th scope="col">Proposed</th>
          </tr>
        </thead>
        <tbody>
          <tr className="main">
            <th scope="row">Pages per machine and month</th>
            <td>{rate(r.before)}</td>
            <td>{rate(r.after)}</td>
          </tr>
          <tr>
            <th scope="row">true rate, 19 of 20</th>
            <td>
              {num(r.before.low)} – {num(r.before.high)}
            </td>
            <td>
              {num(r.after.low)} – {num(r.after.high)}
            </td>
          </tr>
          <tr>
            <th scope="row">Pages in all</th>
            <td>{count(r.before.pages)}</td>
            <td>{count(r.after.pages)}</td>
          </tr>
          <tr>
            <th scope="row">Real alerts found, of {count(real)} judged</th>
            <td>{count(r.before.real_found)}</td>
            <td>{count(r.after.real_found)}</td>
          </tr>
          <tr>
            <th scope="row">False alarms given again, of {count(wrong)}</th>
            <td>{count(r.before.false_paged)}</td>
            <td>{count(r.after.false_paged)}</td>
          </tr>
          <tr>
            <th scope="row">Median delay of what both find ({count(r.after.delays_compared)})</th>
            <td>{r.before.delays_compared ? delay(r.before.median_delay_seconds) : "–"}</td>
            <td>{r.after.delays_compared ? delay(r.after.median_delay_seconds) : "–"}</td>
          </tr>
        </tbody>
      </table>
      {h.cautions.length > 0 && (
        <div className="card cautions">
          <h2>Before you believe it</h2>
          <ul>
            {h.cautions.map((c) => (
              <li key={c}>{c}</li>
            ))}
          </ul>
        </div>
      )}
      {gone.length > 0 && <Alerts title="Real alerts that would be missed" bad list={gone} />}
      {saved.length > 0 && <Alerts title="False alarms that would be saved" list={saved} />}
      <Pages title="Pages that would be gone" list={only("before")} />
      <Pages title="Pages that would be new" list={only("after")} />
      {r.pages_omitted ? <p className="hint">{count(r.pages_omitted)} more pages are not listed.</p> : null}
      <ApplyCard trial={trial} r={r} />
      <p className="hint">{count(h.samples)} samples were judged.</p>
    </>
  );
}

const delay = (s: number) => (s < 0 ? `${span(-s * 1000)} before` : span(s * 1000));

function headline(r: TrialResult, missed: number, saved: number): string {
  const d = r.after.pages - r.before.pages;
  const pages = d === 0 ? "As many pages as now" : `${count(Math.abs(d))} ${Math.abs(d) === 1 ? "page" : "pages"} ${d < 0 ? "fewer" : "more"} over this history`;
  const parts = [pages];
  if (missed > 0) parts.push(`${count(missed)} real ${missed === 1 ? "alert" : "alerts"} missed`);
  else if (r.alerts.some((a) => a.verdict !== "false" && a.before_delay_seconds !== null)) parts.push("no real alert missed");
  if (saved > 0) parts.push(`${count(saved)} false ${saved === 1 ? "alarm" : "alarms"} saved`);
  return `${parts.join(", ")}.`;
}

function Alerts({ title, list, bad = false }: { title: string; list: TrialResult["alerts"]; bad?: boolean }) {
  return (
    <div className={`card ${bad ? "bad" : ""}`}>
      <h2>{title}</h2>
      <ul className="earlier">
        {list.map((a) => (
          <li key={a.alert_id}>
            <a href={href("alerts", [a.alert_id])}>{a.equipment_id}</a>
            <span>{causeName(a.cause)}</span>
            <span>
              {eventTime(us(a.started_at), Date.now())}, {verdictNames[a.verdict]}
            </span>
          </li>
        ))}
      </ul>
    </div>
  );
}

const listed = 30;

function Pages({ title, list }: { title: string; list: TrialResult["pages"] }) {
  const [all, setAll] = useState(false);
  if (list.length === 0) return null;
  return (
    <div className="card">
      <h2>
        {title} <span className="n">{count(list.length)}</span>
      </h2>
      <ul className="earlier">
        {list.slice(0, all ? undefined : listed).map((p) => (
          <li key={`${p.equipment_id} ${p.cause} ${p.at}`}>
            <a href={p.alert_id ? href("alerts", [p.alert_id]) : machineHref(p.equipment_id)}>{p.equipment_id}</a>
            <span>
              {causeName(p.cause)}, {p.severity}
            </span>
            <span>
              {eventTime(us(p.at), Date.now())}
              {p.verdict ? `, ${verdictNames[p.verdict]}` : ""} <i className="hint">{p.summary}</i>
            </span>
          </li>
        ))}
      </ul>
      {!all && list.length > listed && (
        <button type="button" onClick={() => setAll(true)}>
          Show {count(list.length - listed)} more
        </button>
      )}
    </div>
  );
}
