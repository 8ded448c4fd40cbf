import { useState, type FormEvent, type ReactNode } from "react";
import { Dialog } from "./dialog";
import { causeName } from "./format";
import { storedName, storeName } from "./inboxacts";
import { verdictNames, type Act, type Incident, type Verdict } from "./inboxapi";

interface Props {
  alert: Incident;
  /** The server knows who acts. */
  named: boolean;
  onDo(body: Act): void;
  onClose(): void;
}

/** A form whose fields end in an act. */
function ActDialog({ title, verb, named, children, body, onDo, onClose }: { title: string; verb: string; named: boolean; children?: ReactNode; body(): Act; onDo(body: Act): void; onClose(): void }) {
  const [name, setName] = useState(storedName());
  const submit = (e: FormEvent) => {
    e.preventDefault();
    if (!named) storeName(name.trim());
    onDo(named ? body() : { ...body(), by: name.trim() });
  };
  return (
    <Dialog title={title} onClose={onClose}>
      <form className="actform" onSubmit={submit}>
        {children}
        {!named && (
          <label>
            <span>Your name, for the journal</span>
            <input required maxLength={128} value={name} onChange={(e) => setName(e.target.value)} autoComplete="name" />
          </label>
        )}
        <div className="row">
          <button type="submit" className="primary">
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

function Note({ label, required = false, value, onChange }: { label: string; required?: boolean; value: string; onChange(v: string): void }) {
  return (
    <label>
      <span>{label}</span>
      <textarea rows={2} maxLength={2000} required={required} value={value} onChange={(e) => onChange(e.target.value)} />
    </label>
  );
}

const spans = [
  { value: "1h", label: "1 hour" },
  { value: "4h", label: "4 hours" },
  { value: "8h", label: "8 hours" },
  { value: "24h", label: "1 day" },
  { value: "72h", label: "3 days" },
];

function Spans({ value, onChange, open }: { value: string; onChange(v: string): void; open?: string }) {
  return (
    <fieldset className="choices">
      <legend>For how long</legend>
      {[...spans, ...(open ? [{ value: "", label: open }] : [])].map((s) => (
        <label key={s.value}>
          <input type="radio" name="duration" checked={value === s.value} onChange={() => onChange(s.value)} /> {s.label}
        </label>
      ))}
    </fieldset>
  );
}

export function AcknowledgeDialog({ onDo, onClose }: Pick<Props, "onDo" | "onClose">) {
  return <ActDialog title="Acknowledge" verb="Acknowledge" named={false} body={() => ({})} onDo={onDo} onClose={onClose} />;
}

export function ShelveDialog({ alert, named, onDo, onClose }: Props) {
  const [duration, setDuration] = useState("8h");
  const [comment, setComment] = useState("");
  return (
    <ActDialog title="Shelve" verb="Shelve" named={named} body={() => ({ duration, comment: comment.trim() })} onDo={onDo} onClose={onClose}>
      <p className="hint">
        Nobody is told of {causeName(alert.cause).toLowerCase()} alerts of {alert.equipment_id} until then. If one stands when the shelf ends, people are told.
      </p>
      <Spans value={duration} onChange={setDuration} />
      <Note label="Why (may be empty)" value={comment} onChange={setComment} />
    </ActDialog>
  );
}

export function ServiceDialog({ alert, named, onDo, onClose }: Props) {
  const [duration, setDuration] = useState("");
  const [comment, setComment] = useState("");
  return (
    <ActDialog title="Take out of service" verb="Take out of service" named={named} body={() => ({ ...(duration ? { duration } : {}), comment: comment.trim() })} onDo={onDo} onClose={onClose}>
      <p className="hint">
        The {causeName(alert.cause).toLowerCase()} alarm of {alert.equipment_id} calls nobody until it is put back.
      </p>
      <Spans value={duration} onChange={setDuration} open="until it is put back" />
      <Note label="Why" required value={comment} onChange={setComment} />
    </ActDialog>
  );
}

const worth: { value: Verdict; hint: string }[] = [
  { value: "real", hint: "something was wrong with the machine" },
  { value: "false", hint: "nothing was wrong; it should not have called" },
  { value: "known", hint: "right, but known: maintenance, a trial, a change of product" },
  { value: "sensor", hint: "the machine was well, the sensor or its line was not" },
];

export function VerdictDialog({ alert, named, onDo, onClose }: Props) {
  const [verdict, setVerdict] = useState<Verdict | "">(alert.verdict?.verdict ?? "");
  const [comment, setComment] = useState("");
  return (
    <ActDialog title="What was it worth?" verb="Save" named={named} body={() => ({ ...(verdict ? { verdict } : {}), comment: comment.trim() })} onDo={onDo} onClose={onClose}>
      <fieldset className="choices tall">
        <legend>The last word counts. Precision, tuning and the comparison of models rest on it.</legend>
        {worth.map((w) => (
          <label key={w.value}>
            <input type="radio" name="verdict" required checked={verdict === w.value} onChange={() => setVerdict(w.value)} /> <b>{verdictNames[w.value]}</b> <i>{w.hint}</i>
          </label>
        ))}
      </fieldset>
      <Note label="Note (may be empty)" value={comment} onChange={setComment} />
    </ActDialog>
  );
}
