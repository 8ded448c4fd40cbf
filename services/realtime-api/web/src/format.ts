const dayMs = 86_400_000;

const clockFormat = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const dateFormat = new Intl.DateTimeFormat(undefined, { year: "numeric", month: "short", day: "numeric" });

/** A time that no calendar has must not end the page. */
const text = (f: Intl.DateTimeFormat, ms: number) => (Math.abs(ms) <= 8.64e15 ? f.format(ms) : "–");

/** A time of day, with the date when it is not within a day of now: replays show data of years ago. */
export function eventTime(us: number, nowMs: number): string {
  if (!us) return "–";
  const ms = us / 1000;
  const time = clock(ms);
  return Math.abs(nowMs - ms) < dayMs / 2 ? time : `${text(dateFormat, ms)}, ${time}`;
}

const dayFormat = new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric" });
export const day = (ms: number) => text(dayFormat, ms);

export const clock = (ms: number) => text(clockFormat, ms);

/** "12 s", "4 min", "3 h 20 min", "2 d". */
export function span(ms: number): string {
  const s = Math.max(0, Math.round(ms / 1000));
  if (s < 60) return `${s} s`;
  const min = Math.floor(s / 60);
  if (min < 60) return `${min} min`;
  const h = Math.floor(min / 60);
  if (h < 24) return min % 60 ? `${h} h ${min % 60} min` : `${h} h`;
  const d = Math.floor(h / 24);
  return d < 730 ? `${d} d` : `${Math.floor(d / 365)} y`;
}

export const ago = (ms: number, nowMs: number) => (nowMs - ms < 1500 ? "now" : `${span(nowMs - ms)} ago`);

/** Four significant digits, without exponents where a human would not write one. */
export function num(v: number | null | undefined): string {
  if (v === null || v === undefined || !Number.isFinite(v)) return "–";
  const a = Math.abs(v);
  if (a !== 0 && (a >= 1e7 || a < 1e-4)) return v.toExponential(2);
  const digits = a >= 1000 ? 0 : a >= 100 ? 1 : a >= 10 ? 2 : a >= 1 ? 3 : 4;
  return v.toLocaleString(undefined, { maximumFractionDigits: digits, minimumFractionDigits: Math.min(digits, 2) });
}

export const count = (n: number) => n.toLocaleString();
export const percent = (v: number | null) => (v === null ? "–" : `${Math.round(v * 100)} %`);

/** How unusual a calibrated score is: the decimal logarithm of "1 in N windows". */
export const surprise = (score: number | null) => (score === null ? 0 : -Math.log10(Math.max(1 - score, 1e-6)));
export const surpriseMax = 5;

/** "1 in 1,400 windows": the odds of a window like this when all is well. */
export function odds(score: number | null): string {
  if (score === null || score <= 0) return "usual";
  const n = 1 / Math.max(1 - score, 1e-6);
  if (n < 10) return "usual";
  if (n >= 1e6) return `< 1 in ${count(1e6)} windows`;
  const step = 10 ** Math.floor(Math.log10(n) - 1);
  return `1 in ${count(Math.round(n / step) * step)} windows`;
}

export function scoreText(score: number | null): string {
  if (score === null) return "–";
  if (score > 0.99995) return "> 0.9999";
  return score.toFixed(score >= 0.99 ? 4 : 2);
}

const causes: Record<string, string> = {
  limit: "Limit",
  behaviour: "Behaviour",
  flatline: "Flatline",
  bad_quality: "Bad quality",
  silence: "Silence",
  clock: "Clock",
  blind: "Blind",
  model: "Model",
};
export const causeName = (c: string) => causes[c] ?? c;
