import { get, ApiError } from "./api";
import { count, span } from "./format";
import { href } from "./route";
import { useLoad } from "./load";

interface Group {
  state: string;
  reason: string;
  count: number;
  sensors: string[];
}

interface Coverage {
  groups: Group[];
  learning_left_us: number;
  health: string;
  detectors: { detector: string; health: string; reason: string }[];
}

const everyMs = 10_000;
const named = 6;

const name = (g: Group) => [g.state.replace("COVERAGE_STATE_", "").toLowerCase(), g.reason].filter(Boolean).join(", ").replaceAll("_", " ");

/** What is judged of one machine, and what is not and why. */
export function CoverageLine({ id }: { id: string }) {
  const { value, error } = useLoad<Coverage | undefined>(
    id,
    async (signal) => {
      try {
        return (await get<{ coverage: Coverage }>(`/v1/equipment/${encodeURIComponent(id)}/coverage`, {}, signal)).coverage;
      } catch (e) {
        if (e instanceof ApiError && e.status === 404) return undefined;
        throw e;
      }
    },
    everyMs,
  );
  if (!value) return error ? <p className="hint">Coverage: {error.message}</p> : null;
  const total = value.groups.reduce((n, g) => n + g.count, 0);
  if (total === 0) return null;
  return (
    <section className="machinecoverage">
      <h2>
        <a href={href("coverage")}>Coverage</a>
      </h2>
      <div className="coverbar" aria-hidden="true">
        {value.groups.map((g) => (
          <span key={g.state + g.reason} className={kind(g)} style={{ flexGrow: g.count }} />
        ))}
      </div>
      <ul>
        {value.groups.map((g) => (
          <li key={g.state + g.reason} className={kind(g)}>
            <b>{count(g.count)}</b> {name(g)}
            {kind(g) !== "judged" && g.sensors.length > 0 && <span className="hint"> {g.sensors.slice(0, named).join(", ")}{g.sensors.length > named ? ` and ${g.sensors.length - named} more` : ""}</span>}
          </li>
        ))}
        {value.learning_left_us > 0 && <li>{span(value.learning_left_us / 1000)} to learn</li>}
        {(value.detectors ?? []).filter((d) => d.health !== "HEALTH_HEALTHY").map((d) => (
          <li key={d.detector} className="blind">
            detector {d.detector}: {d.reason || d.health.replace("HEALTH_", "").toLowerCase()}
          </li>
        ))}
      </ul>
    </section>
  );
}

/** How bad it is, in three: judged, on the way, not judged. */
export function kind(g: { state: string; reason: string }): "judged" | "learning" | "blind" {
  if (g.state === "COVERAGE_STATE_JUDGED") return g.reason ? "learning" : "judged";
  return g.state === "COVERAGE_STATE_LEARNING" ? "learning" : "blind";
}
