import { useSyncExternalStore } from "react";

export type Route = { page: "fleet" | "alerts" | "coverage"; query: URLSearchParams } | { page: "machine"; id: string; query: URLSearchParams };

/** Reads a hash such as #/machine/press-1 or #/?state=critical. Anything else is the fleet. */
export function parse(hash: string): Route {
  const [path = "", search = ""] = hash.replace(/^#/, "").split("?", 2);
  const query = new URLSearchParams(search);
  const machine = /^\/machine\/(.+)$/.exec(path);
  if (machine?.[1]) {
    try {
      return { page: "machine", id: decodeURIComponent(machine[1]), query };
    } catch {
      return { page: "fleet", query };
    }
  }
  return { page: path === "/alerts" ? "alerts" : path === "/coverage" ? "coverage" : "fleet", query };
}

export const machineHref = (id: string) => `#/machine/${encodeURIComponent(id)}`;

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
