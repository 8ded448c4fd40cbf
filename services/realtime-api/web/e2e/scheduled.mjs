// Scheduled checks in a real browser: jobs, what they found, a check at once. The historical-api is played here.
import assert from "node:assert/strict";
import { join } from "node:path";
import { everyLook } from "./checks.mjs";

const hour = 3_600_000;
const start = Math.floor(Date.now() / hour) * hour;
const iso = (ago) => new Date(start - ago).toISOString();
const evil = "<img src=x onerror=window.pwned=1>";
const json = (route, body, status = 200) => route.fulfill({ status, contentType: "application/json", body: JSON.stringify(body) });
const problem = (route, status, detail, field = "") => route.fulfill({ status, contentType: "application/problem+json", body: JSON.stringify({ type: "about:blank", title: "Refused", status, detail, field }) });

const result = { slot: iso(hour), from: iso(3 * hour), to: iso(hour), series: 48, judged: 1100, missing: 52, not_enough_history: 7, off: 0, invalid: 0, findings: 3, critical: 1 };
const jobs = {
  now: iso(0), runner: "historical-api-0", here: true, alerts_waiting: 2, alerts_problem: "Kafka cannot be reached",
  jobs: [
    { name: "sensors", schedule: "15 * * * *", time_zone: "UTC", source: "sensor_mean", state: "waiting", next: iso(-10 * hour), due: 0, skipped: 0, last: { started: iso(2 * hour), finished: iso(2 * hour), seconds: 1.25, ok: true, failures: 0 }, result },
    { name: "orders", schedule: "20 * * * *", time_zone: "Europe/Berlin", source: "sql", state: "failing", next: iso(3 * hour), due: 4, skipped: 9, last: { started: iso(hour), finished: iso(hour), seconds: 0.4, ok: false, ok_at: iso(7 * hour), failures: 3 }, error: `no such column: ${evil}` },
    { name: "new", schedule: "@daily", time_zone: "UTC", source: "sensor_sum", state: "new", next: "0001-01-01T00:00:00Z", due: 0, skipped: 0 },
  ],
};

const found = [
  { id: "pump-01/check:sensors:volume:flow/1", job: "sensors", entity: "pump-01", metric: "flow", kind: "volume", severity: "critical", from: iso(6 * hour), to: iso(3 * hour), z: 9.1, observed: 12, expected: 310, deviation: 21, weeks: 4, summary: "flow is 12, 96 % below what is usual (310) over 3 h.", alert: "open", alerted_at: iso(3 * hour), over: false },
  { id: "shop-7/check:orders:shape:orders/2", job: "orders", entity: "shop-7", metric: "orders", kind: "shape", severity: "warning", from: iso(48 * hour), to: iso(24 * hour), z: 4.4, similarity: 0.91, usual: 0.994, weeks: 4, summary: "", over: true },
  { id: "evil", job: "sensors", entity: evil, metric: evil, kind: "volume", severity: "warning", from: iso(30 * hour), to: iso(29 * hour), z: 5.6, observed: 2, expected: 1, deviation: 0.1, weeks: 4, summary: evil, over: true },
];

/** Everything in a page of its own. shots: a folder for pictures, or empty. */
export async function scheduled(context, base, check, shots = "") {
  const page = await context.newPage();
  page.setDefaultTimeout(90_000);
  const wrong = [];
  page.on("pageerror", (e) => wrong.push(`exception: ${e.message}`));
  const w = { asked: [], checks: [], history: true, down: false, many: 0 };
  await page.route("**/v1/session", (r) => json(r, { authenticated: true, anonymous: true, name: "", equipment: ["*"], all_machines: true, login: false, expires_at_ms: 0, features: { router: false, history: w.history, models: false, tuning: false } }));
  await page.route("**/v1/history/jobs", (r) => (w.down ? problem(r, 502, "historical-api cannot be reached") : json(r, w.none ? { ...jobs, jobs: [] } : jobs)));
  await page.route("**/v1/history/anomalies?*", (r) => {
    const q = new URL(r.request().url()).searchParams;
    w.asked.push(Object.fromEntries(q));
    const list = found.filter((f) => ["job", "entity", "metric", "kind", "severity"].every((k) => !q.get(k) || f[k] === q.get(k)));
    const more = Array.from({ length: w.many }, (_, i) => ({ ...found[1], id: `n${i}`, entity: `shop-${i}` }));
    const all = [...list, ...more];
    const limit = Number(q.get("limit"));
    return json(r, { anomalies: all.slice(0, limit), ...(all.length > limit ? { next: "bmV4dA" } : {}) });
  });
  await page.route("**/v1/history/anomalies/check?*", (r) => {
    const q = Object.fromEntries(new URL(r.request().url()).searchParams);
    w.checks.push(q);
    if (q.entity === "nobody") return problem(r, 400, 'entity: there is no "nobody"', "entity");
    return json(r, { job: q.job ?? "", entity: q.entity, metric: q.metric, from: iso(24 * hour), to: iso(0), time_zone: "UTC", verdict: "critical", judged: 22, missing: 2, not_enough_history: 0, off: 0, figures: 700, findings: [found[0]] });
  });
  const card = (name) => page.getByRole("region", { name });
  const finding = (text) => page.locator(".finding", { hasText: text });

  await check("jobs say when they ran, what they missed and why they fail", async () => {
    await page.goto(`${base}/#/`);
    await page.locator(".cell").first().waitFor();
    await page.keyboard.press("g");
    await page.keyboard.press("s");
    await page.getByRole("heading", { name: "Checks", exact: true }).waitFor();
    const row = (name) => card("Jobs").getByRole("row", { name: new RegExp(`^${name}`) });
    assert.match(await row("sensors").innerText(), /waiting[\s\S]*ago, 1\.25\d* s[\s\S]*in [\s\S]*1,100[\s\S]*52[\s\S]*7[\s\S]*3, 1 critical/);
    assert.match(await row("orders").innerText(), /failing[\s\S]*no such column: <img[\s\S]*failed 3 times in a row, well [\s\S]*now[\s\S]*4 due[\s\S]*9/);
    assert.match(await row("new").innerText(), /never[\s\S]*–/);
    await card("Jobs").getByText("run by historical-api-0, 2 alerts wait for Kafka: Kafka cannot be reached").waitFor();
  });

  await check("findings by metric, time and severity", async () => {
    await finding("flow is 12, 96 % below").waitFor();
    assert.match(await finding("pump-01").getByRole("link", { name: "pump-01" }).getAttribute("href"), /^#\/machine\/pump-01\?from=\d+&to=\d+$/);
    assert.equal(await finding("pump-01").getByRole("link", { name: "alert open" }).getAttribute("href"), `#/alerts/${encodeURIComponent(found[0].id)}`);
    assert.equal(await finding("shop-7").getByRole("link").count(), 0, "a shop is no machine");
    assert.match(await finding("shop-7").innerText(), /as like the usual day as 0\.91\d*; usually 0\.994\d*/);
    await page.keyboard.press("/");
    await page.keyboard.type("orders");
    await page.waitForFunction(() => document.querySelectorAll(".finding").length === 1);
    await page.getByRole("searchbox", { name: "Metric" }).fill("");
    await page.getByRole("button", { name: "critical", exact: true }).click();
    await page.waitForFunction(() => document.querySelectorAll(".finding").length === 1);
    await finding("pump-01").waitFor();
    assert.equal(new URL(page.url()).hash, "#/checks?severity=critical", "the filter is in the address");
    await page.getByRole("button", { name: "all", exact: true }).click();
    await page.getByRole("combobox", { name: "Job" }).selectOption("orders");
    const whole = page.waitForRequest((r) => /\/anomalies\?.*job=orders/.test(r.url()) && !/from=/.test(r.url()));
    await page.getByRole("combobox", { name: "The last" }).last().selectOption("all that is kept");
    await whole;
    await page.waitForFunction(() => document.querySelectorAll(".finding").length === 1);
    assert.ok(w.asked.some((q) => q.from && q.limit === "50"));
    w.many = 120;
    await page.goto(`${base}/#/`);
    await page.goto(`${base}/#/checks?days=1`);
    await page.waitForFunction(() => document.querySelectorAll(".finding").length === 50);
    await page.getByRole("button", { name: "More" }).click();
    await page.waitForFunction(() => document.querySelectorAll(".finding").length === 123);
    await page.getByRole("button", { name: "More" }).waitFor({ state: "detached" });
    w.many = 0;
  });

  await check("something is checked at once", async () => {
    const form = page.getByRole("form", { name: "Check now" });
    await page.locator("h1").click();
    await page.keyboard.press("n");
    await page.keyboard.type("nobody");
    await form.getByLabel("Sensor or metric").fill("orders");
    await form.getByLabel("Figures").selectOption("job orders");
    await form.getByRole("button", { name: "Check" }).click();
    await form.getByText('entity: there is no "nobody"').waitFor();
    await form.getByLabel("Machine or entity").fill("shop-7");
    await form.getByLabel("The last").selectOption("3 days");
    await form.getByRole("button", { name: "Check" }).click();
    await form.getByText("Very unusual.").waitFor();
    await form.getByText("12.00, expected 310.0 ± 21.00").waitFor();
    assert.deepEqual(w.checks.at(-1), { entity: "shop-7", metric: "orders", job: "orders", hours: "72" });
    if (shots) await page.screenshot({ path: join(shots, "checks.png"), fullPage: true });
  });

  await check("checks in both themes, on a desk and a phone", async () => {
    await everyLook(page, base, [{ hash: "#/checks", ready: ".finding" }]);
    if (shots) await page.screenshot({ path: join(shots, "checks-phone.png"), fullPage: true });
    assert.equal(await page.evaluate(() => window.pwned), undefined);
    assert.equal(await page.locator("img").count(), 0);
  });

  await check("no job, no answer, no historical-api: it is said", async () => {
    w.none = true;
    await page.reload();
    await page.getByText("No check is scheduled.").waitFor();
    w.down = true;
    await page.reload();
    await page.getByText("historical-api cannot be reached").waitFor();
    w.history = false;
    await page.reload();
    await page.getByText("No historical-api stands behind this page").waitFor();
  });

  assert.deepEqual(wrong, []);
  await page.close();
}
