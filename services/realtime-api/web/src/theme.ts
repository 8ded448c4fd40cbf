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

const theme = (): Theme => chosen ?? (media.matches ? "light" : "dark");

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

media.addEventListener("change", applyTheme);

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
