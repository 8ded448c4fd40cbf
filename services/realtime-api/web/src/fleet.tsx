import { memo, useDeferredValue, useLayoutEffect, useMemo, useRef, useState } from "react";
import { AlertLine, openAlerts } from "./alerts";
import { useNow } from "./clock";
import { ago, count, eventTime, odds, scoreText, surprise, surpriseMax } from "./format";
import { grouped, groupings, groupOf, usable, type Grouping, type Machines } from "./grouping";
import { Icon, StateIcon, stateLabel } from "./icons";
import { useShortcuts } from "./keys";
import { FleetMap } from "./map";
import { stateName, stateNames, type Row, type StateName } from "./model";
import { machineHref, setQuery } from "./route";
import { rank, type Data } from "./store";
import type { ViewProps } from "./view";

type View = "cards" | "list" | "map";
const views: { name: View; label: string; height: number; minWidth: number; gap: number }[] = [
  { name: "cards", label: "Cards", height: 78, minWidth: 168, gap: 10 },
  { name: "list", label: "List", height: 40, minWidth: 1e9, gap: 0 },
  { name: "map", label: "Map", height: 0, minWidth: 0, gap: 0 },
];

/** Above this many machines the map is what is shown, unless somebody chose. */
const cardsUpTo = 150;
const shownAlerts = 12;

export function Fleet({ data, query }: ViewProps) {
  const state = query.get("state") as StateName | null;
  const search = query.get("q") ?? "";
  const by = (groupings.find((g) => g.name === query.get("by"))?.name ?? "") as Grouping;
  const inGroup = by ? (query.get("in") ?? "") : "";
  const usual = data.rows.size > cardsUpTo ? "map" : "cards";
  const view = views.find((v) => v.name === (query.get("view") ?? usual)) ?? (views[0] as (typeof views)[0]);
  const sort = view.name === "map" ? "name" : (query.get("sort") ?? "attention");
  const ids = useOrder(data, state, useDeferredValue(search), sort, by, inGroup);
  const groups = useMemo(() => (by && view.name === "map" ? grouped(data, ids, by) : [{ name: "", ids }]), [ids, by, view.name]);
  const names = useMemo(() => (by ? grouped(data, [...data.rows.keys()], by).map((g) => g.name) : []), [data.orderVersion, by]);
  const choices = useMemo(() => usable(data), [data.membersVersion]);
  const counts = useMemo(() => {
    const out: Record<StateName, number> = { critical: 0, warning: 0, silent: 0, learning: 0, ok: 0 };
    for (const r of data.rows.values()) out[stateName(r.st)]++;
    return out;
  }, [data.rowsVersion]);
  const open = openAlerts(data);
  const choose = (v: View) => setQuery({ view: v === usual ? "" : v });
  useShortcuts("Fleet", [
    ...stateNames.map((s, i) => ({ keys: String(i + 1), label: `Only ${stateLabel[s].toLowerCase()}, or all`, run: () => setQuery({ state: state === s ? "" : s }) })),
    ...views.map((v) => ({ keys: `v ${v.name[0]}`, label: v.label, run: () => choose(v.name) })),
    { keys: "b", label: "Group by the next", run: () => setQuery({ by: choices[(choices.findIndex((g) => g.name === by) + 1) % choices.length]?.name ?? "", in: "" }) },
    { keys: "0", label: "Show all", run: () => setQuery({ q: "", state: "", in: "" }) },
  ]);
  return (
    <div className={data.alertsLoaded ? "fleet" : "fleet waiting"}>
      <h1 className="sr">Fleet</h1>
      <section className="tiles" aria-label="Machines by state">
        {stateNames.map((s) => (
          <button
            key={s}
            type="button"
            className={`tile s-${s} ${counts[s] > 0 ? "some" : "none"}`}
            aria-pressed={state === s}
            onClick={() => setQuery({ state: state === s ? "" : s })}
          >
            <StateIcon state={s} size={18} />
            <b>{data.fleetLoaded ? count(counts[s]) : "–"}</b>
            <span>{stateLabel[s]}</span>
          </button>
        ))}
      </section>
      <Share counts={counts} total={data.rows.size} />
      <div className="columns">
        <section className="machines" aria-label="Machines">
          <div className="tools">
            <label className="search">
              <Icon name="search" />
              <input
                type="search"
                placeholder="Find a machine"
                aria-label="Find a machine"
                value={search}
                onChange={(e) => setQuery({ q: e.target.value })}
                onKeyDown={(e) => {
                  if (e.key === "Enter" && ids[0] !== undefined && search) location.hash = machineHref(ids[0]);
                  if (e.key === "Escape") e.currentTarget.blur();
                }}
              />
            </label>
            <span className="found" role="status">
              {data.fleetLoaded && (ids.length === data.rows.size ? `${count(ids.length)} machines` : `${count(ids.length)} of ${count(data.rows.size)}`)}
            </span>
            <label className="sort">
              <span>Group by</span>
              <select value={by} onChange={(e) => setQuery({ by: e.target.value, in: "" })}>
                {choices.map((g) => (
                  <option key={g.name} value={g.name}>
                    {g.label}
                  </option>
                ))}
              </select>
            </label>
            {by && (
              <label className="sort within">
                <span className="sr">Which</span>
                <select value={inGroup} onChange={(e) => setQuery({ in: e.target.value })}>
                  <option value="">all {count(names.length)}</option>
                  {names.filter((n) => n !== "other").map((n) => (
                    <option key={n} value={n}>
                      {n}
                    </option>
                  ))}
                </select>
              </label>
            )}
            {view.name !== "map" && (
              <label className="sort">
                <span>Sort</span>
                <select value={sort} onChange={(e) => setQuery({ sort: e.target.value === "attention" ? "" : e.target.value })}>
                  <option value="attention">Attention</option>
                  <option value="score">Score</option>
                  <option value="name">Name</option>
                </select>
              </label>
            )}
            <div className="views" role="group" aria-label="View">
              {views.map((v) => (
                <button key={v.name} type="button" className="ghost" aria-pressed={view.name === v.name} aria-label={v.label} title={v.label} onClick={() => choose(v.name)}>
                  <Icon name={v.name} />
                </button>
              ))}
            </div>
          </div>
          <Body data={data} ids={ids} groups={groups} view={view} filtered={Boolean(state || search || inGroup)} />
        </section>
        <aside className="panel" aria-label="Open alerts">
          <h2>
            Open alerts <span className="n">{data.alertsLoaded ? count(open.length) : ""}</span>
          </h2>
          {data.alertsLoaded && open.length === 0 && (
            <p className="calm">
              <StateIcon state="ok" size={22} />
              No open alerts.
            </p>
          )}
          <ul className="alertlines">
            {open.slice(0, shownAlerts).map((a) => (
              <AlertLine key={a.alert_id} alert={a} skew={data.skew} />
            ))}
          </ul>
          {open.length > shownAlerts && <a href="#/alerts">All {count(open.length)} open alerts</a>}
        </aside>
      </div>
    </div>
  );
}

function Share({ counts, total }: { counts: Record<StateName, number>; total: number }) {
  return (
    <div className="share" aria-hidden="true">
      {total > 0 &&
        stateNames.map((s) => counts[s] > 0 && <span key={s} className={`s-${s}`} style={{ flexGrow: Math.max(counts[s], total * 0.004) }} />)}
    </div>
  );
}

const collator = new Intl.Collator("en", { numeric: true });

/** Ids in order. Sorted by attention or name, nothing moves while no state changes. */
function useOrder(data: Data, state: StateName | null, search: string, sort: string, by: Grouping, inGroup: string): string[] {
  const needle = search.trim().toLowerCase();
  // Sorted by name and whole, only a machine that comes or goes moves others: the map keeps its places.
  const moves = sort === "score" ? data.rowsVersion : sort === "name" && !state ? data.membersVersion : data.orderVersion;
  return useMemo(() => {
    const rows = [...data.rows.values()].filter((r) => (!state || stateName(r.st) === state) && (!needle || r.id.toLowerCase().includes(needle)) && (!inGroup || groupOf(r, by) === inGroup));
    const byName = (a: Row, b: Row) => collator.compare(a.id, b.id);
    if (sort === "score") rows.sort((a, b) => (b.sc ?? 0) - (a.sc ?? 0) || byName(a, b));
    else if (sort === "name") rows.sort(byName);
    else rows.sort((a, b) => rank(a) - rank(b) || byName(a, b));
    return rows.map((r) => r.id);
  }, [data.rows, moves, state, needle, sort, by, inGroup]);
}

function Body({ data, ids, groups, view, filtered }: { data: Data; ids: string[]; groups: Machines[]; view: (typeof views)[0]; filtered: boolean }) {
  if (!data.fleetLoaded) {
    return (
      <div className="skeletons" aria-label="Loading" role="status">
        {Array.from({ length: 24 }, (_, i) => (
          <span key={i} className="skeleton" />
        ))}
      </div>
    );
  }
  if (ids.length === 0) {
    return filtered ? (
      <div className="empty">
        <p>No machine matches.</p>
        <button type="button" onClick={() => setQuery({ q: "", state: "", in: "" })}>
          Show all {count(data.rows.size)}
        </button>
      </div>
    ) : (
      <div className="empty">
        <p>No machine has been heard yet.</p>
        <p className="hint">A machine appears here once its first 5 s window is closed. Send frames to the ingest gateway, or start the simulator.</p>
      </div>
    );
  }
  if (view.name === "map") return <MapArea data={data} groups={groups} />;
  return <Virtual data={data} ids={ids} view={view} />;
}

/** The map on what is left of the window, so that a wall needs no scrolling. */
function MapArea({ data, groups }: { data: Data; groups: Machines[] }) {
  const box = useRef<HTMLDivElement>(null);
  const [height, setHeight] = useState(500);
  useLayoutEffect(() => {
    const measure = () => {
      const top = (box.current?.getBoundingClientRect().top ?? 0) + window.scrollY;
      setHeight(Math.max(320, window.innerHeight - top - (window.innerWidth <= 720 ? 72 : 20)));
    };
    measure();
    window.addEventListener("resize", measure);
    return () => window.removeEventListener("resize", measure);
  }, []);
  return (
    <div ref={box}>
      <FleetMap data={data} groups={groups} height={height} onGroup={(name) => setQuery({ in: name })} />
    </div>
  );
}

/** Renders only the rows in sight: a fleet may have 20,000 machines. */
function Virtual({ data, ids, view }: { data: Data; ids: string[]; view: (typeof views)[0] }) {
  const box = useRef<HTMLDivElement>(null);
  const [area, setArea] = useState({ width: 0, top: 0, bottom: 1200 });
  useLayoutEffect(() => {
    const measure = () => {
      const el = box.current;
      if (!el) return;
      const r = el.getBoundingClientRect();
      const next = { width: r.width, top: Math.floor(-r.top / 120) * 120, bottom: Math.ceil((window.innerHeight - r.top) / 120) * 120 };
      setArea((a) => (a.width === next.width && a.top === next.top && a.bottom === next.bottom ? a : next));
    };
    measure();
    const watch = new ResizeObserver(measure);
    if (box.current) watch.observe(box.current);
    window.addEventListener("scroll", measure, { passive: true });
    window.addEventListener("resize", measure);
    return () => {
      watch.disconnect();
      window.removeEventListener("scroll", measure);
      window.removeEventListener("resize", measure);
    };
  }, []);
  const columns = Math.max(1, Math.floor((area.width + view.gap) / (view.minWidth + view.gap)));
  const pitch = view.height + view.gap;
  const lines = Math.ceil(ids.length / columns);
  const first = Math.max(0, Math.floor(area.top / pitch) - 3);
  const last = Math.min(lines, Math.ceil(area.bottom / pitch) + 3);
  const shown = area.width > 0 ? ids.slice(first * columns, last * columns) : [];
  return (
    <div ref={box} className="virtual" style={{ height: lines * pitch }}>
      <div
        className={`grid ${view.name}`}
        role={view.name === "list" ? "table" : "list"}
        aria-label="Machines"
        aria-rowcount={view.name === "list" ? ids.length : undefined}
        style={{ transform: `translateY(${first * pitch}px)`, gridTemplateColumns: `repeat(${columns}, minmax(0, 1fr))`, gridAutoRows: view.height, gap: view.gap }}
      >
        {shown.map((id, i) => {
          const row = data.rows.get(id);
          return row && <Cell key={id} row={row} view={view.name} index={first * columns + i + 1} skew={Math.round(data.skew / 1000)} />;
        })}
      </div>
    </div>
  );
}

const Cell = memo(function Cell({ row, view, index, skew }: { row: Row; view: View; index: number; skew: number }) {
  const state = stateName(row.st);
  const cls = `cell s-${state} ${row.sv === 3 && state === "silent" ? "was-critical" : ""}`;
  const gauge = (
    <span className="gauge" title={`Score ${scoreText(row.sc)}: ${odds(row.sc)}, when all is well`}>
      <span className="fill" style={{ transform: `scaleX(${Math.min(1, surprise(row.sc) / surpriseMax)})` }} />
    </span>
  );
  const more = row.al && row.al > 1 ? <span className="alerts-n">{row.al}</span> : null;
  if (view === "list") {
    return (
      <div role="row" aria-rowindex={index} className={cls}>
        <span role="cell" className="name">
          <StateIcon state={state} />
          <a className="whole" href={machineHref(row.id)}>
            <Name id={row.id} />
          </a>
          {more}
        </span>
        <span role="cell" className="st">
          {stateLabel[state]}
        </span>
        <span role="cell" className="bar" aria-label={odds(row.sc)}>
          {gauge}
        </span>
        <span role="cell" className="score">
          {scoreText(row.sc)}
        </span>
        <span role="cell" className="gw">
          {row.gw ?? ""}
        </span>
        <span role="cell" className="age">
          <Age us={row.t} skew={skew} />
        </span>
      </div>
    );
  }
  return (
    <div role="listitem" className="item">
      <a className={cls} href={machineHref(row.id)}>
        <span className="name">
          <StateIcon state={state} />
          <Name id={row.id} />
          {more}
        </span>
        {gauge}
        <span className="score">{scoreText(row.sc)}</span>
        <span className="age">
          <Age us={row.t} skew={skew} />
        </span>
      </a>
    </div>
  );
});

/** A name whose end stays in sight: machines of a kind differ there. */
function Name({ id }: { id: string }) {
  const tail = id.length > 10 ? 4 : 0;
  return (
    <span className="id" title={id}>
      <span className="start">{tail ? id.slice(0, -tail) : id}</span>
      {tail > 0 && <span className="end">{id.slice(-tail)}</span>}
    </span>
  );
}

/** Age of event time while it is live, the time itself for what is replayed from long ago. */
function Age({ us, skew }: { us: number; skew: number }) {
  const now = useNow() + skew * 1000;
  if (!us) return <>no data yet</>;
  return <>{Math.abs(now - us / 1000) < 43_200_000 ? ago(us / 1000, now) : eventTime(us, now)}</>;
}
