import { useSyncExternalStore } from "react";

// One timer for everything that shows an age.
let now = Date.now();
const listeners = new Set<() => void>();
let timer: number | undefined;

function subscribe(l: () => void) {
  listeners.add(l);
  timer ??= window.setInterval(() => {
    now = Date.now();
    for (const each of listeners) each();
  }, 1000);
  return () => {
    listeners.delete(l);
    if (listeners.size === 0) {
      window.clearInterval(timer);
      timer = undefined;
    }
  };
}

/** Our clock, ms, once a second. */
export const useNow = () => useSyncExternalStore(subscribe, () => now);
