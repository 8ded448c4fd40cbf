import type { Severity, StateName } from "./model";

// Each state has its own shape, so that it is told apart without colour: octagon, triangle, crossed ring, dotted
// ring, disc.
const shapes: Record<StateName, React.ReactNode> = {
  critical: (
    <>
      <path d="M5 .8h6L15.2 5v6L11 15.2H5L.8 11V5z" fill="currentColor" />
      <path d="M8 4v5" stroke="var(--on-state)" strokeWidth="1.9" strokeLinecap="round" />
      <circle cx="8" cy="11.7" r="1.15" fill="var(--on-state)" />
    </>
  ),
  warning: (
    <>
      <path d="M8 1.2 15.4 14.4H.6z" fill="currentColor" stroke="currentColor" strokeWidth="1" strokeLinejoin="round" />
      <path d="M8 6v4" stroke="var(--on-state)" strokeWidth="1.7" strokeLinecap="round" />
      <circle cx="8" cy="12.3" r="1" fill="var(--on-state)" />
    </>
  ),
  silent: (
    <>
      <circle cx="8" cy="8" r="6.2" fill="none" stroke="currentColor" strokeWidth="2" />
      <path d="M3.7 12.3 12.3 3.7" stroke="currentColor" strokeWidth="2" />
    </>
  ),
  learning: <circle cx="8" cy="8" r="6" fill="none" stroke="currentColor" strokeWidth="2" strokeDasharray="2.3 2.412" />,
  ok: <circle cx="8" cy="8" r="3.6" fill="currentColor" />,
};

export const stateLabel: Record<StateName, string> = {
  critical: "Critical",
  warning: "Warning",
  silent: "Silent",
  learning: "Learning",
  ok: "OK",
};

export function StateIcon({ state, size = 16 }: { state: StateName; size?: number }) {
  return (
    <svg className={`icon s-${state}`} width={size} height={size} viewBox="0 0 16 16" role="img" aria-label={stateLabel[state]}>
      {shapes[state]}
    </svg>
  );
}

export function SeverityIcon({ severity, size = 16 }: { severity: Severity; size?: number }) {
  return <StateIcon state={severity === "info" ? "learning" : severity} size={size} />;
}

const strokes: Record<string, React.ReactNode> = {
  search: <path d="M7 12A5 5 0 1 0 7 2a5 5 0 0 0 0 10zm3.6-1.4L14 14" />,
  sun: <path d="M8 11a3 3 0 1 0 0-6 3 3 0 0 0 0 6zM8 1v1.5M8 13.5V15M1 8h1.5M13.5 8H15M3 3l1 1M12 12l1 1M3 13l1-1M12 4l1-1" />,
  moon: <path d="M13.5 9.8A6 6 0 0 1 6.2 2.5a6 6 0 1 0 7.3 7.3z" />,
  cards: <path d="M2 2.5h5v4.5H2zM9 2.5h5v4.5H9zM2 9h5v4.5H2zM9 9h5v4.5H9z" />,
  list: <path d="M2 4h12M2 8h12M2 12h12" />,
  map: <path d="M2 2h3v3H2zM6.5 2h3v3h-3zM11 2h3v3h-3zM2 6.5h3v3H2zM6.5 6.5h3v3h-3zM11 6.5h3v3h-3zM2 11h3v3H2zM6.5 11h3v3h-3zM11 11h3v3h-3z" />,
  back: <path d="M10 3 5 8l5 5" />,
  chevron: <path d="M6 3l5 5-5 5" />,
  close: <path d="M4 4l8 8M12 4l-8 8" />,
  keyboard: <path d="M1.5 4h13v8h-13zM4 6.6h.01M6.7 6.6h.01M9.3 6.6h.01M12 6.6h.01M4 9.4h.01M12 9.4h.01M6 9.4h4" />,
  person: <path d="M8 7.5a2.75 2.75 0 1 0 0-5.5 2.75 2.75 0 0 0 0 5.5zM2.5 14c.5-3 2.6-4.5 5.5-4.5s5 1.5 5.500 4.500" />,
  download: <path d="M8 2v8M4.500 7 8 10.500 11.500 7M2.500 13.500h11" />,
  plus: <path d="M8 3v10M3 8h10" />,
  minus: <path d="M3 8h10" />,
  plug: <path d="M2 14l3-3M9.5 2.5l-2 2M13.5 6.5l-2 2M6 5l5 5-1.5 1.5a3.5 3.5 0 0 1-5-5z" />,
};

export function Icon({ name, size = 16 }: { name: keyof typeof strokes & string; size?: number }) {
  return (
    <svg
      className="icon"
      width={size}
      height={size}
      viewBox="0 0 16 16"
      fill="none"
      stroke="currentColor"
      strokeWidth="1.6"
      strokeLinecap="round"
      strokeLinejoin="round"
      aria-hidden="true"
    >
      {strokes[name]}
    </svg>
  );
}

export function Bell() {
  return (
    <svg className="bell" width="26" height="26" viewBox="0 0 26 26" aria-hidden="true">
      <path d="M13 3.5c-4.3 0-6.8 3.1-6.8 7.2 0 4.5-1.2 6-2.5 7.6h18.6c-1.3-1.6-2.5-3.1-2.5-7.6 0-4.1-2.5-7.2-6.8-7.2z" fill="var(--brand)" />
      <circle cx="13" cy="21.6" r="2.2" fill="var(--critical)" />
    </svg>
  );
}
