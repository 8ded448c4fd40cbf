import { get } from "./api";
import { kind } from "./covered";
import { count, percent, span } from "./format";
import { StateIcon } from "./icons";
import { useLoad } from "./load";
import { machineHref, setQuery } from "./route";
import type { ViewProps } from "./view";

// What /v1/coverage answers; see openapi.yaml.
interface Total {
  state: string;
  reason: string;
  sensors: number;
  machines: number;
}

interface Gateway {
  gateway_id: string;
  machines: number;
  sensors: number;
  judged: number;
  states: Total[];
}

interface MachineRow {
  equipment_id: string;
  gateway_id: string;
  health: string;
  sensors: number;
  judged: number;
  states: Total[];
  learning_left_us: number;
}

interface Answer {
  totals: Total[];
  gateways: Gateway[];
  machines_degraded: number;
  machines_failed: number;
  machines: MachineRow[];
  next_page_token: string;
  total: number;
}

const everyMs = 5000;
const shownGateways = 20;

/** "COVERAGE_STATE_BAD_QUALITY" and "out_of_range" as "bad quality, out of range". */
const words = (t: { state: string; reason: string }) =>
  [t.state.replace("COVERAGE_STATE_", "").toLowerCase(), t.reason].filter(Boolean).join(", ").replaceAll("_", " ");

const short = (state: string) => state.replace("COVERAGE_STATE_", "").toLowerCase();
const good = (t: Total) => t.state === "COVERAGE_STATE_JUDGED" && t.reason === "";
const blind = "learning,silent,late,bad_quality,gateway_down,clock_wrong,dead_lettered,model_failed,refused";

/** What is judged and what is not, and why: of the fleet, by gateway, and of the machines that are not judged whole. */
export function CoveragePage({ query }: ViewProps) {
  const state = query.get("state") ?? "";
  const gateway = query.get("gateway") ?? "";
  const { value: answer, error: failed } = useLoad(
    `${state} ${gateway}`,
    (signal) => get<Answer>("/v1/coverage", { page_size: 100, state: state || blind, gateway_id: gateway }, signal),
    everyMs,
  );
  if (!answer) {
    return (
      <div className="coveragepage">
        <div className="pagehead">
          <h1>Coverage</h1>
        </div>
        <p className="hint" role="status">
          {failed ? failed.message : "Loading."}
        </p>
      </div>
    );
  }
  const sensors = answer.totals.reduce((n, t) => n + t.sensors, 0);
  const states = [...new Set(answer.totals.map((t) => short(t.state)))];
  return (
    <div className="coveragepage">
      <div className="pagehead">
        <h1>Coverage</h1>
        <p className="hint">
          {count(sensors)} sensors
          {answer.machines_degraded > 0 && `, ${count(answer.machines_degraded)} machines with a failed detector`}
          {answer.machines_failed > 0 && `, ${count(answer.machines_failed)} judged by fixed limits only`}
          {failed && ", the server does not answer: last known state"}
        </p>
        <label className="sort">
          <span>Machines</span>
          <select value={state} onChange={(e) => setQuery({ state: e.target.value })}>
            <option value="">not judged whole</option>
            {states.map((s) => (
              <option key={s} value={s}>
                {s.replaceAll("_", " ")}
              </option>
            ))}
          </select>
        </label>
      </div>
      {sensors === 0 ? (
        <div className="empty">
          <p>Nothing is known of any sensor yet.</p>
        </div>
      ) : (
        <>
          <div className="coverbar large" aria-hidden="true">
            {answer.totals.map((t) => (
              <span key={t.state + t.reason} className={kind(t)} style={{ flexGrow: t.sensors }} title={`${count(t.sensors)} ${words(t)}`} />
            ))}
          </div>
          {answer.gateways.length > 1 && <GatewayMap gateways={answer.gateways} chosen={gateway} />}
          <table className="covered" tabIndex={0}>
            <caption>Sensors by state</caption>
            <thead>
              <tr>
                <th scope="col">State</th>
                <th scope="col">Sensors</th>
                <th scope="col">Machines</th>
              </tr>
            </thead>
            <tbody>
              {answer.totals.map((t) => (
                <tr key={t.state + t.reason} className={good(t) ? "" : "off"}>
                  <th scope="row">{words(t)}</th>
                  <td>{count(t.sensors)}</td>
                  <td>{count(t.machines)}</td>
                </tr>
              ))}
            </tbody>
          </table>
          <table className="covered" tabIndex={0}>
            <caption>Gateways</caption>
            <thead>
              <tr>
                <th scope="col">Gateway</th>
                <th scope="col">Machines</th>
                <th scope="col">Sensors judged</th>
                <th scope="col">Others</th>
              </tr>
            </thead>
            <tbody>
              {answer.gateways.slice(0, shownGateways).map((g) => (
                <tr key={g.gateway_id} className={g.judged === g.sensors ? "" : "off"}>
                  <th scope="row">{g.gateway_id || "–"}</th>
                  <td>{count(g.machines)}</td>
                  <td>
                    {count(g.judged)} of {count(g.sensors)}
                  </td>
                  <td className="text">{others(g.states)}</td>
                </tr>
              ))}
            </tbody>
          </table>
          {answer.gateways.length > shownGateways && <p className="hint">and {count(answer.gateways.length - shownGateways)} more gateways</p>}
          {gateway && (
            <p className="note">
              Machines of {gateway} only.{" "}
              <button type="button" onClick={() => setQuery({ gateway: "" })}>
                All gateways
              </button>
            </p>
          )}
          {answer.machines.length === 0 ? (
            <div className="empty">
              <StateIcon state="ok" size={30} />
              <p>Every sensor is judged.</p>
            </div>
          ) : (
            <table className="covered" tabIndex={0}>
              <caption>Machines</caption>
              <thead>
                <tr>
                  <th scope="col">Machine</th>
                  <th scope="col">Gateway</th>
                  <th scope="col">Sensors judged</th>
                  <th scope="col">Others</th>
                </tr>
              </thead>
              <tbody>
                {answer.machines.map((m) => (
                  <tr key={m.equipment_id} className={m.judged === m.sensors ? "" : "off"}>
                    <th scope="row">
                      <a href={machineHref(m.equipment_id)}>{m.equipment_id}</a>
                    </th>
                    <td className="text">{m.gateway_id}</td>
                    <td>
                      {count(m.judged)} of {count(m.sensors)}
                    </td>
                    <td className="text">
                      {others(m.states)}
                      {m.learning_left_us > 0 && ` (${span(m.learning_left_us / 1000)} to learn)`}
                    </td>
                  </tr>
                ))}
              </tbody>
            </table>
          )}
          {answer.total > answer.machines.length && <p className="hint">and {count(answer.total - answer.machines.length)} more machines</p>}
        </>
      )}
    </div>
  );
}

/** Gateways as tiles, the worst first: how much of what they bring is judged. */
function GatewayMap({ gateways, chosen }: { gateways: Gateway[]; chosen: string }) {
  const share = (g: Gateway) => (g.sensors ? g.judged / g.sensors : 1);
  const list = [...gateways].sort((a, b) => share(a) - share(b) || (a.gateway_id < b.gateway_id ? -1 : 1));
  return (
    <div className="gatewaymap" role="group" aria-label="Gateways">
      {list.map((g) => {
        const s = share(g);
        const worst = g.states.some((t) => kind(t) === "blind") ? "blind" : s < 1 ? "learning" : "judged";
        return (
          <button
            key={g.gateway_id}
            type="button"
            className={`gatewaytile ${worst}`}
            aria-pressed={chosen === g.gateway_id}
            title={`${g.gateway_id || "no gateway"}: ${count(g.judged)} of ${count(g.sensors)} sensors judged`}
            onClick={() => setQuery({ gateway: chosen === g.gateway_id ? "" : g.gateway_id })}
          >
            <b>{g.gateway_id || "–"}</b>
            <span>{s > 0.995 && s < 1 ? "> 99 %" : percent(s)}</span>
            <i style={{ transform: `scaleX(${s})` }} />
          </button>
        );
      })}
    </div>
  );
}

const others = (states: Total[]) =>
  states
    .filter((t) => !good(t))
    .map((t) => `${count(t.sensors)} ${words(t)}`)
    .join("; ");
