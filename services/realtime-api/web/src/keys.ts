import { useEffect, useRef, useSyncExternalStore } from "react";

/** One shortcut: a key as of KeyboardEvent.key, or two in a row with a space between them ("g f"). */
export interface Shortcut {
  keys: string;
  label: string;
  run(): void;
}

export interface Group {
  title: string;
  shortcuts: Shortcut[];
}

let groups: Group[] = [];
const listeners = new Set<() => void>();
let first = "";
let firstAt = 0;

function changed(next: Group[]) {
  groups = next;
  for (const l of listeners) l();
}

const typing = (t: EventTarget | null) => t instanceof HTMLElement && t.closest("input:not([type=checkbox],[type=radio]), select, textarea, [contenteditable]") !== null;

window.addEventListener("keydown", (e) => {
  if (e.defaultPrevented || e.ctrlKey || e.metaKey || e.altKey || typing(e.target)) return;
  if (document.querySelector("dialog[open]")) return;
  const pair = e.timeStamp - firstAt < 1200 && first ? `${first} ${e.key}` : "";
  // What was added last is nearest to what the user looks at.
  const all = groups.toReversed().flatMap((g) => g.shortcuts);
  const hit = all.find((s) => pair && s.keys === pair) ?? all.find((s) => s.keys === e.key);
  first = hit ? "" : e.key;
  firstAt = e.timeStamp;
  if (!hit) return;
  e.preventDefault();
  hit.run();
});

/** Shortcuts that hold while the component is shown. Where two have the same keys, the one that came last is meant. */
export function useShortcuts(title: string, shortcuts: Shortcut[]) {
  const latest = useRef(shortcuts);
  latest.current = shortcuts;
  const shape = shortcuts.map((s) => `${s.keys}\0${s.label}`).join("\n");
  useEffect(() => {
    const mine: Group = { title, shortcuts: latest.current.map((s, i) => ({ ...s, run: () => latest.current[i]?.run() })) };
    changed([...groups, mine]);
    return () => changed(groups.filter((g) => g !== mine));
  }, [title, shape]);
}

/** All shortcuts that hold now, for the help. */
export const useShortcutGroups = () =>
  useSyncExternalStore(
    (l) => {
      listeners.add(l);
      return () => listeners.delete(l);
    },
    () => groups,
  );
