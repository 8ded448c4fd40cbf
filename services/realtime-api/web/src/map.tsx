import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "react";
import { useNow } from "./clock";
import { ago, count, eventTime, odds, scoreText, surprise } from "./format";
import type { Machines } from "./grouping";
import { StateIcon, stateLabel } from "./icons";
import { arrange, blockOf, hit, position, type Layout } from "./maplayout";
import { stateName, type Row } from "./model";
import { machineHref } from "./route";
import { rank, type Data } from "./store";
import { token, useTheme } from "./theme";

const pinSize = 19;
const pinMargin = 8;
const pinsUpTo = 300;

/** How a machine looks: its state, how unusual it is in steps of a decade, and whether a critical alert stands though it is silent. */
function look(r: Row | undefined): number {
  if (!r) return 0;
  return r.st * 16 + Math.min(5, Math.floor(surprise(r.sc))) * 2 + (r.sv === 3 ? 1 : 0);
}

/** All machines at once, each in its place for as long as no machine comes or goes. */
export function FleetMap({ data, groups, height, onGroup }: { data: Data; groups: Machines[]; height: number; onGroup(name: string): void }) {
  const box = useRef<HTMLDivElement>(null);
  const canvas = useRef<HTMLCanvasElement>(null);
  const pins = useRef<HTMLCanvasElement>(null);
  const painted = useRef<{ layout: Layout | undefined; looks: Uint8Array }>({ layout: undefined, looks: new Uint8Array(0) });
  const [width, setWidth] = useState(0);
  const [at, setAt] = useState(-1);
  const [focused, setFocused] = useState(false);
  const theme = useTheme();
  useLayoutEffect(() => {
    const el = box.current;
    if (!el) return;
    const watch = new ResizeObserver(() => setWidth(el.clientWidth));
    watch.observe(el);
    setWidth(el.clientWidth);
    return () => watch.disconnect();
  }, []);
  const layout = useMemo(() => (width > 0 ? arrange(groups, width, height) : undefined), [groups, width, height]);

  useEffect(() => {
    painted.current.layout = undefined;
  }, [theme]);
  useEffect(() => {
    const c = canvas.current;
    if (!c || !layout) return;
    const all = painted.current.layout !== layout;
    const scale = window.devicePixelRatio || 1;
    if (all) {
      c.width = Math.round(width * scale);
      c.height = Math.round(layout.height * scale);
      painted.current = { layout, looks: new Uint8Array(layout.ids.length).fill(255) };
    }
    const ctx = c.getContext("2d");
    if (!ctx) return;
    ctx.setTransform(scale, 0, 0, scale, 0, 0);
    const brush = new Brush(ctx, layout.pitch);
    if (all) brush.labels(layout);
    const { looks } = painted.current;
    layout.ids.forEach((id, i) => {
      const now = look(data.rows.get(id));
      if (looks[i] === now) return;
      looks[i] = now;
      const { x, y } = position(layout, i);
      brush.machine(x, y, now);
    });
  }, [layout, data.rowsVersion, theme, width]);

  // Where machines are small, those that need somebody are drawn again, large enough to be seen across a room.
  useEffect(() => {
    const c = pins.current;
    if (!c || !layout) return;
    const scale = window.devicePixelRatio || 1;
    c.width = Math.round((width + 2 * pinMargin) * scale);
    c.height = Math.round((layout.height + 2 * pinMargin) * scale);
    const ctx = c.getContext("2d");
    if (!ctx || layout.pitch >= pinSize) return;
    const need = layout.ids.flatMap((id, i) => {
      const r = data.rows.get(id);
      return r && rank(r) < 3 ? [{ i, r }] : [];
    });
    if (need.length > pinsUpTo) return;
    ctx.setTransform(scale, 0, 0, scale, pinMargin * scale, pinMargin * scale);
    const brush = new Brush(ctx, pinSize);
    need.sort((a, b) => rank(b.r) - rank(a.r));
    for (const { i, r } of need) {
      const { x, y } = position(layout, i);
      const shift = (pinSize - layout.pitch) / 2;
      brush.halo(x - shift, y - shift);
      brush.machine(x - shift, y - shift, look(r));
    }
  }, [layout, data.orderVersion, theme, width]);

  const row = layout && at >= 0 ? data.rows.get(layout.ids[at] ?? "") : undefined;
  const place = layout && row ? position(layout, at) : undefined;
  const move = (to: number) => layout && setAt(Math.max(0, Math.min(layout.ids.length - 1, to)));
  const onKey = (e: React.KeyboardEvent) => {
    if (!layout || e.ctrlKey || e.metaKey || e.altKey) return;
    const columns = blockOf(layout, Math.max(0, at))?.columns ?? 1;
    const steps: Record<string, number> = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns };
    const step = steps[e.key];
    if (step !== undefined) move(at < 0 ? 0 : at + step);
    else if (e.key === "Home") move(0);
    else if (e.key === "End") move(layout.ids.length - 1);
    else if (e.key === "n") move(nextInNeed(data, layout, at));
    else if (e.key === "Enter" && row) location.hash = machineHref(row.id);
    else return;
    e.preventDefault();
    e.stopPropagation();
  };
  const pointed = (e: React.MouseEvent) => {
    const r = canvas.current?.getBoundingClientRect();
    return layout && r ? hit(layout, e.clientX - r.left, e.clientY - r.top) : -1;
  };
  return (
    <div ref={box} className="fleetmap">
      <canvas
        ref={canvas}
        tabIndex={0}
        role="application"
        aria-roledescription="map of machines"
        aria-label={`${count(layout?.ids.length ?? 0)} machines. Arrows move, n goes to the next that needs somebody, Enter opens. The list view is a table of the same.`}
        style={{ width, height: layout?.height ?? height }}
        onKeyDown={onKey}
        onFocus={() => setFocused(true)}
        onBlur={() => (setFocused(false), setAt(-1))}
        onMouseMove={(e) => setAt(pointed(e))}
        onMouseLeave={() => !focused && setAt(-1)}
        onClick={(e) => {
          const i = pointed(e);
          const id = layout?.ids[i];
          if (id !== undefined) location.hash = machineHref(id);
          else if (layout) {
            const r = e.currentTarget.getBoundingClientRect();
            const b = layout.blocks.find((k) => k.name && e.clientX - r.left >= k.x && e.clientX - r.left < k.x + k.width && Math.abs(e.clientY - r.top - k.y - 9) < 10);
            if (b) onGroup(b.name);
          }
        }}
      />
      <canvas ref={pins} className="pins" style={{ width: width + 2 * pinMargin, height: (layout?.height ?? height) + 2 * pinMargin }} aria-hidden="true" />
      {layout && row && place && (
        <>
          <span className="mapcursor" style={{ width: layout.pitch + 3, height: layout.pitch + 3, transform: `translate(${place.x - 2}px, ${place.y - 2}px)` }} />
          <Tip row={row} skew={data.skew} x={place.x} y={place.y} pitch={layout.pitch} width={width} />
        </>
      )}
      <span className="sr" role="status">
        {focused && row ? `${row.id}, ${stateLabel[stateName(row.st)]}, score ${scoreText(row.sc)}${row.al ? `, ${row.al} open alerts` : ""}` : ""}
      </span>
    </div>
  );
}

function nextInNeed(data: Data, layout: Layout, at: number): number {
  const n = layout.ids.length;
  for (let i = 1; i <= n; i++) {
    const k = (at + i + n) % n;
    const row = data.rows.get(layout.ids[k] ?? "");
    if (row && rank(row) < 3) return k;
  }
  return at;
}

function Tip({ row, skew, x, y, pitch, width }: { row: Row; skew: number; x: number; y: number; pitch: number; width: number }) {
  const now = useNow() + skew;
  const state = stateName(row.st);
  const left = Math.max(0, Math.min(width - 248, x - 110));
  const above = y > 130;
  return (
    <div className={`maptip s-${state}`} style={{ left, top: above ? y - 10 : y + pitch + 10, transform: above ? "translateY(-100%)" : "none" }} aria-hidden="true">
      <b>
        <StateIcon state={state} /> {row.id}
      </b>
      <span>
        <em>{stateLabel[state]}</em>
        {row.al ? ` · ${row.al === 1 ? "1 open alert" : `${row.al} open alerts`}` : ""}
      </span>
      <span>
        {scoreText(row.sc)} · {odds(row.sc)}
      </span>
      <span>
        {row.gw && `${row.gw} · `}
        {row.t ? (Math.abs(now - row.t / 1000) < 43_200_000 ? ago(row.t / 1000, now) : eventTime(row.t, now)) : "no data yet"}
      </span>
    </div>
  );
}

/** Paints machines. Each state has a shape, so that it is told apart without colour, at every size. */
class Brush {
  private readonly colour: Record<string, string> = {};

  constructor(
    private readonly ctx: CanvasRenderingContext2D,
    private readonly pitch: number,
  ) {
    for (const name of ["critical", "warning", "silent", "learning", "ok", "on-state", "muted", "faint", "bg", "map-ok"]) this.colour[name] = token(`--${name}`);
  }

  labels(l: Layout) {
    const { ctx } = this;
    ctx.clearRect(0, 0, ctx.canvas.width, ctx.canvas.height);
    ctx.font = `600 12px ${token("--sans")}`;
    ctx.textBaseline = "middle";
    for (const b of l.blocks) {
      if (!b.name) continue;
      ctx.save();
      ctx.beginPath();
      ctx.rect(b.x, b.y, b.width, 20);
      ctx.clip();
      ctx.fillStyle = this.colour["muted"] as string;
      ctx.fillText(b.name, b.x, b.y + 8);
      const w = ctx.measureText(`${b.name} `).width;
      ctx.fillStyle = this.colour["faint"] as string;
      ctx.fillText(count(b.count), b.x + w + 2, b.y + 8);
      ctx.restore();
    }
  }

  halo(x: number, y: number) {
    this.ctx.fillStyle = this.colour["bg"] as string;
    this.ctx.beginPath();
    this.ctx.roundRect(x - 3, y - 3, this.pitch + 3, this.pitch + 3, 5);
    this.ctx.fill();
  }

  machine(x: number, y: number, looks: number) {
    const { ctx, pitch } = this;
    const gap = pitch >= 16 ? 3 : pitch >= 10 ? 2 : 1;
    const s = pitch - gap;
    const cx = x + s / 2;
    const cy = y + s / 2;
    ctx.clearRect(x, y, pitch, pitch);
    const state = stateName(looks >> 4);
    const decade = (looks & 15) >> 1;
    ctx.globalAlpha = 1;
    const colour = this.colour[state] as string;
    ctx.fillStyle = ctx.strokeStyle = colour;
    ctx.lineWidth = Math.max(1, s / 7);
    const half = ctx.lineWidth / 2;
    ctx.beginPath();
    switch (state) {
      case "critical": {
        const c = s * 0.29;
        ctx.moveTo(x + c, y);
        for (const [px, py] of [[s - c, 0], [s, c], [s, s - c], [s - c, s], [c, s], [0, s - c], [0, c]] as const) ctx.lineTo(x + px, y + py);
        ctx.fill();
        ctx.fillStyle = this.colour["on-state"] as string;
        ctx.fillRect(cx - s * 0.09, cy - s * 0.28, s * 0.18, s * 0.34);
        ctx.fillRect(cx - s * 0.09, cy + s * 0.16, s * 0.18, s * 0.14);
        break;
      }
      case "warning":
        ctx.moveTo(cx, y);
        ctx.lineTo(x + s, y + s);
        ctx.lineTo(x, y + s);
        ctx.fill();
        break;
      case "silent":
        if (looks & 1) ctx.strokeStyle = this.colour["critical"] as string;
        ctx.strokeRect(x + half, y + half, s - 2 * half, s - 2 * half);
        ctx.moveTo(x + half, y + s - half);
        ctx.lineTo(x + s - half, y + half);
        ctx.stroke();
        break;
      case "learning":
        ctx.globalAlpha = 0.75;
        ctx.arc(cx, cy, Math.max(1.2, s * 0.24), 0, 7);
        ctx.fill();
        break;
      default:
        // Quiet, and a little brighter the less usual it is.
        ctx.globalAlpha = 0.34 + decade * 0.13;
        ctx.fillStyle = this.colour["map-ok"] as string;
        ctx.roundRect(x, y, s, s, s > 9 ? 3 : 1);
        ctx.fill();
    }
    ctx.globalAlpha = 1;
  }
}
