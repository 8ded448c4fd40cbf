import { useNow } from "./clock";
import { ago, clock, count, eventTime, span } from "./format";
import { Bell, Icon } from "./icons";
import { href } from "./route";
import { reconnectNow, type Data } from "./store";
import { toggleTheme, useTheme } from "./theme";
import type { View } from "./view";
import { views } from "./views";

/** Ticks come every few seconds even when all machines are silent: without them for this long, data is not flowing. */
const stalledMs = 20_000;

export function Header({ view, data, onHelp, onAccount }: { view: View; data: Data; onHelp(): void; onAccount(): void }) {
  const theme = useTheme();
  const other = theme === "dark" ? "Light theme" : "Dark theme";
  return (
    <header className="top">
      <a className="brand" href="#/" aria-label="Tocsin, fleet">
        <Bell />
        <span>Tocsin</span>
      </a>
      <nav aria-label="Pages">
        {views.map((v) => {
          if (!v.nav) return null;
          const n = v.nav.badge?.(data) ?? 0;
          return (
            <a key={v.path} href={href(v.path)} aria-current={view === v ? "page" : undefined}>
              {v.nav.label}
              {n > 0 && (
                <span className="badge" aria-label={`${n} open`}>
                  {count(n)}
                </span>
              )}
            </a>
          );
        })}
      </nav>
      <div className="vitals">
        <Vitals data={data} />
        <button className="ghost" type="button" onClick={onAccount} aria-label="You and this device" title="You and this device">
          <Icon name="person" />
        </button>
        <button className="ghost keyshelp" type="button" onClick={onHelp} aria-label="Keyboard shortcuts" title="Keyboard shortcuts (?)">
          <Icon name="keyboard" />
        </button>
        <button className="ghost" type="button" onClick={toggleTheme} aria-label={other} title={other}>
          <Icon name={theme === "dark" ? "sun" : "moon"} />
        </button>
      </div>
    </header>
  );
}

function Vitals({ data }: { data: Data }) {
  const now = useNow();
  const { summary, link } = data;
  const quiet = summary && summary.log_time_ms > 0 ? now + data.skew - summary.log_time_ms : 0;
  let state = "live";
  let text = "Live";
  if (link.state !== "live") {
    state = "lost";
    text = link.state === "lost" ? "Disconnected" : data.everLive ? "Reconnecting" : "Connecting";
  } else if (summary && !summary.caught_up) {
    state = "wait";
    text = summary.log_time_ms > 0 ? "Reading history" : "Waiting for Kafka";
  } else if (quiet > stalledMs) {
    state = "wait";
    text = `No data for ${span(quiet)}`;
  }
  return (
    <>
      {summary && link.state === "live" && (
        <>
          <span className="vital rate" title="Windows of 5 s that arrived per second, over the last minute">
            {data.rates.length >= 8 && <Spark values={data.rates} />}
            <b>{summary.windows_per_second < 10 ? summary.windows_per_second.toFixed(1) : count(Math.round(summary.windows_per_second))}</b>
            <i>windows/s</i>
          </span>
          <span className="vital delay" title="How long records lie in Kafka before they are on this page: the worst of the last 10 s">
            <b>{summary.pipeline_delay_ms === null ? "–" : delay(summary.pipeline_delay_ms)}</b>
            <i>delay</i>
          </span>
        </>
      )}
      <span className="vital clock" title="The server's time of day, in your time zone">
        <b>{clock(now + data.skew)}</b>
      </span>
      <span className={`link ${state}`} role="status">
        <span className="pulse" key={state === "live" ? data.rates.length + (summary?.server_time_ms ?? 0) : 0} />
        {text}
      </span>
    </>
  );
}

const delay = (ms: number) => (ms < 1000 ? `${ms} ms` : ms < 10_000 ? `${(ms / 1000).toFixed(1)} s` : span(ms));

function Spark({ values }: { values: number[] }) {
  const w = 56;
  const h = 18;
  const max = Math.max(1e-9, ...values);
  const step = w / 59;
  const points = values.map((v, i) => `${(w - (values.length - 1 - i) * step).toFixed(1)},${(h - 1.5 - (v / max) * (h - 3)).toFixed(1)}`).join(" ");
  return (
    <svg className="spark" width={w} height={h} viewBox={`0 0 ${w} ${h}`} aria-hidden="true">
      <polyline points={points} fill="none" stroke="currentColor" strokeWidth="1.5" strokeLinejoin="round" />
    </svg>
  );
}

export function LinkBanner({ data }: { data: Data }) {
  const now = useNow();
  const { link, summary } = data;
  if (link.state === "lost" || (link.state === "connecting" && link.attempt > 0)) {
    return (
      <div className="banner" role="alert">
        <Icon name="plug" />
        <span>
          <b>{data.everLive ? "Connection lost." : "The server does not answer."}</b>{" "}
          {data.everLive && "What you see is the last known state. "}
          {!data.everLive && data.keptAtMs > 0 && `What you see is the state of ${eventTime(data.keptAtMs * 1000, now)}, ${ago(data.keptAtMs, now)}. `}
          {link.state === "lost" ? `Trying again in ${span(Math.max(1000, link.retryAt - now))}.` : "Trying again now."}
        </span>
        <button type="button" onClick={reconnectNow}>
          Try now
        </button>
      </div>
    );
  }
  if (link.state === "live" && (summary?.coalesced_ticks ?? 0) > 0) {
    return (
      <div className="banner mild" role="status">
        Your connection is slow: updates are merged. The latest state is always right.
      </div>
    );
  }
  return null;
}
