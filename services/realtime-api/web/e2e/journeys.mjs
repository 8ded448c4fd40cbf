// Ten journeys of the people who live with the page, in a real browser against everything behind it.
//
//   node journeys.mjs '{"page","chromium","profile","shots","restart","fails","find"}'
//
// The fleet is simulated and the machine fails begins to fail; find is another one. "STEP stop" and "STEP start" on standard output ask for the API to be killed and started again where
// restart is true; a line on standard input says that it is done. shots is a folder for pictures; empty for none.
import assert from "node:assert/strict";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { chromium } from "playwright-core";
import { accessible, fits, touchable } from "./checks.mjs";
import { apply, tune } from "./inbox.mjs";

const o = JSON.parse(process.argv[2]);
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const step = async (name) => {
  console.log(`STEP ${name}`);
  const { value } = await lines.next();
  assert.equal(value, "done", `step ${name}`);
};
const context = await chromium.launchPersistentContext(o.profile, {
  executablePath: o.chromium,
  headless: true,
  viewport: { width: 1440, height: 900 },
  colorScheme: "dark",
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});
const page = await context.newPage();
page.setDefaultTimeout(120_000);
const wrong = [];
let away = false;
page.on("pageerror", (e) => wrong.push(`exception: ${e.message}`));
page.on("request", (r) => {
  if (!r.url().startsWith(o.page) && !r.url().startsWith("data:")) wrong.push(`request to ${r.url()}`);
});
page.on("console", (m) => {
  if (m.type() === "error" && !away && /Content Security Policy/.test(m.text())) wrong.push(m.text());
});

let number = 0;
const began = Date.now();
const journey = async (name, fn) => {
  const at = Date.now();
  await fn();
  console.log(`ok ${++number}. ${name} (${((Date.now() - at) / 1000).toFixed(1)} s)`);
};
/** A picture, once nothing moves any more. */
const shot = async (name, options = {}) => {
  if (!o.shots) return;
  await page.waitForTimeout(900);
  await page.screenshot({ path: join(o.shots, `${name}.png`), ...options });
};
const go = (hash) => page.goto(`${o.page}/${hash}`);
const dialog = (name) => page.getByRole("dialog", { name });
/** What asks for a name asks once: the browser remembers it. */
const named = async (d) => {
  const field = d.getByLabel("Your name, for the journal");
  if (await field.count()) await field.fill("ada");
};

try {
  let machine = "";
  let alert = "";

  await journey("see a fault appear", async () => {
    await go("#/");
    await page.locator(".cell").first().waitFor();
    await page.getByText("Live", { exact: true }).waitFor();
    machine = o.fails;
    await page.locator(":is(.alertline.s-critical, .alertline.s-warning)", { hasText: machine }).first().waitFor();
    await page.locator(".cell:is(.s-critical, .s-warning)", { hasText: machine }).first().waitFor();
    assert.match(await page.title(), /^\(\d+\)/, "the tab counts what is open");
  });

  await journey("open it and see why", async () => {
    await page.locator(".cell", { hasText: machine }).first().click();
    await page.getByRole("heading", { name: machine }).waitFor();
    await page.locator(".why .cause").first().waitFor();
    await page.locator(".chart.blamed canvas").first().waitFor();
    await page.getByRole("link", { name: "Acknowledge, shelve, say what it was worth" }).first().click();
    await page.getByRole("article", { name: `Alert of ${machine}` }).waitFor();
    alert = new URL(page.url()).hash;
  });

  await journey("acknowledge it", async () => {
    await page.locator(".acts").getByRole("button", { name: /^Acknowledge/ }).click();
    const d = dialog("Acknowledge");
    await d.waitFor();
    await named(d);
    await d.getByRole("button", { name: "Acknowledge" }).click();
    await page.locator(".incidentpage .st-acknowledged").waitFor();
    await page.locator(".timeline .t-acknowledged", { hasText: "ada" }).first().waitFor();
  });

  await journey("say what it was worth", async () => {
    await page.keyboard.press("v");
    const d = dialog("What was it worth?");
    await d.getByRole("radio").first().check();
    await d.getByLabel("Note (may be empty)").fill("bearing, replaced");
    await named(d);
    await d.getByRole("button", { name: "Save" }).click();
    await page.locator(".incidentpage .chip.verdict").waitFor();
    await page.locator(".timeline .t-verdict", { hasText: "bearing, replaced" }).waitFor();
    await shot("alert");
  });

  await journey("shelve it and take it back", async () => {
    await page.keyboard.press("s");
    const d = dialog("Shelve");
    await d.getByRole("radio", { name: "4 hours" }).check();
    await named(d);
    await d.getByRole("button", { name: "Shelve" }).click();
    await page.locator(".incidentpage .st-shelved").waitFor();
    await page.locator(".acts").getByRole("button", { name: /^End the shelf/ }).click();
    await page.locator(".incidentpage .st-shelved").waitFor({ state: "detached" });
  });

  await journey("zoom into history", async () => {
    await go(`#/machine/${encodeURIComponent(machine)}`);
    await page.locator(".chart canvas").first().waitFor();
    const first = page.locator(".charts > div").first();
    const loaded = () => page.waitForFunction(() => document.querySelector(".charts > div:first-child:not(.waiting) .chart canvas"));
    // The lake is written every some seconds: until it has the machine's first minutes, asked for again.
    for (const until = Date.now() + 240_000; ; ) {
      await page.getByRole("button", { name: "1 h", exact: true }).click();
      await page.locator(".note.past").waitFor();
      await first.locator(".sub", { hasText: /^(?!loading)/ }).waitFor();
      const said = await first.locator(".sub").innerText();
      if (/^expected|in this time$/.test(said)) break;
      if (Date.now() > until) throw new Error(`the lake has nothing of ${machine}: ${said}`);
      await page.getByRole("button", { name: "Live", exact: true }).click();
      await page.waitForTimeout(1000);
    }
    await loaded();
    const before = new URL(page.url()).hash;
    await page.locator(".chart .plot").first().scrollIntoViewIfNeeded();
    const box = await page.locator(".chart .plot").first().boundingBox();
    await page.mouse.move(box.x + box.width * 0.8, box.y + 60);
    await page.mouse.down();
    await page.mouse.move(box.x + box.width * 0.9, box.y + 60, { steps: 4 });
    await page.mouse.move(box.x + box.width - 9, box.y + 60, { steps: 4 });
    await page.mouse.up();
    await page.waitForFunction((h) => location.hash !== h, before);
    await loaded();
    if (o.shots) await page.waitForFunction(() => [...document.querySelectorAll(".charts > div")].slice(0, 6).every((e) => !e.classList.contains("waiting") && getComputedStyle(e).opacity === "1"));
    if (o.shots) await page.evaluate(() => document.querySelector(".charttools").scrollIntoView());
    await shot("history");
    await page.keyboard.press("-");
    await page.keyboard.press("ArrowLeft");
    await page.locator(".note.past").waitFor();
    await page.keyboard.press("l");
    await page.locator(".note.past").waitFor({ state: "detached" });
  });

  await journey("tune", async () => {
    await page.keyboard.press("g");
    await page.keyboard.press("u");
    await page.getByRole("heading", { name: /Tuning/ }).first().waitFor();
    assert.ok(await tune(page), "there is a tuning bench");
    await shot("tuning");
    await apply(page);
  });

  await journey("search", async () => {
    await page.keyboard.press("g");
    await page.keyboard.press("f");
    await page.locator(".cell").first().waitFor();
    await page.keyboard.press("/");
    await page.keyboard.type(o.find);
    await page.waitForFunction(() => document.querySelectorAll(".cell").length === 1);
    await page.keyboard.press("Enter");
    await page.getByRole("heading", { name: o.find }).waitFor();
  });

  await journey("on a phone", async () => {
    await page.setViewportSize({ width: 390, height: 844 });
    for (const [hash, ready, name] of [["#/", ".cell", "phone-fleet"], [alert, ".incidentpage .acts", "phone-alert"], [`#/machine/${encodeURIComponent(machine)}`, ".chart canvas", "phone-machine"]]) {
      await go(hash);
      await page.locator(ready).first().waitFor();
      await fits(page, hash);
      await touchable(page, hash);
      assert.deepEqual(await accessible(page, hash), []);
      await shot(name);
    }
    await page.setViewportSize({ width: 1440, height: 900 });
  });

  await journey("the API is restarted", async () => {
    await go("#/");
    await page.locator(".link.live").waitFor();
    away = true;
    if (o.restart) await step("stop");
    else await context.setOffline(true);
    if (o.restart) await page.getByRole("alert").getByText("Connection lost.").waitFor();
    assert.ok(await page.locator(".cell").first().isVisible(), "the last known state stays");
    if (o.restart) await step("start");
    else await context.setOffline(false);
    await page.locator(".link.live").waitFor();
    await page.locator(".banner").waitFor({ state: "detached" });
    away = false;
    await page.locator(".cell", { hasText: machine }).first().waitFor();
  });

  if (o.shots) {
    await go("#/");
    await page.waitForFunction(() => document.querySelectorAll(".alertline").length >= 4, undefined, { timeout: 300_000 });
    await page.waitForTimeout(60_000); // what began must be seen as lasting
    await shot("fleet");
    for (const [hash, ready, name] of [[`#/machine/${encodeURIComponent(machine)}`, ".chart canvas", "machine"], ["#/alerts", ".incident", "alerts"], ["#/coverage", ".covered", "coverage"], ["#/models", "main > *", "models"], ["#/health", "main > *", "health"]]) {
      await go(hash);
      await page.locator(ready).first().waitFor();
      await shot(name);
    }
    await page.emulateMedia({ colorScheme: "light" });
    await go(`#/machine/${encodeURIComponent(machine)}`);
    await page.locator(".chart canvas").first().waitFor();
    await shot("machine-light");
    await go("#/?view=map&by=name");
    await page.locator(".fleetmap canvas").first().waitFor();
    await shot("map-light");
  }
  assert.deepEqual(wrong, []);
  console.log(`PASS ${((Date.now() - began) / 1000).toFixed(0)} s`);
} catch (e) {
  console.log(`FAIL ${e.stack}`);
  for (const w of wrong) console.log(`saw ${w}`);
  if (process.env.TOCSIN_E2E_SHOT) await page.screenshot({ path: process.env.TOCSIN_E2E_SHOT });
  process.exitCode = 1;
} finally {
  await context.close();
  process.exit();
}
