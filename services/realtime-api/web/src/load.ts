import { useEffect, useRef, useState } from "react";
import { ApiError } from "./api";

export interface Loaded<T> {
  value: T | undefined;
  error: ApiError | undefined;
  /** When the value came, ms; 0 before the first. */
  at: number;
  again(): void;
}

/**
 * Loads something when key changes, and every so often if everyMs is given and the page is in sight. The last value of the same key stays while a newer one
 * is on its way or fails.
 */
export function useLoad<T>(key: string, load: (signal: AbortSignal) => Promise<T>, everyMs = 0): Loaded<T> {
  const [got, setGot] = useState<{ key: string; value?: T | undefined; error?: ApiError | undefined; at: number }>({ key, at: 0 });
  const [round, setRound] = useState(0);
  const latest = useRef(load);
  latest.current = load;
  useEffect(() => {
    const ends = new AbortController();
    let timer: number | undefined;
    const run = async () => {
      if (!document.hidden || !everyMs) {
        try {
          const value = await latest.current(ends.signal);
          if (ends.signal.aborted) return;
          setGot({ key, value, at: Date.now() });
        } catch (e) {
          if (ends.signal.aborted) return;
          const error = e instanceof ApiError ? e : new ApiError(0, "Failed", String(e), "");
          setGot((before) => ({ ...(before.key === key ? before : { key, at: 0 }), error }));
        }
      }
      if (everyMs) timer = window.setTimeout(() => void run(), everyMs);
    };
    void run();
    return () => {
      ends.abort();
      window.clearTimeout(timer);
    };
  }, [key, round, everyMs]);
  const mine = got.key === key;
  return { value: mine ? got.value : undefined, error: mine ? got.error : undefined, at: mine ? got.at : 0, again: () => setRound((n) => n + 1) };
}
