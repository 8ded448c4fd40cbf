import { useSyncExternalStore } from "react";

/** Where the page is: #/machine/press-1?range=60 is path "machine", params ["press-1"]. */
export interface Route {
  path: string;
  params: string[];
  query: URLSearchParams;
}

/** Reads a hash. One that cannot be decoded is the fleet. */
export function parse(hash: string): Route {
  const [path = "", search = ""] = hash.replace(/^#/, "").split("?", 2);
  const query = new URLSearchParams(search);
  try {
    const [first = "", ...params] = path.split("/").filter(Boolean).map(decodeURIComponent);
    return { path: first, params, query };
  } catch {
    return { path: "", params: [], query };
  }
}

/** The address of a view: each part is one segment, whatever it holds. */
export function href(path: string, params: string[] = [], query: Record<string, string> = {}): string {
  const search = new URLSearchParams(Object.entries(query).filter(([, v]) => v)).toString();
  return `#/${[path, ...params].filter(Boolean).map(encodeURIComponent).join("/")}${search ? `?${search}` : ""}`;
}

export const machineHref = (id: string) => href("machine", [id]);

/** Changes the query of the current page in place, without a step in the history. */
export function setQuery(changes: Record<string, string>) {
  const [path = "/", search = ""] = location.hash.replace(/^#/, "").split("?", 2);
  const query = new URLSearchParams(search);
  for (const [k, v] of Object.entries(changes)) {
    if (v) query.set(k, v);
    else query.delete(k);
  }
  const q = query.toString();
  history.replaceState(null, "", `#${path || "/"}${q ? `?${q}` : ""}`);
  window.dispatchEvent(new HashChangeEvent("hashchange"));
}

let current = { hash: location.hash, route: parse(location.hash) };

export function useRoute(): Route {
  return useSyncExternalStore(
    (l) => {
      window.addEventListener("hashchange", l);
      return () => window.removeEventListener("hashchange", l);
    },
    () => {
      if (current.hash !== location.hash) current = { hash: location.hash, route: parse(location.hash) };
      return current.route;
    },
  );
}
