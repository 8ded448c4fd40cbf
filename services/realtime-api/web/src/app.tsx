import { useEffect } from "react";
import { AlertsPage } from "./alerts";
import { Boundary } from "./boundary";
import { CoveragePage } from "./coverage";
import { Fleet } from "./fleet";
import { Header, LinkBanner } from "./header";
import { MachinePage } from "./machine";
import { isClosed } from "./model";
import { useRoute } from "./route";
import { useData, watchMachine } from "./store";

export function App() {
  const route = useRoute();
  const data = useData();
  const machine = route.page === "machine" ? route.id : undefined;
  useEffect(() => {
    watchMachine(machine);
    window.scrollTo(0, 0);
  }, [machine]);
  useEffect(() => {
    const onKey = (e: KeyboardEvent) => {
      const typing = e.target instanceof HTMLElement && e.target.closest("input, select, textarea");
      const field = document.querySelector<HTMLInputElement>(".search input");
      if (e.key === "/" && !typing && !e.ctrlKey && !e.metaKey && !e.altKey && field) {
        e.preventDefault();
        field.focus();
      }
    };
    window.addEventListener("keydown", onKey);
    return () => window.removeEventListener("keydown", onKey);
  }, []);
  const open = [...data.alerts.values()].filter((a) => !isClosed(a)).length;
  useEffect(() => {
    const what = machine ?? (route.page === "alerts" ? "Alerts" : route.page === "coverage" ? "Coverage" : "Fleet");
    document.title = `${open > 0 ? `(${open}) ` : ""}${what} · Tocsin`;
  }, [open, machine, route.page]);
  return (
    <div className={`app ${data.everLive && data.link.state !== "live" ? "stale" : ""}`}>
      <a className="skip" href="#main" onClick={(e) => (e.preventDefault(), document.getElementById("main")?.focus())}>
        Skip to content
      </a>
      <Header route={route} data={data} open={open} />
      <LinkBanner data={data} />
      <main id="main" tabIndex={-1}>
        <Boundary key={machine ?? route.page}>
          {route.page === "fleet" && <Fleet data={data} query={route.query} />}
          {route.page === "alerts" && <AlertsPage data={data} query={route.query} />}
          {route.page === "coverage" && <CoveragePage query={route.query} />}
          {route.page === "machine" && <MachinePage data={data} id={route.id} key={route.id} />}
        </Boundary>
      </main>
    </div>
  );
}
