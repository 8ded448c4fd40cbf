import type { Machines } from "./grouping";

export interface Block {
  name: string;
  count: number;
  x: number;
  y: number;
  width: number;
  columns: number;
  /** Index of its first machine among all. */
  first: number;
}

export interface Layout {
  /** Distance between two machines, px. */
  pitch: number;
  height: number;
  blocks: Block[];
  ids: string[];
}

const largest = 30;
const smallest = 7;
const labelHeight = 24;
const blockGap = 14;
const labelWidth = 96;
/** Into how many lanes the width may be cut. */
const lanes = [1, 2, 3, 4, 5, 6, 8, 10, 12, 16];

/**
 * Places all machines on the width, as large as the height allows; where even the smallest do not fit, it grows in height. Groups lie in lanes of the same width, each
 * in the one that ends highest.
 */
export function arrange(groups: Machines[], width: number, height: number): Layout {
  const ids = groups.flatMap((g) => g.ids);
  const whole = groups.length === 1 && !groups[0]?.name;
  let best: Layout | undefined;
  for (let pitch = largest; pitch >= smallest; pitch--) {
    for (const n of whole ? [1] : lanes) {
      if (n > 1 && (n > groups.length || width / n < labelWidth + blockGap)) break;
      const l = whole ? one(ids, width, pitch) : place(groups, ids, width, pitch, n);
      if (!best || l.pitch !== best.pitch || l.height < best.height) best = l;
    }
    if (best && best.height <= height) return best;
  }
  return best ?? one(ids, width, smallest);
}

function one(ids: string[], width: number, pitch: number): Layout {
  const columns = Math.max(1, Math.floor(width / pitch));
  return { pitch, height: Math.ceil(ids.length / columns) * pitch, ids, blocks: [{ name: "", count: ids.length, x: 0, y: 0, width: columns * pitch, columns, first: 0 }] };
}

function place(groups: Machines[], ids: string[], width: number, pitch: number, n: number): Layout {
  const lane = (width - (n - 1) * blockGap) / n;
  const columns = Math.max(1, Math.floor(lane / pitch));
  const ends = new Array<number>(n).fill(0);
  const blocks: Block[] = [];
  let first = 0;
  for (const g of groups) {
    const at = ends.indexOf(Math.min(...ends));
    const y = ends[at] as number;
    blocks.push({ name: g.name, count: g.ids.length, x: at * (lane + blockGap), y, width: lane, columns, first });
    ends[at] = y + labelHeight + Math.ceil(g.ids.length / columns) * pitch + blockGap;
    first += g.ids.length;
  }
  return { pitch, height: Math.max(...ends) - blockGap, blocks, ids };
}

/** Top left corner of a machine. */
export function position(l: Layout, index: number): { x: number; y: number } {
  const b = blockOf(l, index);
  if (!b) return { x: 0, y: 0 };
  const i = index - b.first;
  return { x: b.x + (i % b.columns) * l.pitch, y: b.y + (b.name ? labelHeight : 0) + Math.floor(i / b.columns) * l.pitch };
}

export function blockOf(l: Layout, index: number): Block | undefined {
  let lo = 0;
  let hi = l.blocks.length - 1;
  while (lo < hi) {
    const mid = (lo + hi + 1) >> 1;
    if ((l.blocks[mid] as Block).first <= index) lo = mid;
    else hi = mid - 1;
  }
  return l.blocks[lo];
}

/** The machine at a point, or -1. */
export function hit(l: Layout, x: number, y: number): number {
  for (const b of l.blocks) {
    const top = b.y + (b.name ? labelHeight : 0);
    if (x < b.x || x >= b.x + b.columns * l.pitch || y < top) continue;
    const i = Math.floor((y - top) / l.pitch) * b.columns + Math.floor((x - b.x) / l.pitch);
    if (i < b.count) return b.first + i;
  }
  return -1;
}
