import { useState, type FormEvent, type ReactNode } from "react";
import { ApiError } from "./api";
import { useNow } from "./clock";
import { applySettings, getDetection, goBack, listRevisions, type Detection, type Key, type Reason, type Revision } from "./detectionapi";
import { Dialog } from "./dialog";
import { ago, num } from "./format";
import { storedName, storeName } from "./inboxacts";
import { ms } from "./inboxapi";
import { useLoad } from "./load";
import { useFeature } from "./session";
import { say } from "./toast";
import type { Trial, TrialResult } from "./tuningapi";
import { YamlBlock } from "./yamlblock";

const everyMs = 2000;

/** What the fleet is judged under; undefined where nobody can say so. */
export function useDetection() {
  const there = useFeature("detection");
  return useLoad(there ? "detection" : "", (s) => (there ? getDetection(s) : Promise.resolve(undefined)), there ? everyMs : 0);
}

/** Asks why, and by whom where the server does not know; what was refused is said in place. */
export function ReasonDialog({ title, verb, name, children, onDo, onDone, onClose }: { title: string; verb: string; name: string | undefined; children: ReactNode; onDo(r: Reason): Promise<Detection>; onDone(d: Detection): void; onClose(): void }) {
  const [by, setBy] = useState(storedName());
  const [why, setWhy] = useState("");
  const [busy, setBusy] = useState(false);
  const [wrong, setWrong] = useState("");
  const submit = async (e: FormEvent) => {
    e.preventDefault();
    setBusy(true);
    setWrong("");
    if (!name) storeName(by.trim());
    try {
      onDone(await onDo(name ? { why: why.trim() } : { by: by.trim(), why: why.trim() }));
    } catch (e) {
      setWrong(e instanceof ApiError ? e.message : String(e));
      setBusy(false);
    }
  };
  return (
    <Dialog title={title} onClose={onClose}>
      <form className="actform" onSubmit={(e) => void submit(e)}>
        {children}
        <label>
          <span>Why, for those who read it later</span>
          <textarea rows={2} maxLength={1000} required value={why} onChange={(e) => setWhy(e.target.value)} />
        </label>
        {!name && (
          <label>
            <span>Your name, for the journal</span>
            <input required maxLength={128} value={by} onChange={(e) => setBy(e.target.value)} autoComplete="name" />
          </label>
        )}
        <p className="wrong" role="alert">
          {wrong}
        </p>
        <div className="row">
          <button type="submit" className="primary" disabled={busy}>
            {verb}
          </button>
          <button type="button" onClick={onClose}>
            Cancel
          </button>
        </div>
      </form>
    </Dialog>
  );
}

function Keys({ list }: { list: Key[] }) {
  return (
    <ul className="changes">
      {list.map((c) => (
        <li key={c.key}>
          <code>{c.key}</code> {c.was || "–"} → <b>{c.is || "–"}</b>
        </li>
      ))}
    </ul>
  );
}

const force = (d: Detection) =>
  d.partitions === 0 ? "it takes effect within seconds" : d.following === d.partitions ? "in force" : `in force in ${d.following} of ${d.partitions} partitions`;

/** What a trial found is put into effect, by who may; others take the lines along. */
export function ApplyCard({ trial, r }: { trial: Trial; r: TrialResult }) {
  const { value: d, again } = useDetection();
  const [ask, setAsk] = useState<"apply" | "undo">();
  const [done, setDone] = useState<string>();
  const base = r.base;
  const may = d?.rights === "change" && base !== undefined;
  const list = r.changes.map((c) => ({ key: c.key, was: c.current, is: c.proposed }));
  const holds = d !== undefined && d.id === done;
  const finish = (text: string, id?: string) => {
    setAsk(undefined);
    setDone(id);
    say(text);
    again();
  };
  return (
    <div className="card">
      <h2>To apply it</h2>
      <Keys list={list} />
      {may && (
        <>
          {done && (
            <p className="verdictline" role="status">
              {holds ? `Revision ${done} is ${force(d)}.` : `Revision ${done} was applied; ${d.id} holds since.`}
            </p>
          )}
          {!done && d.id !== base && <p className="hint">Revision {d.id} holds, and this was tried against {base}: try it again before you apply it.</p>}
          <p className="row">
            {done ? (
              <button type="button" disabled={!holds} onClick={() => setAsk("undo")}>
                Undo
              </button>
            ) : (
              <button type="button" className="primary" disabled={d.id !== base || list.length === 0} onClick={() => setAsk("apply")}>
                Apply to the fleet
              </button>
            )}
          </p>
        </>
      )}
      {ask === "apply" && d && base !== undefined && (
        <ReasonDialog
          title="Apply to the fleet"
          verb="Apply"
          name={d.name}
          onDo={(reason) => applySettings(base, trial.request.detection, trial.id, reason)}
          onDone={(n) => finish(`Revision ${n.id} was applied.`, n.id)}
          onClose={() => setAsk(undefined)}
        >
          <p>All machines are judged under this from one place of each partition's log on, within seconds. What was judged before stays as it is.</p>
          <Keys list={list} />
          <p>
            Pages per machine and month: {num(r.before.pages_per_machine_month)} → <b>{num(r.after.pages_per_machine_month)}</b>
          </p>
        </ReasonDialog>
      )}
      {ask === "undo" && d && base !== undefined && (
        <ReasonDialog title={`Back to revision ${base}`} verb="Go back" name={d.name} onDo={(reason) => goBack(d.id, base, reason)} onDone={(n) => finish(`Revision ${n.id} has the settings of ${base}.`)} onClose={() => setAsk(undefined)}>
          <Keys list={list.map((c) => ({ key: c.key, was: c.is, is: c.was }))} />
        </ReasonDialog>
      )}
      {may ? (
        <details>
          <summary>For the configuration file</summary>
          <p className="hint">What is applied holds through restarts. Who wants it in the file too writes it there.</p>
          <YamlBlock text={r.yaml} />
        </details>
      ) : (
        <>
          <p className="hint">
            Put this into the fleet's configuration and reload the stream-processors (SIGHUP). It takes effect at one place of each partition's log; going back is another revision.
          </p>
          <YamlBlock text={r.yaml} />
        </>
      )}
      <p className="hint">Trial {trial.id}.</p>
    </div>
  );
}

const kinds: Record<Revision["kind"], string> = { file: "the file", release: "models released", settings: "settings", correction: "new normal", back: "went back" };

/** What the fleet is judged under, what it was before, and the way back. */
export function Revisions({ skew }: { skew: number }) {
  const { value: d } = useDetection();
  const list = useLoad(d ? `revisions ${d.id}` : "", (s) => (d ? listRevisions(s) : Promise.resolve(undefined)));
  const [back, setBack] = useState<Revision>();
  const now = useNow() + skew;
  if (!d) return null;
  return (
    <section className="card" aria-label="What holds">
      <h2>What holds: revision {d.id}</h2>
      <p className="hint">
        {force(d)}
        {d.applied.length > 0 ? ", otherwise than the file:" : ", as the file says."}
      </p>
      <Keys list={d.applied} />
      <ul className="earlier revisions">
        {list.value?.revisions.map((r, i) => (
          <li key={`${r.id} ${r.at} ${i}`}>
            <span>
              {r.id} <i className="hint">{ago(ms(r.at), now)}</i>
            </span>
            <span>
              {kinds[r.kind]}
              {r.back_to ? ` to ${r.back_to}` : ""}
              {r.by ? `, ${r.by}` : ""}
            </span>
            <span>
              {r.why && <q>{r.why}</q>} <i className="hint">{r.changes.map((c) => `${c.key}: ${c.was || "–"} → ${c.is || "–"}`).join("; ")}</i>
              {d.rights === "change" && i > 0 && (
                <button type="button" onClick={() => setBack(r)}>
                  Go back to {r.id}
                </button>
              )}
            </span>
          </li>
        ))}
      </ul>
      {back && (
        <ReasonDialog
          title={`Back to revision ${back.id}`}
          verb="Go back"
          name={d.name}
          onDo={(reason) => goBack(d.id, back.id, reason)}
          onDone={(n) => {
            setBack(undefined);
            say(`Revision ${n.id} has the settings of ${back.id}.`);
            list.again();
          }}
          onClose={() => setBack(undefined)}
        >
          <p>Its settings hold again for all machines, as a new revision. What was said to be normal stays normal.</p>
        </ReasonDialog>
      )}
    </section>
  );
}
