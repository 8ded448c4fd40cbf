import { useSyncExternalStore } from "react";

export type Theme = "dark" | "light";

const key = "tocsin.theme";
const media = window.matchMedia("(prefers-color-scheme: light)");
const listeners = new Set<() => void>();

function stored(): Theme | undefined {
  try {
    const v = localStorage.getItem(key);
    return v === "dark" || v === "light" ? v : undefined;
  } catch {
    return undefined; // storage may be forbidden
  }
}

let chosen = stored();

// Read once and at each change only: in Chromium, reading matches between a change and its event takes the event away.
let system: Theme = media.matches ? "light" : "dark";

const theme = (): Theme => chosen ?? system;

/** Writes the theme to the document; call before the first paint. */
export function applyTheme() {
  document.documentElement.dataset["theme"] = theme();
  for (const l of listeners) l();
}

export function toggleTheme() {
  chosen = theme() === "dark" ? "light" : "dark";
  try {
    localStorage.setItem(key, chosen);
  } catch {
    // holds until the page is closed
  }
  applyTheme();
}

media.addEventListener("change", (e) => {
  system = e.matches ? "light" : "dark";
  applyTheme();
});

export function useTheme(): Theme {
  return useSyncExternalStore(
    (l) => {
      listeners.add(l);
      return () => listeners.delete(l);
    },
    theme,
  );
}

/** The value of a colour token in the current theme, for canvases. */
export const token = (name: string) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
