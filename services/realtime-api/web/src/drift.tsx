import { useState } from "react";
import { get } from "./api";
import { count, eventTime } from "./format";
import { us } from "./inboxapi";
import { useLoad } from "./load";

// Whether what models are given in the stream still looks as in training: GET /v1/drift of the model-trainer, see its DESIGN.md.

type State = "no_reference" | "no_windows" | "too_few" | "stable" | "moved" | "drifted";

interface Point {
  from: string;
  windows: number;
  psi: number;
}

interface Variable {
  name: string;
  state: State;
  says: string;
  psi: number;
  worth_windows: number;
  shift: number | null;
  spread: number | null;
  course: Point[];
}

interface Verdict {
  model: string;
  state: State;
  says: string;
  windows: number;
  reference_rows: number;
  score?: Variable;
  variables?: Variable[];
  retrain?: string;
}

interface Drift {
  counted_until: string | null;
  models: Verdict[];
}

const spans = [
  { value: 6, label: "6 hours" },
  { value: 24, label: "1 day" },
  { value: 168, label: "7 days" },
];

const words: Record<State, string> = { no_reference: "no reference", no_windows: "not asked", too_few: "too few", stable: "as trained", moved: "moved", drifted: "drifted" };

/** From here on the index says that a variable is not what the model was trained on. */
const large = 0.25;
const shown = 8;

export function Drifting({ name, now }: { name: string; now: number }) {
  const [span, setSpan] = useState(24);
  const { value, error } = useLoad(`drift ${name} ${span}`, (s) => get<Drift>("/v1/drift", { model: name, from: new Date(Date.now() - span * 3_600_000).toISOString() }, s), 30_000);
  return (
    <section className="card drift" aria-labelledby="drift">
      <div className="cardhead">
        <h2 id="drift">Drift since training</h2>
        <div className="seg" role="group" aria-label="Time held against training">
          {spans.map((h) => (
            <button key={h.value} type="button" aria-pressed={span === h.value} onClick={() => setSpan(h.value)}>
              {h.label}
            </button>
          ))}
        </div>
      </div>
      {!value && <p className="hint">{error ? error.message : "Loading."}</p>}
      {value && value.models.length === 0 && <p className="hint">No stream-processor asked a model of this name in that time.</p>}
      {value?.models.map((v) => <One key={v.model} v={v} />)}
      {value?.counted_until && <p className="hint">Counted until {eventTime(us(value.counted_until), now)}.</p>}
    </section>
  );
}

function One({ v }: { v: Verdict }) {
  const all = v.score ? [v.score, ...(v.variables ?? [])] : [];
  const rest = all.slice(shown);
  return (
    <article className="driftof" aria-label={`Drift of ${v.model}`}>
      <h3>
        <code>{v.model}</code> <Chip state={v.state} />
      </h3>
      <p>{v.says}.</p>
      {all.length > 0 && (
        <>
          <Variables of={all.slice(0, shown)} model={v.model} />
          {rest.length > 0 && (
            <details>
              <summary>{count(rest.length)} more features</summary>
              <Variables of={rest} model={v.model} />
            </details>
          )}
          <p className="hint">
            Held against {count(v.reference_rows)} rows of training. PSI is the population stability index less what chance gives: from 0.1 on a variable has moved, from 0.25 on it has drifted, if that is beyond chance. The line shows it in
            consecutive stretches of the time, chance and all; the dashes are at 0.25.
          </p>
        </>
      )}
      {v.retrain && (
        <details>
          <summary>What to do</summary>
          <ol className="steps">
            <li>Look at these sensors on a few machines. If a sensor has gone wrong, mend it: a model trained now would learn its fault as usual.</li>
            <li>
              If the process has changed and stays so, train the next version from a time in which all was well. It becomes the shadow:
              <pre tabIndex={0} aria-label="Command that trains the next version">
                <code>{v.retrain}</code>
              </pre>
            </li>
            <li>Compare it in the stream, below, and promote it once it does better. Nothing is trained or promoted by itself.</li>
          </ol>
        </details>
      )}
    </article>
  );
}

const Chip = ({ state }: { state: State }) => <span className={`chip drifts ${state}`}>{words[state]}</span>;

function Variables({ of, model }: { of: Variable[]; model: string }) {
  return (
    <table className="sides variables" aria-label={`Score and features of ${model}, those that have changed most first`}>
      <thead>
        <tr>
          <th scope="col">Of</th>
          <th scope="col">Found</th>
          <th scope="col">PSI</th>
          <th scope="col">Course</th>
        </tr>
      </thead>
      <tbody>
        {of.map((x) => (
          <tr key={x.name}>
            <th scope="row">{x.name}</th>
            <td className="text">
              <Chip state={x.state} />
              {x.state !== "stable" && <span> {x.says}</span>}
            </td>
            <td>{x.worth_windows > 0 ? x.psi.toFixed(2) : "–"}</td>
            <td>
              <Course points={x.course} />
            </td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

const width = 120;
const height = 28;

/** The index over the time, up to twice what counts as large; what the table says in words. */
function Course({ points }: { points: Point[] }) {
  if (points.length < 2) return <span>–</span>;
  const top = Math.max(2 * large, ...points.map((p) => p.psi));
  const y = (psi: number) => (height - 1 - (psi / top) * (height - 2)).toFixed(1);
  const first = Date.parse(points[0]?.from ?? "");
  const last = Date.parse(points.at(-1)?.from ?? "");
  const x = (p: Point) => (((Date.parse(p.from) - first) / Math.max(1, last - first)) * width).toFixed(1);
  return (
    <svg className="course" width={width} height={height} viewBox={`0 0 ${width} ${height}`} role="img" aria-label={`PSI from ${points[0]?.psi.toFixed(2)} to ${points.at(-1)?.psi.toFixed(2)}, at most ${Math.max(...points.map((p) => p.psi)).toFixed(2)}`}>
      <line x1="0" x2={width} y1={y(large)} y2={y(large)} />
      <polyline points={points.map((p) => `${x(p)},${y(p.psi)}`).join(" ")} />
    </svg>
  );
}
