import { useEffect, useMemo, useRef, useState } from "react";
import { AlertsPage, openAlerts } from "./alerts";
import { useNow } from "./clock";
import { ago, causeName, count } from "./format";
import { Icon, SeverityIcon, StateIcon } from "./icons";
import { aims, doing, onAnswer, usePending, type Pending } from "./inboxacts";
import { listIncidents, ms, stateNames, verdictNames, type AlertState, type Incident } from "./inboxapi";
import { IncidentPage } from "./inboxdetail";
import { useShortcuts } from "./keys";
import { useLoad } from "./load";
import { href, setQuery } from "./route";
import { useFeature } from "./session";
import type { Data } from "./store";
import type { ViewProps } from "./view";

const everyMs = 15_000;
/** The router's list is read again at most so often when alerts come in. */
const restMs = 2500;
const limit = 500;

interface Shelf {
  key: string;
  label: string;
  states: AlertState[];
}

const shelves: Shelf[] = [
  { key: "", label: "Open", states: ["unacknowledged", "acknowledged", "suppressed", "shelved", "out_of_service"] },
  { key: "new", label: "Unacknowledged", states: ["unacknowledged"] },
  { key: "acknowledged", label: "Acknowledged", states: ["acknowledged"] },
  { key: "aside", label: "Put aside", states: ["shelved", "out_of_service", "suppressed"] },
  { key: "cleared", label: "Cleared", states: ["returned", "closed"] },
];

const order = { critical: 0, warning: 1, info: 2 };
const urgency: Record<AlertState, number> = { unacknowledged: 0, returned: 1, acknowledged: 2, suppressed: 3, shelved: 4, out_of_service: 5, closed: 6 };

/** Alerts as the router keeps them where there is one to talk to; else as the stream tells of them. */
export function AlertsView(props: ViewProps) {
  return useFeature("router") ? <Inbox {...props} /> : <AlertsPage {...props} />;
}

/** The router's list, read again when the stream tells of alerts; what it answered to an act holds at once. */
function useIncidents(data: Data, cleared: boolean) {
  const loaded = useLoad(cleared ? "cleared" : "open", (signal) => listIncidents(cleared ? { state: "returned,closed", limit: 200 } : { state: "open,returned", limit }, signal), everyMs);
  const again = useRef(loaded.again);
  again.current = loaded.again;
  const last = useRef(Date.now());
  const known = useRef(data.alertsVersion);
  useEffect(() => {
    if (known.current === data.alertsVersion) return;
    const wait = Math.max(200, last.current + restMs - Date.now());
    const timer = window.setTimeout(() => {
      last.current = Date.now();
      known.current = data.alertsVersion;
      again.current();
    }, wait);
    return () => window.clearTimeout(timer);
  }, [data.alertsVersion]);
  const [answers, setAnswers] = useState(new Map<string, { alert: Incident; at: number }>());
  useEffect(() => onAnswer((alert) => setAnswers((m) => new Map(m).set(alert.alert_id, { alert, at: Date.now() }))), []);
  const list = useMemo(
    () => loaded.value?.alerts.map((a) => {
      const said = answers.get(a.alert_id);
      return said && said.at > loaded.at ? { ...a, ...said.alert } : a;
    }),
    [loaded.value, loaded.at, answers],
  );
  return { ...loaded, list };
}

function Inbox({ data, params, query }: ViewProps) {
  const id = params[0];
  const shelf = shelves.find((s) => s.key === (query.get("show") === "closed" ? "cleared" : (query.get("show") ?? ""))) ?? (shelves[0] as Shelf);
  const cleared = shelf.key === "cleared";
  const sev = query.get("severity") ?? "";
  const find = (query.get("find") ?? "").trim().toLowerCase();
  const { list, error, value, again } = useIncidents(data, cleared);
  const pending = usePending();
  const counted = (s: Shelf) => list?.filter((a) => s.states.includes(a.state)).length ?? 0;
  const shown = useMemo(
    () =>
      (list ?? [])
        .filter((a) => shelf.states.includes(a.state) || a.alert_id === id || pending.has(a.alert_id))
        .filter((a) => !sev || a.severity === sev)
        .filter((a) => !find || `${a.equipment_id} ${a.cause} ${a.summary}`.toLowerCase().includes(find))
        .sort((a, b) => (cleared ? 0 : urgency[a.state] - urgency[b.state] || order[a.severity] - order[b.severity]) || ms(b.closed_at ?? b.opened_at) - ms(a.closed_at ?? a.opened_at)),
    [list, shelf, id, pending, sev, find, cleared],
  );
  const at = shown.findIndex((a) => a.alert_id === id);
  const go = (by: number) => {
    const next = shown[at < 0 ? (by > 0 ? 0 : shown.length - 1) : Math.max(0, Math.min(shown.length - 1, at + by))];
    if (!next) return;
    history.replaceState(null, "", href("alerts", [next.alert_id], Object.fromEntries(query)));
    window.dispatchEvent(new HashChangeEvent("hashchange"));
  };
  useShortcuts("Alerts", [
    { keys: "j", label: "Next alert", run: () => go(1) },
    { keys: "k", label: "Previous alert", run: () => go(-1) },
  ]);
  const chosen = useRef<HTMLAnchorElement>(null);
  useEffect(() => {
    void chosen.current?.scrollIntoView({ block: "nearest" }); // some browsers answer with a promise, which is no clean-up
  }, [id]);
  const current = shown[at];
  const whole = !value?.next;
  return (
    <div className={`inbox ${id ? "chosen" : ""}`}>
      <section className="inboxlist" aria-label="Alerts">
        <div className="pagehead">
          <h1>Alerts</h1>
          <div className="seg" role="group" aria-label="Which alerts">
            {shelves.map((s) => (
              <button key={s.key} type="button" aria-pressed={s === shelf} onClick={() => setQuery({ show: s.key })}>
                {s.label} {(s.key === "cleared") === cleared && list && <span className="n">{count(counted(s))}{whole ? "" : "+"}</span>}
              </button>
            ))}
          </div>
          <label className="search">
            <Icon name="search" />
            <input type="search" placeholder="Machine, cause, words" aria-label="Find an alert" value={query.get("find") ?? ""} onChange={(e) => setQuery({ find: e.target.value })} />
          </label>
          <label className="sort">
            <span>Severity</span>
            <select value={sev} onChange={(e) => setQuery({ severity: e.target.value })}>
              <option value="">All</option>
              <option value="critical">Critical</option>
              <option value="warning">Warning</option>
              <option value="info">Info</option>
            </select>
          </label>
        </div>
        {error && <RouterAway data={data} detail={error.message} known={list !== undefined} again={again} />}
        {!list && !error && (
          <div className="skeletons wide" role="status" aria-label="Loading">
            {Array.from({ length: 6 }, (_, i) => (
              <span key={i} className="skeleton" />
            ))}
          </div>
        )}
        {list && shown.length === 0 && (
          <div className="empty">
            <StateIcon state="ok" size={30} />
            <p>{find || sev ? "No alert here fits the filter." : cleared ? "No alert has cleared yet." : shelf.key ? `Nothing is ${shelf.label.toLowerCase()}.` : "No open alerts. All is quiet."}</p>
          </div>
        )}
        {shown.length > 0 && (
          <ul className="incidents">
            {shown.map((a) => (
              <li key={a.alert_id}>
                <Row alert={a} pending={pending.get(a.alert_id)} current={a.alert_id === id} to={href("alerts", [a.alert_id], Object.fromEntries(query))} skew={data.skew} box={a.alert_id === id ? chosen : undefined} />
              </li>
            ))}
          </ul>
        )}
        {!whole && <p className="hint">The newest {count(limit)} are listed.</p>}
        {shown.length > 0 && (
          <p className="hint keys">
            <kbd>j</kbd> <kbd>k</kbd> next, previous · <kbd>a</kbd> acknowledge · <kbd>s</kbd> shelve · <kbd>v</kbd> verdict
          </p>
        )}
      </section>
      <p className="unseen" role="status">
        {current ? `${at + 1} of ${shown.length}: ${current.equipment_id}, ${causeName(current.cause)}, ${current.severity}, ${stateNames[current.state]}` : ""}
      </p>
      {id ? (
        <IncidentPage key={id} id={id} data={data} listed={current} back={href("alerts", [], Object.fromEntries(query))} />
      ) : (
        <aside className="noincident">
          <p>Choose an alert to see why it was raised, who was told, and what became of it.</p>
        </aside>
      )}
    </div>
  );
}

/** The stream still tells what stands, without what people did about it. */
function RouterAway({ data, detail, known, again }: { data: Data; detail: string; known: boolean; again(): void }) {
  const open = openAlerts(data).length;
  return (
    <div className="away" role="alert">
      <p>
        <b>The alert-router does not answer.</b> {detail} {known ? "What you see is what it said last." : open > 0 ? `The stream knows of ${count(open)} open alerts; see the fleet.` : "The stream knows of no open alert."}
      </p>
      <button type="button" onClick={again}>
        Try again
      </button>
    </div>
  );
}

interface RowProps {
  alert: Incident;
  pending: Pending | undefined;
  current: boolean;
  to: string;
  skew: number;
  box: React.RefObject<HTMLAnchorElement | null> | undefined;
}

function Row({ alert: a, pending, current, to, skew, box }: RowProps) {
  const now = useNow() + skew;
  const sev = a.severity;
  return (
    <a ref={box} href={to} className={`incident s-${sev === "info" ? "learning" : sev} st-${a.state}`} aria-current={current ? "true" : undefined}>
      <SeverityIcon severity={sev} size={18} />
      <span className="words">
        <span className="lead">
          <b>{a.equipment_id}</b>
          <span className="chip">{causeName(a.cause)}</span>
          <StateChip state={a.state} pending={pending} />
          {(a.incident_machines ?? 0) > 1 && <span className="chip">{count(a.incident_machines ?? 0)} machines</span>}
          {a.verdict && <span className="chip verdict">{verdictNames[a.verdict.verdict]}</span>}
        </span>
        <span className="summary">{a.summary || "No description."}</span>
      </span>
      <span className="age">{ago(ms(a.closed_at ?? a.opened_at), now)}</span>
    </a>
  );
}

/** The state that the router knows; what is on its way is said beside it. */
export function StateChip({ state, pending }: { state: AlertState; pending: Pending | undefined }) {
  if (pending?.error) return <span className="chip failed">{doing[pending.action]} failed</span>;
  if (pending) {
    const aim = aims[pending.action];
    return <span className="chip pending">{aim ? `${stateNames[aim]}…` : `${doing[pending.action]}…`}</span>;
  }
  return <span className={`chip state st-${state}`}>{stateNames[state]}</span>;
}
