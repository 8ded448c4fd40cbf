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
const labelHeight = 20;
const blockGap = 14;
const labelWidth = 72;

/** Places all machines on the width, as large as the height allows; where even the smallest do not fit, it grows in height. */
export function arrange(groups: Machines[], width: number, height: number): Layout {
  const ids = groups.flatMap((g) => g.ids);
  for (let pitch = largest; ; pitch--) {
    const l = place(groups, ids, width, pitch);
    if (l.height <= height || pitch <= smallest) return l;
  }
}

function place(groups: Machines[], ids: string[], width: number, pitch: number): Layout {
  const most = Math.max(1, Math.floor(width / pitch));
  const blocks: Block[] = [];
  if (groups.length === 1 && !groups[0]?.name) {
    blocks.push({ name: "", count: ids.length, x: 0, y: 0, width: most * pitch, columns: most, first: 0 });
    return { pitch, height: Math.ceil(ids.length / most) * pitch, blocks, ids };
  }
  let x = 0;
  let y = 0;
  let shelf = 0;
  let first = 0;
  for (const g of groups) {
    const n = g.ids.length;
    const columns = Math.min(most, Math.max(Math.ceil(Math.sqrt(n * 1.8)), Math.ceil(labelWidth / pitch)));
    const w = columns * pitch;
    const h = labelHeight + Math.ceil(n / columns) * pitch;
    if (x > 0 && x + w > width) {
      x = 0;
      y += shelf + blockGap;
      shelf = 0;
    }
    blocks.push({ name: g.name, count: n, x, y, width: w, columns, first });
    x += w + blockGap;
    shelf = Math.max(shelf, h);
    first += n;
  }
  return { pitch, height: y + shelf, blocks, ids };
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
