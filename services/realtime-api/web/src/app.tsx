import { Suspense, useEffect, useState } from "react";
import { Account } from "./account";
import { openAlerts } from "./alerts";
import { Boundary } from "./boundary";
import { Header, LinkBanner } from "./header";
import { Help } from "./help";
import { useShortcuts } from "./keys";
import { href, useRoute } from "./route";
import { useData, watchMachine } from "./store";
import { toggleTheme } from "./theme";
import { Toasts } from "./toast";
import type { View } from "./view";
import { views } from "./views";

export function App() {
  const route = useRoute();
  const data = useData();
  const view = views.find((v) => v.path === route.path) ?? (views[0] as View);
  const params = view.path === route.path ? route.params : [];
  const machine = view.path === "machine" ? params[0] : undefined;
  const [help, setHelp] = useState(false);
  const [account, setAccount] = useState(false);
  // A view goes on when what follows its path changes, as the inbox does from alert to alert; each machine is a page of its own.
  const place = view.path === "machine" ? [view.path, ...params].join("/") : view.path;
  useEffect(() => {
    watchMachine(machine);
  }, [machine]);
  useEffect(() => {
    window.scrollTo(0, 0);
  }, [place]);
  useShortcuts("Everywhere", [
    { keys: "/", label: "Search on this page", run: () => document.querySelector<HTMLInputElement>(".search input")?.focus() },
    { keys: "t", label: "Light or dark", run: toggleTheme },
    { keys: "?", label: "This help", run: () => setHelp(true) },
  ]);
  useShortcuts(
    "Go to",
    views.flatMap((v) => (v.nav ? [{ keys: `g ${v.nav.key}`, label: v.nav.label, run: () => void (location.hash = href(v.path)) }] : [])),
  );
  const open = openAlerts(data).length;
  const title = view.title(params);
  useEffect(() => {
    document.title = `${open > 0 ? `(${open}) ` : ""}${title} · Tocsin`;
  }, [open, title]);
  const Page = view.component;
  return (
    <div className={`app ${(data.everLive || data.keptAtMs > 0) && data.link.state !== "live" ? "stale" : ""}`}>
      <a className="skip" href="#main" onClick={(e) => (e.preventDefault(), document.getElementById("main")?.focus())}>
        Skip to content
      </a>
      <Header view={view} data={data} onHelp={() => setHelp(true)} onAccount={() => setAccount(true)} />
      <LinkBanner data={data} />
      <main id="main" tabIndex={-1}>
        <Boundary key={place}>
          <Suspense fallback={<p className="hint">Loading.</p>}>
            <Page data={data} params={params} query={route.query} key={place} />
          </Suspense>
        </Boundary>
      </main>
      <Toasts />
      {account && <Account onClose={() => setAccount(false)} />}
      {help && <Help onClose={() => setHelp(false)} />}
    </div>
  );
}
