import { useEffect, useRef, useState } from "react";
import { Why } from "./alerts";
import { useNow } from "./clock";
import { ago, causeName, eventTime, scoreText, span } from "./format";
import { Icon, SeverityIcon } from "./icons";
import { again, begin, dismiss, doing, onAnswer, storedName, usePending } from "./inboxacts";
import {
  getIncident, getNotifications, getTransitions, listIncidents, ms, stateNames, us, verdictNames,
  type Act, type Action, type Incident, type Mark, type Notification, type Transition,
} from "./inboxapi";
import { AcknowledgeDialog, ServiceDialog, ShelveDialog, VerdictDialog } from "./inboxdialogs";
import { StateChip } from "./inbox";
import { useShortcuts } from "./keys";
import { useLoad } from "./load";
import { NewNormalDialog } from "./newnormal";
import { href, machineHref } from "./route";
import { useSession } from "./session";
import type { Data } from "./store";

const everyMs = 15_000;

type Ask = "acknowledge" | "shelve" | "verdict" | "service" | "normal";

/** One alert: what it is, why, what people did and whom it called. */
export function IncidentPage({ id, data, listed, back }: { id: string; data: Data; listed: Incident | undefined; back: string }) {
  const loaded = useLoad(id, (signal) => getIncident(id, signal), everyMs);
  const refresh = useRef(loaded.again);
  refresh.current = loaded.again;
  useEffect(() => {
    // On a phone the alert takes the list's place.
    if (window.matchMedia("(max-width: 1180px)").matches) window.scrollTo(0, 0);
  }, []);
  const event = data.alerts.get(id)?.event_id;
  const first = useRef(true);
  useEffect(() => {
    if (!first.current) refresh.current();
    first.current = false;
  }, [event]);
  const [answer, setAnswer] = useState<{ alert: Incident; at: number }>();
  useEffect(() => onAnswer((a) => a.alert_id === id && setAnswer({ alert: a, at: Date.now() })), [id]);
  const full = answer && answer.at > loaded.at ? answer.alert : loaded.value;
  const alert = full ?? listed;
  if (!alert) {
    return (
      <article className="incidentpage" aria-label="Alert">
        <a className="back" href={back}>
          <Icon name="back" /> Alerts
        </a>
        {loaded.error ? (
          <div className="empty">
            <p>{loaded.error.status === 404 ? "Nobody knows this alert any more: the journal keeps them for a time only." : loaded.error.message}</p>
          </div>
        ) : (
          <div className="skeletons wide" role="status" aria-label="Loading">
            <span className="skeleton" />
            <span className="skeleton" />
          </div>
        )}
      </article>
    );
  }
  return <Known alert={alert} whole={full !== undefined} data={data} back={back} changed={`${alert.state}/${answer?.at ?? 0}/${event ?? ""}`} failed={loaded.error?.message} />;
}

function Known({ alert: a, whole, data, back, changed, failed }: { alert: Incident; whole: boolean; data: Data; back: string; changed: string; failed: string | undefined }) {
  const now = useNow() + data.skew;
  const session = useSession();
  const pending = usePending().get(a.alert_id);
  const [ask, setAsk] = useState<Ask>();
  const named = session.state === "known" && !session.session.anonymous;
  const act = (action: Action, body: Act) => {
    setAsk(undefined);
    begin(a.alert_id, action, named ? body : { ...body, by: body.by || storedName() });
  };
  const busy = pending !== undefined && pending.error === undefined;
  const aside = a.shelved ?? a.out_of_service;
  const acknowledges = a.state === "unacknowledged" || a.state === "returned";
  const acknowledge = () => (named || storedName() ? act("acknowledge", {}) : setAsk("acknowledge"));
  const may = (f: () => void) => () => void (!busy && f());
  useShortcuts("This alert", [
    { keys: "a", label: "Acknowledge", run: may(() => acknowledges && acknowledge()) },
    { keys: "s", label: "Shelve, or end the shelf", run: may(() => a.open && (a.shelved ? act("unshelve", {}) : setAsk("shelve"))) },
    { keys: "v", label: "Say what it was worth", run: may(() => setAsk("verdict")) },
    { keys: "o", label: "Out of service, or back", run: may(() => a.open && (a.out_of_service ? act("in-service", {}) : setAsk("service"))) },
  ]);
  const sev = a.severity;
  const notes = Object.entries({ ...a.labels, ...a.annotations }).filter(([k]) => !said.has(k));
  return (
    <article className={`incidentpage s-${sev === "info" ? "learning" : sev}`} aria-label={`Alert of ${a.equipment_id}`}>
      <a className="back" href={back}>
        <Icon name="back" /> Alerts
      </a>
      <header>
        <SeverityIcon severity={sev} size={26} />
        <div>
          <h2>
            <a href={machineHref(a.equipment_id)}>{a.equipment_id}</a>
          </h2>
          <p className="lead">
            <span className="sev">{sev}</span>
            <span className="chip">{causeName(a.cause)}</span>
            <StateChip state={a.state} pending={pending} />
            {a.verdict && <span className="chip verdict">{verdictNames[a.verdict.verdict]}</span>}
          </p>
        </div>
      </header>
      <p className="summary">{a.summary || "No description."}</p>
      {pending?.error && (
        <div className="away" role="alert">
          <p>
            <b>{doing[pending.action]} failed: nothing has changed.</b> {pending.error.message}
          </p>
          <button type="button" onClick={() => again(a.alert_id)}>
            Try again
          </button>
          <button type="button" onClick={() => dismiss(a.alert_id)}>
            Leave it
          </button>
        </div>
      )}
      {failed && !pending?.error && <p className="hint" role="status">The alert-router does not answer: last known state. {failed}</p>}
      <div className="acts" role="group" aria-label="What to do">
        <button type="button" className={acknowledges ? "primary" : ""} disabled={busy || !acknowledges} onClick={acknowledge}>
          {a.acknowledged ? "Acknowledged" : "Acknowledge"} <kbd>a</kbd>
        </button>
        {a.shelved ? (
          <button type="button" disabled={busy} onClick={() => act("unshelve", {})}>
            End the shelf <kbd>s</kbd>
          </button>
        ) : (
          <button type="button" disabled={busy || !a.open} onClick={() => setAsk("shelve")}>
            Shelve <kbd>s</kbd>
          </button>
        )}
        <button type="button" disabled={busy} onClick={() => setAsk("verdict")}>
          Verdict <kbd>v</kbd>
        </button>
        {a.out_of_service ? (
          <button type="button" disabled={busy} onClick={() => act("in-service", {})}>
            Back into service <kbd>o</kbd>
          </button>
        ) : (
          <button type="button" disabled={busy || !a.open} onClick={() => setAsk("service")}>
            Out of service <kbd>o</kbd>
          </button>
        )}
        {a.open && a.cause === "behaviour" && (
          <button type="button" onClick={() => setAsk("normal")}>
            This is the new normal
          </button>
        )}
      </div>
      <dl className="facts">
        <Fact name="Began">
          {eventTime(us(a.started_at), now)} <i>({ago(ms(a.started_at), now)})</i>
        </Fact>
        {a.ended_at && (
          <Fact name="Ended">
            {eventTime(us(a.ended_at), now)}, after {span(ms(a.ended_at) - ms(a.started_at))}
          </Fact>
        )}
        <Fact name="Raised">
          {eventTime(us(a.opened_at), now)}, {span(ms(a.opened_at) - ms(a.started_at))} after it began
        </Fact>
        <Fact name="Score">{scoreText(a.score)}</Fact>
        {a.gateway_id && <Fact name="Gateway">{a.gateway_id}</Fact>}
        {a.held && <Fact name="Nobody is told">{a.held}</Fact>}
        {a.acknowledged && <Fact name="Acknowledged">{marked(a.acknowledged, now)}</Fact>}
        {aside && <Fact name={a.shelved ? "Shelved" : "Out of service"}>{marked(aside, now)}</Fact>}
        {a.verdict && (
          <Fact name="Verdict">
            {verdictNames[a.verdict.verdict]}, {marked(a.verdict, now)}
          </Fact>
        )}
        {a.incident_id && a.incident_id !== a.alert_id && (
          <Fact name="Part of">
            <a href={href("alerts", [a.incident_id])}>{a.incident_id}</a>
          </Fact>
        )}
        {(a.incident_machines ?? 0) > 1 && <Fact name="Machines">{a.incident_machines} of this incident are not back</Fact>}
        {a.note && <Fact name="Note">{a.note}</Fact>}
      </dl>
      <section>
        <h3>Why</h3>
        {!whole ? <p className="hint">Loading.</p> : a.contributions?.length ? <Why contributions={a.contributions} /> : <p className="hint">No sensor in particular.</p>}
        {notes.length > 0 && (
          <dl className="notes">
            {notes.map(([k, v]) => (
              <div key={k}>
                <dt>{k.replaceAll("_", " ")}</dt>
                <dd>{v}</dd>
              </div>
            ))}
          </dl>
        )}
      </section>
      <Timeline id={a.alert_id} changed={changed} now={now} />
      <Similar alert={a} now={now} />
      {ask === "acknowledge" && <AcknowledgeDialog onDo={(b) => act("acknowledge", b)} onClose={() => setAsk(undefined)} />}
      {ask === "shelve" && <ShelveDialog alert={a} named={named} onDo={(b) => act("shelve", b)} onClose={() => setAsk(undefined)} />}
      {ask === "verdict" && <VerdictDialog alert={a} named={named} onDo={(b) => act("verdict", b)} onClose={() => setAsk(undefined)} />}
      {ask === "service" && <ServiceDialog alert={a} named={named} onDo={(b) => act("out-of-service", b)} onClose={() => setAsk(undefined)} />}
      {ask === "normal" && <NewNormalDialog alert={a} onClose={() => setAsk(undefined)} />}
    </article>
  );
}

/** What the page says elsewhere already. */
const said = new Set([
  "alertname", "alert_id", "equipment_id", "cause", "severity", "summary", "description", "sensors", "score", "started", "ended", "gateway_id", "state", "held", "earlier",
]);

function marked(m: Mark | { by: string; at: string; comment?: string }, now: number): string {
  const until = "until" in m && m.until ? `, until ${eventTime(us(m.until), now)}` : "";
  const inherited = "inherited" in m && m.inherited ? " (an earlier alert of the same cause)" : "";
  return `by ${m.by}, ${ago(ms(m.at), now)}${until}${inherited}${m.comment ? `: ${m.comment}` : ""}`;
}

function Fact({ name, children }: { name: string; children: React.ReactNode }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{children}</dd>
    </div>
  );
}

const became: Record<string, string> = {
  opened: "Opened",
  escalated: "Escalated",
  closed: "Cleared",
  acknowledged: "Acknowledged",
  shelved: "Shelved",
  unshelved: "Shelf ended",
  out_of_service: "Out of service",
  in_service: "Back in service",
  verdict: "Verdict",
  suppressed: "Suppressed",
  released: "No longer suppressed",
};

/** Who did what and who was told, the newest first. */
function Timeline({ id, changed, now }: { id: string; changed: string; now: number }) {
  const transitions = useLoad(`t ${id}`, (s) => getTransitions(id, s), everyMs);
  const told = useLoad(`n ${id}`, (s) => getNotifications(id, s), everyMs);
  const both = useRef(() => {});
  both.current = () => {
    transitions.again();
    told.again();
  };
  const first = useRef(true);
  useEffect(() => {
    if (!first.current) both.current();
    first.current = false;
  }, [changed]);
  const error = transitions.error ?? told.error;
  const loading = !transitions.value || !told.value;
  type Step = { at: string; key: string; t?: Transition; n?: Notification };
  const steps: Step[] = [
    ...(transitions.value?.transitions ?? []).map((t) => ({ at: t.at, key: t.id, t })),
    ...(told.value?.notifications ?? []).map((n) => ({ at: n.at, key: `${n.idempotency_key} ${n.receiver} ${n.integration}`, n })),
  ].sort((a, b) => ms(b.at) - ms(a.at));
  return (
    <section>
      <h3>What became of it</h3>
      {error && loading && <p className="hint">{error.message}</p>}
      {!error && loading && <p className="hint">Loading.</p>}
      {!loading && steps.length === 0 && <p className="hint">The journal has nothing of this alert yet.</p>}
      <ol className="timeline">
        {steps.map((s) => (
          <li key={s.key} className={s.n ? `told ${s.n.outcome}` : `t-${s.t?.transition}`}>
            <time dateTime={s.at}>{eventTime(us(s.at), now)}</time>
            {s.t && (
              <p>
                <b>{became[s.t.transition] ?? s.t.transition}</b>
                {s.t.verdict && <> {verdictNames[s.t.verdict]}</>}
                {s.t.by && s.t.by !== "tocsin" && <> by {s.t.by}</>}
                {s.t.until && <> until {eventTime(us(s.t.until), now)}</>}
                {s.t.transition === "escalated" && <> to {s.t.severity}</>}
                {s.t.comment && <q>{s.t.comment}</q>}
              </p>
            )}
            {s.n && (
              <p>
                <b>{s.n.receiver}</b> {paged(s.n)} <i>({s.n.integration}{s.n.reason ? `, ${s.n.reason.replaceAll("_", " ")}` : ""})</i>
                {s.n.error && <q>{s.n.error}</q>}
              </p>
            )}
          </li>
        ))}
      </ol>
      {!loading && (told.value?.notifications.length ?? 0) === 0 && <p className="hint">Nobody was told of it.</p>}
    </section>
  );
}

function paged(n: Notification): string {
  const what = n.status === "firing" ? "was paged" : "was told of its end";
  if (n.outcome === "sent") return `${what}${n.attempts > 1 ? ` at the ${n.attempts}. attempt` : ""}`;
  return n.outcome === "retry" ? `could not be told yet, ${n.attempts} attempts` : `could not be told, ${n.attempts} attempts`;
}

/** Earlier alerts of the same machine and cause, with what people said of them. */
function Similar({ alert: a, now }: { alert: Incident; now: number }) {
  const { value, error } = useLoad(`s ${a.alert_id}`, (s) => listIncidents({ equipment_id: a.equipment_id, cause: a.cause, limit: 12 }, s));
  const earlier = value?.alerts.filter((o) => o.alert_id !== a.alert_id && ms(o.opened_at) < ms(a.opened_at)).slice(0, 8) ?? [];
  const nearest = a.annotations?.["earlier"];
  return (
    <section>
      <h3>Earlier ones like it</h3>
      {nearest && <p>The sensors behaved most like this at {nearest}.</p>}
      {error && <p className="hint">{error.message}</p>}
      {value && earlier.length === 0 && !nearest && <p className="hint">The first of this machine and cause that the journal knows.</p>}
      {earlier.length > 0 && (
        <ul className="earlier">
          {earlier.map((o) => (
            <li key={o.alert_id}>
              <a href={href("alerts", [o.alert_id])}>{eventTime(us(o.opened_at), now)}</a>
              <span>{o.ended_at ? `for ${span(ms(o.ended_at) - ms(o.started_at))}` : stateNames[o.state]}</span>
              <span className={o.verdict ? "" : "hint"}>{o.verdict ? `${verdictNames[o.verdict.verdict]}${o.verdict.comment ? `: ${o.verdict.comment}` : ""}` : "no verdict"}</span>
            </li>
          ))}
        </ul>
      )}
    </section>
  );
}
