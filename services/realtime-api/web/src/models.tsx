import { useState } from "react";
import { ApiError, get, send } from "./api";
import { useNow } from "./clock";
import { Dialog } from "./dialog";
import { Drifting } from "./drift";
import { ago, count, eventTime, num, percent } from "./format";
import { ms, us } from "./inboxapi";
import { useLoad } from "./load";
import { href, machineHref } from "./route";
import { useFeature } from "./session";
import { say } from "./toast";
import type { ViewProps } from "./view";
import { Waiting } from "./waiting";

// What the model-trainer answers; see services/model-trainer/DESIGN.md.

interface Roles {
  champion: string;
  challenger?: string;
}

interface Model extends Roles {
  name: string;
}

interface Versions extends Model {
  versions: { version: string; bytes: number; stored: string }[] | null;
}

interface Header {
  algorithm: string;
  features: string[];
  rows: number;
  contamination?: number;
  threshold?: number;
  target?: string;
}

interface Side {
  model: string;
  pages: number;
  pages_per_machine_month: number | null;
  low: number | null;
  high: number | null;
  precision: number | null;
  pages_with_verdict: number;
  score_took?: string;
  only: { equipment_id: string; from: string; to: string; verdict?: string }[];
  only_count: number;
}

interface Pair {
  champion: Side;
  shadow: Side;
  windows: number;
  machine_months: number;
  unusual: { neither: number; both: number; champion_only: number; shadow_only: number };
  agreement: number | null;
  kappa: number | null;
  pages_of_both: number;
  lead_seconds: number | null;
  verdicts: { real: number; real_found_by_champion: number; real_found_by_shadow: number; false: number; false_paged_by_champion: number; false_paged_by_shadow: number };
  advice: "promote" | "keep" | "look" | "wait";
  confidence: number;
  why: string;
}

interface Comparison {
  from: string;
  to: string;
  counted_until: string | null;
  pairs: Pair[];
}

const hours = [
  { value: 24, label: "1 day" },
  { value: 168, label: "7 days" },
];

const setRoles = (name: string, roles: Roles) => send<Roles>("PUT", `/v1/models/${encodeURIComponent(name)}/roles`, roles);

/** Models that judge, those that stand beside them, and how they do. */
export function ModelsPage({ data, params }: ViewProps) {
  const there = useFeature("models");
  const { value, error, again } = useLoad(there ? "models" : "", (s) => (there ? get<{ models: Model[] }>("/v1/models", {}, s) : Promise.resolve({ models: [] })), 30_000);
  const models = value?.models ?? [];
  const name = params[0] ?? (models.length === 1 ? models[0]?.name : undefined);
  return (
    <div className="modelspage">
      <div className="pagehead">
        <h1>Models</h1>
        <p className="hint">A champion judges beside the statistics; a shadow is asked and counted, and pages nobody.</p>
      </div>
      {!there ? (
        <div className="empty">
          <p>No model-trainer stands behind this page (realtime_api.backends.model_trainer).</p>
        </div>
      ) : !value ? (
        <Waiting error={error} again={again} />
      ) : models.length === 0 ? (
        <div className="empty">
          <p>No model has been trained.</p>
          <p className="hint">
            <code>tocsin models train press --lake …</code> trains the first.
          </p>
        </div>
      ) : (
        <div className="bench">
          <nav className="card modellist" aria-label="Models">
            <ul>
              {models.map((m) => (
                <li key={m.name}>
                  <a href={href("models", [m.name])} aria-current={m.name === name ? "true" : undefined}>
                    <b>{m.name}</b>
                    <span className="hint">
                      champion {m.champion || "none"}
                      {m.challenger ? `, shadow ${m.challenger}` : ""}
                    </span>
                  </a>
                </li>
              ))}
            </ul>
          </nav>
          {name ? <One key={name} name={name} skew={data.skew} changed={again} /> : <p className="hint">Choose a model.</p>}
        </div>
      )}
    </div>
  );
}

function One({ name, skew, changed }: { name: string; skew: number; changed(): void }) {
  const now = useNow() + skew;
  const { value: m, error, again } = useLoad(`model ${name}`, (s) => get<Versions>(`/v1/models/${encodeURIComponent(name)}`, {}, s), 30_000);
  const [asked, setAsked] = useState<{ version: string; shadow: boolean }>();
  if (!m) return <p className="hint" role="status">{error ? error.message : "Loading."}</p>;
  const versions = (m.versions ?? []).toReversed();
  return (
    <section className="trial" aria-label={name}>
      <table className="card versions">
        <caption>Versions of {name}</caption>
        <thead>
          <tr>
            <th scope="col">Version</th>
            <th scope="col">Role</th>
            <th scope="col">Trained</th>
            <th scope="col">What it is</th>
            <th scope="col">Change</th>
          </tr>
        </thead>
        <tbody>
          {versions.map((v) => {
            const role = v.version === m.champion ? "champion" : v.version === m.challenger ? "shadow" : "";
            return (
              <tr key={v.version}>
                <th scope="row">
                  <code>{v.version}</code>
                </th>
                <td>{role ? <span className={`chip role ${role}`}>{role}</span> : "–"}</td>
                <td>{ago(ms(v.stored), now)}</td>
                <td className="text">
                  <What name={name} version={v.version} bytes={v.bytes} />
                </td>
                <td className="changes">
                  {role !== "champion" && (
                    <button type="button" onClick={() => setAsked({ version: v.version, shadow: false })}>
                      Promote
                    </button>
                  )}
                  {role === "" && (
                    <button type="button" onClick={() => setAsked({ version: v.version, shadow: true })}>
                      As shadow
                    </button>
                  )}
                </td>
              </tr>
            );
          })}
        </tbody>
      </table>
      <Drifting name={name} now={now} />
      <Comparing name={name} now={now} />
      {asked && (
        <Promote
          name={name}
          roles={m}
          {...asked}
          onClose={() => setAsked(undefined)}
          onDone={() => {
            setAsked(undefined);
            again();
            changed();
          }}
        />
      )}
    </section>
  );
}

function What({ name, version, bytes }: { name: string; version: string; bytes: number }) {
  const { value: h, error } = useLoad(`header ${name}@${version}`, (s) => get<Header>(`/v1/models/${encodeURIComponent(`${name}@${version}`)}`, {}, s));
  if (!h) return <span className="hint">{error ? error.message : "…"}</span>;
  return (
    <>
      {h.algorithm.replaceAll("_", " ")} of {count(h.features.length)} features, {count(h.rows)} rows, {count(Math.round(bytes / 1024))} KiB
      {h.target ? `, predicts ${h.target}` : ""}
    </>
  );
}

function Promote({ name, roles, version, shadow, onClose, onDone }: { name: string; roles: Roles; version: string; shadow: boolean; onClose(): void; onDone(): void }) {
  const [busy, setBusy] = useState(false);
  const [wrong, setWrong] = useState("");
  const [sure, setSure] = useState(false);
  const next: Roles = shadow ? { champion: roles.champion, challenger: version } : { champion: version, ...(roles.champion ? { challenger: roles.champion } : {}) };
  const go = async () => {
    setBusy(true);
    setWrong("");
    try {
      await setRoles(name, next);
      say(`${name}: champion ${next.champion}, shadow ${next.challenger ?? "none"}.`);
      onDone();
    } catch (e) {
      setWrong(`Nothing has changed. ${e instanceof ApiError ? e.message : String(e)}`);
      setBusy(false);
    }
  };
  return (
    <Dialog title={shadow ? "Ask this version beside the champion" : "Promote this version"} onClose={onClose}>
      <div className="actform">
        <dl className="facts">
          <div>
            <dt>Champion</dt>
            <dd>
              {roles.champion || "none"} → <b>{next.champion}</b>
            </dd>
          </div>
          <div>
            <dt>Shadow</dt>
            <dd>
              {roles.challenger ?? "none"} → <b>{next.challenger ?? "none"}</b>
            </dd>
          </div>
        </dl>
        <p className="hint">
          Stream-processors whose configuration names {name} without a version follow within seconds, at one place of each partition's log. Where it names a version, or not the model, nothing changes in the stream. Going back is another promotion.
        </p>
        {!shadow && (
          <label className="check">
            <input type="checkbox" checked={sure} onChange={(e) => setSure(e.target.checked)} /> {name}@{version} shall judge and page
          </label>
        )}
        <p className="wrong" role="alert">
          {wrong}
        </p>
        <div className="row">
          <button type="button" className="primary" disabled={busy || (!shadow && !sure)} onClick={() => void go()}>
            {busy ? "Changing…" : shadow ? "Make it the shadow" : "Promote"}
          </button>
          <button type="button" onClick={onClose}>
            Cancel
          </button>
        </div>
      </div>
    </Dialog>
  );
}

const advices: Record<Pair["advice"], string> = { promote: "Promote the shadow", keep: "Keep the champion", look: "Look at what they differ in", wait: "Wait for more" };

function Comparing({ name, now }: { name: string; now: number }) {
  const [span, setSpan] = useState(24);
  const { value, error } = useLoad(
    `comparison ${name} ${span}`,
    (s) => get<Comparison>("/v1/comparison", { model: name, from: new Date(Date.now() - span * 3_600_000).toISOString() }, s),
    30_000,
  );
  return (
    <section className="card">
      <div className="cardhead">
        <h2>In the stream</h2>
        <div className="seg" role="group" aria-label="Time compared">
          {hours.map((h) => (
            <button key={h.value} type="button" aria-pressed={span === h.value} onClick={() => setSpan(h.value)}>
              {h.label}
            </button>
          ))}
        </div>
      </div>
      {!value && <p className="hint">{error ? error.message : "Loading."}</p>}
      {value && value.pairs.length === 0 && (
        <p className="hint">No stream-processor asked a champion and a shadow of this name in that time. The detection configuration names which models it follows.</p>
      )}
      {value?.pairs.map((p) => <PairView key={`${p.champion.model} ${p.shadow.model}`} p={p} now={now} />)}
      {value?.counted_until && <p className="hint">Counted until {eventTime(us(value.counted_until), now)}.</p>}
    </section>
  );
}

function PairView({ p, now }: { p: Pair; now: number }) {
  const row = (label: string, f: (s: Side) => string) => (
    <tr>
      <th scope="row">{label}</th>
      <td>{f(p.champion)}</td>
      <td>{f(p.shadow)}</td>
    </tr>
  );
  const v = p.verdicts;
  return (
    <div className="pairview">
      <p className={`advice ${p.advice}`}>
        <b>{advices[p.advice]}</b>
        {p.confidence > 0 && ` (${percent(p.confidence)} sure)`}: {p.why}.
      </p>
      <table className="sides">
        <thead>
          <tr>
            <th scope="col" />
            <th scope="col">{p.champion.model}</th>
            <th scope="col">{p.shadow.model}</th>
          </tr>
        </thead>
        <tbody>
          {row("Pages it alone would give, per machine and month", (s) => num(s.pages_per_machine_month))}
          {row("true rate, 19 of 20", (s) => `${num(s.low)} – ${num(s.high)}`)}
          {row("Pages", (s) => count(s.pages))}
          {row("Pages of it alone", (s) => count(s.only_count))}
          {row("Precision, of pages with a verdict", (s) => (s.pages_with_verdict ? `${percent(s.precision)} of ${count(s.pages_with_verdict)}` : "–"))}
          <tr>
            <th scope="row">Real alerts found, of {count(v.real)}</th>
            <td>{count(v.real_found_by_champion)}</td>
            <td>{count(v.real_found_by_shadow)}</td>
          </tr>
          <tr>
            <th scope="row">False alarms paged, of {count(v.false)}</th>
            <td>{count(v.false_paged_by_champion)}</td>
            <td>{count(v.false_paged_by_shadow)}</td>
          </tr>
          {row("Time to score a window", (s) => s.score_took ?? "–")}
        </tbody>
      </table>
      <p className="hint">
        {count(p.windows)} windows, {num(p.machine_months)} machine months. They agree on {p.agreement === null ? "–" : `${(p.agreement * 100).toFixed(1)} %`} (kappa {num(p.kappa)}); found unusual: both {count(p.unusual.both)}, champion only{" "}
        {count(p.unusual.champion_only)}, shadow only {count(p.unusual.shadow_only)}.
        {p.lead_seconds !== null && ` Of pages of both the shadow's came ${num(Math.abs(p.lead_seconds))} s ${p.lead_seconds >= 0 ? "earlier" : "later"}.`}
      </p>
      {p.shadow.only.length > 0 && (
        <details>
          <summary>What only the shadow would page for ({count(p.shadow.only_count)})</summary>
          <ul className="earlier">
            {p.shadow.only.map((o) => (
              <li key={`${o.equipment_id} ${o.from}`}>
                <a href={machineHref(o.equipment_id)}>{o.equipment_id}</a>
                <span>{eventTime(us(o.from), now)}</span>
                <span className="hint">{o.verdict ?? "no verdict: nobody was paged"}</span>
              </li>
            ))}
          </ul>
        </details>
      )}
    </div>
  );
}
