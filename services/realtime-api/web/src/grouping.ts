import type { Row } from "./model";
import type { Data } from "./store";

/** What machines can be put together by. */
export const groupings = [
  { name: "", label: "No groups" },
  { name: "site", label: "Site" },
  { name: "line", label: "Line" },
  { name: "group", label: "Group" },
  { name: "gateway", label: "Gateway" },
  { name: "name", label: "Name" },
] as const;

export type Grouping = (typeof groupings)[number]["name"];

/** Those that say something of this fleet: sites, lines and groups are known where they are configured. */
export function usable(data: Data): (typeof groupings)[number][] {
  const has = { site: false, line: false, group: false, gateway: false };
  for (const r of data.rows.values()) {
    if (r.si) has.site = true;
    if (r.li) has.line = true;
    if (r.gr) has.group = true;
    if (r.gw) has.gateway = true;
  }
  return groupings.filter((g) => !(g.name in has) || has[g.name as keyof typeof has]);
}

/** The group of a machine; "" when nothing says. */
export function groupOf(row: Row, by: Grouping): string {
  switch (by) {
    case "site":
      return row.si ?? "";
    case "line":
      return row.li ? (row.si ? `${row.si} · ${row.li}` : row.li) : "";
    case "group":
      return row.gr ?? "";
    case "gateway":
      return row.gw ?? "";
    case "name":
      return row.id.replace(/[-_.:]?\d+$/, "") || row.id;
    default:
      return "";
  }
}

export interface Machines {
  name: string;
  ids: string[];
}

const compare = new Intl.Collator(undefined, { numeric: true }).compare;

/** Machines by group, groups by name; the order within is kept. */
export function grouped(data: Data, ids: string[], by: Grouping): Machines[] {
  if (!by) return [{ name: "", ids }];
  const out = new Map<string, string[]>();
  for (const id of ids) {
    const row = data.rows.get(id);
    if (!row) continue;
    const name = groupOf(row, by);
    const list = out.get(name);
    if (list) list.push(id);
    else out.set(name, [id]);
  }
  return [...out].map(([name, list]) => ({ name: name || "other", ids: list })).sort((a, b) => compare(a.name, b.name));
}
