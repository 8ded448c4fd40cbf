import { useMemo, useState } from "react";
import { useNow } from "./clock";
import { ago, causeName, count, eventTime, num, percent, span } from "./format";
import { Icon, SeverityIcon, StateIcon } from "./icons";
import { isClosed, severity, type Alert, type Contribution } from "./model";
import { href, machineHref, setQuery } from "./route";
import type { Data } from "./store";
import type { ViewProps } from "./view";

const order = { critical: 0, warning: 1, info: 2 };

/** When a gateway fails, thousands may be open. */
const pageSize = 100;

let sorted: { version: number; list: Alert[] } = { version: -1, list: [] };

/** Open alerts, graver first, then the latest. */
export function openAlerts(data: Data): Alert[] {
  if (sorted.version !== data.alertsVersion) sorted = { version: data.alertsVersion, list: sortedOpen(data) };
  return sorted.list;
}

function sortedOpen(data: Data): Alert[] {
  return [...data.alerts.values()]
    .filter((a) => !isClosed(a))
    .sort((a, b) => order[severity(a.severity)] - order[severity(b.severity)] || b.at_ms - a.at_ms || (a.alert_id < b.alert_id ? -1 : 1));
}

/** One alert in the side panel. */
export function AlertLine({ alert, skew }: { alert: Alert; skew: number }) {
  const now = useNow() + skew;
  const sev = severity(alert.severity);
  return (
    <li>
      <a className={`alertline s-${sev === "info" ? "learning" : sev}`} href={machineHref(alert.equipment_id)}>
        <SeverityIcon severity={sev} />
        <span className="who">
          <b>{alert.equipment_id}</b>
          <i>{ago(alert.at_ms, now)}</i>
        </span>
        <span className="what">{alert.summary || causeName(alert.cause)}</span>
      </a>
    </li>
  );
}

export function AlertsPage({ data, query }: ViewProps) {
  const showClosed = query.get("show") === "closed";
  const sev = query.get("severity") ?? "";
  const [limit, setLimit] = useState(pageSize);
  const open = openAlerts(data);
  const closed = useMemo(() => [...data.alerts.values()].filter(isClosed).sort((a, b) => b.at_ms - a.at_ms), [data.alertsVersion]);
  const list = (showClosed ? closed : open).filter((a) => !sev || severity(a.severity) === sev);
  return (
    <div className="alertspage">
      <div className="pagehead">
        <h1>Alerts</h1>
        <div className="seg" role="group" aria-label="Which alerts">
          <button type="button" aria-pressed={!showClosed} onClick={() => setQuery({ show: "" })}>
            Open <span className="n">{count(open.length)}</span>
          </button>
          <button type="button" aria-pressed={showClosed} onClick={() => setQuery({ show: "closed" })}>
            Closed <span className="n">{count(closed.length)}</span>
          </button>
        </div>
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
      {!data.alertsLoaded ? (
        <div className="skeletons wide" role="status" aria-label="Loading">
          {Array.from({ length: 6 }, (_, i) => (
            <span key={i} className="skeleton" />
          ))}
        </div>
      ) : list.length === 0 ? (
        <div className="empty">
          <StateIcon state="ok" size={30} />
          <p>{showClosed ? "No alert has been closed yet." : sev ? `No open ${sev} alert.` : "No open alerts. All is quiet."}</p>
        </div>
      ) : (
        <ul className="alertlist">
          {list.slice(0, limit).map((a) => (
            <AlertCard key={a.alert_id} alert={a} skew={data.skew} link />
          ))}
          {list.length > limit && (
            <li className="more">
              <button type="button" onClick={() => setLimit(limit + pageSize)}>
                Show {count(Math.min(pageSize, list.length - limit))} more of {count(list.length - limit)}
              </button>
            </li>
          )}
        </ul>
      )}
    </div>
  );
}

/** Labels and annotations that repeat what the card says already. */
const said = new Set(["alertname", "alert_id", "equipment_id", "cause", "severity", "summary", "description", "sensors", "score", "started"]);

/** One alert with what is known of it; why it was raised unfolds. */
export function AlertCard({ alert, skew, link, unfolded = false }: { alert: Alert; skew: number; link?: boolean; unfolded?: boolean }) {
  const now = useNow() + skew;
  const [openWhy, setOpenWhy] = useState(unfolded);
  const sev = severity(alert.severity);
  const done = isClosed(alert);
  const notes = Object.entries({ ...alert.labels, ...alert.annotations }).filter(([k]) => !said.has(k));
  const more = alert.contributions.length > 0 || notes.length > 0;
  return (
    <li className={`alert s-${sev === "info" ? "learning" : sev} ${done ? "done" : ""}`}>
      <div className="row">
        <SeverityIcon severity={sev} size={20} />
        <div className="words">
          <p className="lead">
            {link && <a href={machineHref(alert.equipment_id)}>{alert.equipment_id}</a>}
            <span className="chip">{causeName(alert.cause)}</span>
            <span className="sev">{sev === "critical" ? "Critical" : sev === "warning" ? "Warning" : "Info"}</span>
            {alert.transition === "ALERT_TRANSITION_ESCALATED" && <span className="chip up">escalated</span>}
            {done && <span className="chip">closed</span>}
          </p>
          <p className="summary">{alert.summary || "No description."}</p>
          {!link && (
            <a className="act" href={href("alerts", [alert.alert_id])}>
              Acknowledge, shelve, say what it was worth
            </a>
          )}
        </div>
        <dl className="times">
          <div>
            <dt>Since</dt>
            <dd>{eventTime(alert.started_us, now)}</dd>
          </div>
          {done ? (
            <div>
              <dt>Lasted</dt>
              <dd>{span((alert.ended_us - alert.started_us) / 1000)}</dd>
            </div>
          ) : (
            <div>
              <dt>{alert.transition === "ALERT_TRANSITION_ESCALATED" ? "Escalated" : "Raised"}</dt>
              <dd>{ago(alert.at_ms, now)}</dd>
            </div>
          )}
        </dl>
        {more && (
          <button type="button" className="ghost unfold" aria-expanded={openWhy} aria-label="Why" title="Why" onClick={() => setOpenWhy(!openWhy)}>
            <Icon name="chevron" />
          </button>
        )}
      </div>
      {openWhy && more && (
        <div className="why">
          <Why contributions={alert.contributions} />
          {notes.length > 0 && (
            <dl className="notes">
              {notes.map(([k, v]) => (
                <div key={k}>
                  <dt>{k}</dt>
                  <dd>{v}</dd>
                </div>
              ))}
            </dl>
          )}
        </div>
      )}
    </li>
  );
}

/** Which sensors drove it, with what was seen and what was expected. */
export function Why({ contributions }: { contributions: Contribution[] }) {
  const shown = contributions.slice(0, 8);
  return (
    <>
      {shown.map((c) => (
        <div className="cause" key={c.sensor}>
          <span className="sensor">{c.sensor}{c.statistic === "stddev" && <i className="statistic"> spread</i>}</span>
          <Deviation c={c} />
          <span className="seen">
            <b>{num(c.observed)}</b>
            <i>{c.expected_low === null || c.expected_high === null ? "expected: not learned" : `expected ${num(c.expected_low)} – ${num(c.expected_high)}`}</i>
          </span>
          <span className="sharebar" title={`${percent(c.share)} of the anomaly${c.detector ? `, by ${c.detector}` : ""}`}>
            <span style={{ transform: `scaleX(${Math.max(0, Math.min(1, c.share ?? 0))})` }} />
            <em>{percent(c.share)}</em>
          </span>
        </div>
      ))}
      {contributions.length > shown.length && <p className="hint">and {contributions.length - shown.length} more sensors</p>}
    </>
  );
}

/** The expected band as a bar, the observed value as a mark on the same scale. */
function Deviation({ c }: { c: Contribution }) {
  const { observed: o, expected_low: lo, expected_high: hi } = c;
  if (o === null || lo === null || hi === null) return <span className="deviation" />;
  const min = Math.min(o, lo);
  const max = Math.max(o, hi);
  const pad = (max - min || 1) * 0.12;
  const at = (v: number) => 100 * ((v - min + pad) / (max - min + 2 * pad));
  return (
    <svg className="deviation" viewBox="0 0 100 12" preserveAspectRatio="none" aria-hidden="true">
      <rect x="0" y="5" width="100" height="2" className="axis" />
      <rect x={at(lo)} y="2" width={Math.max(2, at(hi) - at(lo))} height="8" className="band" />
      <rect x={at(o) - 1} y="0" width="2.2" height="12" className={o < lo || o > hi ? "mark out" : "mark"} />
    </svg>
  );
}
