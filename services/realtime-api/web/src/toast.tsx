import { useSyncExternalStore } from "react";
import { Icon } from "./icons";

interface Toast {
  id: number;
  text: string;
  bad: boolean;
}

const shownMs = 6000;
let toasts: Toast[] = [];
let next = 1;
const listeners = new Set<() => void>();

function changed(list: Toast[]) {
  toasts = list;
  for (const l of listeners) l();
}

const drop = (id: number) => changed(toasts.filter((t) => t.id !== id));

/** Says for a moment that something was done, or until it is closed that it failed. */
export function say(text: string, bad = false) {
  const t = { id: next++, text, bad };
  changed([...toasts.slice(-3), t]);
  if (!bad) window.setTimeout(() => drop(t.id), shownMs);
}

export function Toasts() {
  const list = useSyncExternalStore(
    (l) => {
      listeners.add(l);
      return () => listeners.delete(l);
    },
    () => toasts,
  );
  return (
    <div className="toasts" role="status">
      {list.map((t) => (
        <p key={t.id} className={t.bad ? "toast bad" : "toast"}>
          <span>{t.text}</span>
          <button type="button" className="ghost" aria-label="Dismiss" onClick={() => drop(t.id)}>
            <Icon name="close" size={12} />
          </button>
        </p>
      ))}
    </div>
  );
}
