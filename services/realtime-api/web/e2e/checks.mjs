// What holds of every view: axe finds nothing serious, nothing is wider than the screen, targets are large enough to be touched, records are text.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

/** What axe finds serious or critical on what is shown now. */
export async function accessible(page, what) {
  // Through the debugger, which the page's policy does not bind.
  if (!(await page.evaluate(() => "axe" in window))) await page.evaluate(axe);
  const found = await page.evaluate(async () => {
    // What passes within seconds, as the flash of what has just come, is not what is read.
    await Promise.allSettled(document.getAnimations().filter((a) => a.effect?.getTiming().iterations !== Infinity).map((a) => a.finished));
    const r = await window.axe.run(document, { resultTypes: ["violations"] });
    return r.violations
      .filter((v) => v.impact === "serious" || v.impact === "critical")
      .map((v) => `${v.id}: ${v.help}\n${v.nodes.slice(0, 4).map((n) => `    ${n.html.slice(0, 200)}\n    ${n.any.map((a) => a.message).join("; ").slice(0, 300)}`).join("\n")}`);
  });
  return found.map((f) => `axe on ${what}: ${f}`);
}

/** Fails when the page is wider than the screen. */
export async function fits(page, what) {
  const [wide, screen] = await page.evaluate(() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]);
  assert.ok(wide <= screen, `${what} is ${wide} px wide on a screen of ${screen}`);
}

/** Fails when a button or link outside of text is smaller than a finger needs (WCAG 2.2, 2.5.8: 24 px, or as much room around it). */
export async function touchable(page, what) {
  const small = await page.evaluate(() =>
    [...document.querySelectorAll("button, nav a, select, input")]
      .filter((e) => {
        const r = e.getBoundingClientRect();
        return r.width > 0 && getComputedStyle(e).clipPath === "none" && (r.width < 24 || r.height < 24) && !e.closest("label");
      })
      .map((e) => `${e.outerHTML.slice(0, 120)} ${Math.round(e.getBoundingClientRect().width)}x${Math.round(e.getBoundingClientRect().height)}`),
  );
  assert.deepEqual(small, [], `too small to touch on ${what}`);
}

// Colours depend on the theme and layout on the width, so two looks show what four would; TOCSIN_ALL_LOOKS=1 takes four.
const looks = [
  { theme: "dark", width: 1400, height: 900 },
  { theme: "light", width: 375, height: 800 },
  ...(process.env.TOCSIN_ALL_LOOKS ? [{ theme: "light", width: 1400, height: 900 }, { theme: "dark", width: 375, height: 800 }] : []),
];

/** Every view in both themes, on a desk and a phone. views: addresses and what shows that they are there. */
export async function everyLook(page, base, views) {
  const found = new Map();
  for (const { theme, width, height } of looks) {
    await page.setViewportSize({ width, height });
    await page.emulateMedia({ colorScheme: theme, reducedMotion: "reduce" });
    await page.evaluate(() => localStorage.removeItem("tocsin.theme"));
    for (const { hash, ready } of views) {
      const what = `${hash}, ${theme}, ${width} px`;
      await page.goto("about:blank");
      await page.goto(`${base}/${hash}`);
      await page.locator(ready).first().waitFor();
      await fits(page, what);
      await touchable(page, what);
      for (const f of await accessible(page, what)) found.set(f.replace(/.*?: /, "").replace(/score [\d.]+/g, ""), f);
    }
  }
  assert.equal(found.size, 0, [...found.values()].join("\n"));
}

/** What is sent for the first look, and that nothing but the page's own files holds it up. */
export async function light(page, base) {
  const cdp = await page.context().newCDPSession(page);
  await cdp.send("Network.enable");
  await cdp.send("Network.setCacheDisabled", { cacheDisabled: true });
  await cdp.send("Network.setBypassServiceWorker", { bypass: true });
  const sent = [];
  const seen = (r) => sent.push(r);
  page.on("response", seen);
  await page.goto("about:blank");
  await page.goto(`${base}/`);
  await page.locator(".cell, .fleetmap").first().waitFor();
  page.off("response", seen);
  let bytes = 0;
  for (const r of sent) {
    const { pathname } = new URL(r.url());
    if (!/\.(js|css)$|\/$/.test(pathname) || r.fromServiceWorker()) continue;
    bytes += (await r.request().sizes()).responseBodySize;
    if (/\.(js|css)$/.test(pathname) && r.status() === 200) assert.equal(r.headers()["content-encoding"], "gzip", pathname);
  }
  await cdp.detach();
  assert.ok(bytes > 10_000 && bytes < 200_000, `${bytes} bytes for the first look`);
  const blocking = await page.evaluate(() => [...document.head.querySelectorAll('script:not([type=module]):not([async]):not([defer]), link[rel=stylesheet]')].map((e) => e.getAttribute("href") ?? e.getAttribute("src")));
  assert.deepEqual(blocking, ["./assets/app.css"], "what holds up the first paint");
  return bytes;
}
