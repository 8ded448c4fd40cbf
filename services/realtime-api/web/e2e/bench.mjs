// Measures the page in a real browser. Run by `make bench-page`:
//
//   node bench.mjs '{"chromium","profile","fleet","machines","minutes","path","gateway","pages"}'
//
// fleet: a page over a fleet of so many machines that changes at full rate. path: a page behind the whole path, and its ingest gateway. The result is one line of JSON on standard output.
import { chromium } from "playwright-core";

const o = JSON.parse(process.argv[2]);
const say = (...a) => console.error(...a);
const wait = (ms) => new Promise((r) => setTimeout(r, ms));
const args = ["--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--enable-precise-memory-info"];
const browser = await chromium.launch({ executablePath: o.chromium, headless: true, args });
const rank = (list, q) => [...list].sort((a, b) => a - b)[Math.min(list.length - 1, Math.max(0, Math.ceil(q * list.length) - 1))];
const round = (v, d = 1) => (v === undefined ? null : Number(v.toFixed(d)));

// Tells, in the page, when all machines stood on the map and when the main thread had been free for 200 ms after that.
const watchFirst = (n) => {
  window.first = {};
  const done = new MutationObserver(() => {
    const found = document.querySelector(".found")?.textContent ?? "";
    if (!first.shown && found.replace(/\D/g, "") === String(n)) {
      requestAnimationFrame(() => requestAnimationFrame(() => (first.shown = performance.now())));
      done.disconnect();
    }
  });
  document.addEventListener("DOMContentLoaded", () => done.observe(document.documentElement, { subtree: true, childList: true, characterData: true }));
  window.long = [];
  new PerformanceObserver((l) => l.getEntries().forEach((e) => long.push({ at: e.startTime, ms: e.duration }))).observe({ type: "longtask", buffered: true });
};

async function interactive() {
  const out = { cold: [], warm: [], reply_ms: [] };
  for (let i = 0; i < 5; i++) {
    const context = await browser.newContext({ viewport: { width: 1920, height: 1080 } });
    for (const kind of ["cold", "warm"]) {
      const page = await context.newPage();
      await page.addInitScript(watchFirst, o.machines);
      await page.goto(`${o.fleet}/`);
      await page.waitForFunction(() => window.first.shown, undefined, { timeout: 120_000 });
      out[kind].push(round(await page.evaluate(() => window.first.shown), 0));
      // What interactive is for: how long a key takes until the screen has changed.
      out.reply_ms.push(
        round(
          await page.evaluate(
            () =>
              new Promise((r) => {
                const t = performance.now();
                document.querySelector(".tile.s-critical").click();
                requestAnimationFrame(() => requestAnimationFrame(() => r(performance.now() - t)));
              }),
          ),
        ),
      );
      await page.close();
    }
    await context.close();
  }
  return { first_visit_ms: out.cold, second_visit_ms: out.warm, worst_ms: Math.max(...out.cold, ...out.warm), click_to_frame_ms_worst: Math.max(...out.reply_ms) };
}

/** Frames as the compositor presented them, from a trace, while something moves at every frame. */
async function frames(page, seconds, move) {
  const cdp = await page.context().newCDPSession(page);
  const events = [];
  cdp.on("Tracing.dataCollected", (e) => events.push(...e.value.filter((v) => v.name === "DrawFrame" || v.name === "DroppedFrame" || (v.name === "RunTask" && v.dur > 50_000))));
  await cdp.send("Tracing.start", { transferMode: "ReportEvents", traceConfig: { includedCategories: ["disabled-by-default-devtools.timeline", "disabled-by-default-devtools.timeline.frame", "devtools.timeline.frame"] } });
  await page.evaluate(() => {
    // A mark that moves at each frame, as a pointer or a chart does: without it nothing is drawn between two changes.
    const e = document.createElement("div");
    e.id = "mover";
    document.body.append(e);
    Object.assign(e.style, { position: "fixed", left: "0", bottom: "0", width: "8px", height: "8px", background: "gray", zIndex: "99" });
    window.moved = [];
    const step = (t) => {
      window.moved.push(t);
      e.style.transform = `translateX(${(t / 10) % 200}px)`;
      if (e.isConnected) requestAnimationFrame(step);
    };
    requestAnimationFrame(step);
  });
  const until = Date.now() + seconds * 1000;
  while (Date.now() < until) await move(page);
  const moved = await page.evaluate(() => (document.getElementById("mover").remove(), window.moved));
  const ended = new Promise((r) => cdp.once("Tracing.tracingComplete", r));
  await cdp.send("Tracing.end");
  await ended;
  await cdp.detach();
  const at = events.filter((e) => e.name === "DrawFrame").map((e) => e.ts / 1000).sort((a, b) => a - b);
  const gaps = at.slice(1).map((t, i) => t - at[i]);
  const ticks = moved.slice(1).map((t, i) => t - moved[i]);
  return {
    seconds: round((at.at(-1) - at[0]) / 1000),
    frames_per_second: round(((at.length - 1) * 1000) / (at.at(-1) - at[0])),
    interval_p50_ms: round(rank(gaps, 0.5)),
    interval_p99_ms: round(rank(gaps, 0.99)),
    interval_longest_ms: round(Math.max(...gaps)),
    script_frames_per_second: round(((moved.length - 1) * 1000) / (moved.at(-1) - moved[0])),
    script_interval_p99_ms: round(rank(ticks, 0.99)),
    tasks_over_50_ms: events.filter((e) => e.name === "RunTask").length,
  };
}

async function fleet() {
  const result = { interactive: await interactive() };
  say("interactive", JSON.stringify(result.interactive));
  const context = await browser.newContext({ viewport: { width: 1920, height: 1080 } });
  const page = await context.newPage();
  await page.goto(`${o.fleet}/`);
  await page.locator(".fleetmap canvas").first().waitFor({ timeout: 120_000 });
  let n = 0;
  const nothing = () => wait(200);
  result.map = await frames(page, 20, nothing);
  result.map_under_the_pointer = await frames(page, 10, async (p) => p.mouse.move(100 + ((n += 37) % 1200), 350 + ((n * 7) % 600)));
  await page.goto(`${o.fleet}/#/?view=list`);
  await page.locator(".cell").first().waitFor();
  result.list_scrolled = await frames(page, 10, async (p) => (await p.mouse.move(600, 600), await p.mouse.wheel(0, 120)));
  await page.goto(`${o.fleet}/#/?view=map&by=name`);
  await page.locator(".fleetmap canvas").first().waitFor();
  say("frames", JSON.stringify(result.map));
  result.rows_per_second = await page.evaluate(() => Number(document.querySelector(".vital.rate b").textContent.replace(/\D/g, "")));
  result.memory = await memory(page, o.minutes);
  await context.close();
  return result;
}

/** The heap after a full collection, and the document's nodes, over so many minutes of the map, with a visit to a machine's page in each round. */
async function memory(page, minutes) {
  const cdp = await page.context().newCDPSession(page);
  await cdp.send("HeapProfiler.enable");
  const samples = [];
  const began = Date.now();
  const every = Math.max(5000, (minutes * 60_000) / 60);
  for (;;) {
    await cdp.send("HeapProfiler.collectGarbage");
    const { usedSize } = await cdp.send("Runtime.getHeapUsage");
    const { nodes, jsEventListeners, documents } = await cdp.send("Memory.getDOMCounters");
    samples.push({ s: Math.round((Date.now() - began) / 1000), heap_mb: round(usedSize / 2 ** 20, 2), nodes, listeners: jsEventListeners, documents });
    if (Date.now() - began >= minutes * 60_000) break;
    await page.evaluate(() => (location.hash = "#/?view=list"));
    await wait(every / 3);
    await page.evaluate(() => document.querySelector(".cell a, a.cell")?.click());
    await wait(every / 3);
    await page.evaluate(() => (location.hash = "#/?view=map&by=name"));
    await wait(every / 3);
  }
  await cdp.detach();
  // After the first tenth: what is filled once (the last 60 rates, the code's own caches) is full by then.
  const kept = samples.slice(Math.ceil(samples.length / 10));
  const mx = kept.reduce((a, v) => a + v.s, 0) / kept.length;
  const my = kept.reduce((a, v) => a + v.heap_mb, 0) / kept.length;
  const slope = kept.reduce((a, v) => a + (v.s - mx) * (v.heap_mb - my), 0) / Math.max(1, kept.reduce((a, v) => a + (v.s - mx) ** 2, 0));
  return { minutes, samples: samples.length, first_mb: kept[0].heap_mb, last_mb: kept.at(-1).heap_mb, most_mb: Math.max(...kept.map((v) => v.heap_mb)), slope_mb_per_hour: round(slope * 3600, 2), nodes_first: kept[0].nodes, nodes_last: kept.at(-1).nodes, series: samples };
}

const windowMs = 5000;
const latenessMs = 2000;

/**
 * From a frame to the screen, by the whole path. Each frame of a machine holds a value of its own, which the machine's page shows before it is judged, and one that is the same for all
 * frames of a window, which the page shows as the window's mean once that is closed.
 */
async function path() {
  const seconds = Math.max(60, Math.min(600, o.minutes * 60));
  const machines = Array.from({ length: o.pages }, (_, i) => `mark-${i + 1}`);
  const seen = new Map();
  const report = (machine, what, value, at) => {
    const key = `${what} ${machine} ${value}`;
    if (!seen.has(key)) seen.set(key, at);
  };
  const browsers = [];
  const closing = new Map();
  const lastOf = new Map();
  const began = Date.now();
  let sequence = began * 1000;
  const sent = new Map();
  const frames = new Map(machines.map((m) => [m, []])); // when each was sent; its value is its place
  const value = (k) => 1000 + (k % 9000);
  const frame = async (m) => {
    const at = Date.now();
    const k = Math.floor(at / windowMs);
    const own = value(frames.get(m).push(at) - 1);
    const r = await fetch(`${o.gateway}/v1/frames`, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ equipment_id: m, gateway_id: "bench", sequence: ++sequence, base_time_us: at * 1000, sensors: ["own", "window"], values: [own, value(k)] }) });
    if (!r.ok) throw new Error(`gateway: ${r.status} ${await r.text()}`);
    lastOf.set(`${m} ${k}`, at);
    // The first frame that is further than the allowed lateness past a window's end closes it.
    for (let w = sent.get(m) ?? k; (w + 1) * windowMs + latenessMs <= at; w++) {
      closing.set(`${m} ${w}`, at);
      sent.set(m, w + 1);
    }
    if (!sent.has(m)) sent.set(m, k);
  };
  let stopped = false;
  const sender = machines.map(async (m, i) => {
    await wait((i * 1000) / machines.length);
    for (let next = Date.now(); !stopped; ) {
      await frame(m);
      next += 250;
      await wait(Math.max(0, next - Date.now()));
    }
  });
  for (const m of machines) {
    // A browser each: of the tabs of one, only that in front is on screen, and the others are given a frame a second.
    const own = await chromium.launch({ executablePath: o.chromium, headless: true, args });
    browsers.push(own);
    const page = await own.newPage({ viewport: { width: 900, height: 700 } });
    await page.exposeFunction("report", report);
    await page.goto(`${o.path}/#/machine/${m}`);
    await page.locator(".chart .mean").first().waitFor({ timeout: 120_000 });
    await page.evaluate((machine) => {
      const before = {};
      const look = () => {
        for (const chart of document.querySelectorAll(".chart")) {
          const what = chart.querySelector(".sensor")?.textContent;
          // The value that is not judged yet, and the last window's mean.
          const text = chart.querySelector(what === "own" ? ".now.unjudged" : ".mean")?.textContent;
          if (!text || text === before[what]) continue;
          before[what] = text;
          // On screen, not only in the document.
          requestAnimationFrame(() => {
            const c = new MessageChannel();
            c.port1.onmessage = () => void window.report(machine, what, Number(text.replace(/[^\d.]/g, "")), Date.now());
            c.port2.postMessage(0);
          });
        }
      };
      new MutationObserver(look).observe(document.getElementById("main"), { subtree: true, childList: true, characterData: true });
    }, m);
  }
  const watched = Date.now();
  await wait(seconds * 1000);
  stopped = true;
  await Promise.all(sender);
  await wait(3000);
  await Promise.all(browsers.map((b) => b.close()));
  const fromClosing = [];
  const fromLast = [];
  const fromFrame = [];
  const ownOnly = [];
  let missed = 0;
  let unseen = 0;
  const firstWindow = Math.ceil(watched / windowMs);
  const lastWindow = Math.floor((Date.now() - 15_000) / windowMs);
  for (const m of machines) {
    for (let k = firstWindow; k < lastWindow; k++) {
      const at = seen.get(`window ${m} ${value(k)}`);
      const closed = closing.get(`${m} ${k}`);
      if (at === undefined || closed === undefined) {
        missed++;
        continue;
      }
      fromClosing.push(at - closed);
      fromLast.push(at - lastOf.get(`${m} ${k}`));
    }
    const firstOfMachine = fromFrame.length;
    // A frame that a newer one overtook on the way to the screen counts until that one was there.
    let newer = Infinity;
    const list = frames.get(m);
    for (let i = list.length - 1; i >= 0 && list[i] >= watched; i--) {
      const own = seen.get(`own ${m} ${value(i)}`);
      newer = Math.min(newer, own ?? Infinity);
      if (list[i] > watched + seconds * 1000 - 5000) continue; // it may not have had the time
      if (own !== undefined) ownOnly.push(own - list[i]);
      if (newer === Infinity) unseen++;
      else fromFrame.push(newer - list[i]);
    }
    const mine = fromFrame.slice(firstOfMachine);
    say(m, `p50 ${rank(mine, 0.5)} ms, p99 ${rank(mine, 0.99)} ms`);
  }
  const table = (l, what) => ({ [what]: l.length, p50_ms: rank(l, 0.5), p90_ms: rank(l, 0.9), p99_ms: rank(l, 0.99), longest_ms: Math.max(...l) });
  return {
    seconds,
    machines: machines.length,
    frames_per_second: machines.length * 4,
    never_seen: missed + unseen,
    from_a_frame_to_its_value_or_a_newer_one: table(fromFrame, "frames"),
    from_a_frame_to_its_own_value: table(ownOnly, "frames"),
    from_the_frame_that_closes_the_window: table(fromClosing, "windows"),
    from_the_last_frame_of_the_window: table(fromLast, "windows"),
  };
}

const out = { machines: o.machines, chromium: browser.version() };
if (o.path) out.path = await path();
say("path", JSON.stringify(out.path ?? null));
if (o.fleet) out.fleet = await fleet();
await browser.close();
console.log(JSON.stringify(out));
