// Drives the page in a real browser. Run by TestBrowser, which serves the fixtures:
//
//   node page.mjs URL CHROMIUM PROFILE_DIR
//
// "STEP name" on standard output asks the test to do something; a line on standard input says that it is done.
import assert from "node:assert/strict";
import { createInterface } from "node:readline";
import { chromium } from "playwright-core";
import { accessible, everyLook, light } from "./checks.mjs";
import { inbox } from "./inbox.mjs";
import { quality } from "./quality.mjs";
import { scheduled } from "./scheduled.mjs";

const [base, executablePath, profile] = process.argv.slice(2);
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const step = async (name) => {
  console.log(`STEP ${name}`);
  const { value } = await lines.next();
  assert.equal(value, "done", `step ${name}`);
};
const check = async (name, fn) => {
  await fn();
  console.log(`ok ${name}`);
};

const context = await chromium.launchPersistentContext(profile, {
  executablePath,
  headless: true,
  viewport: { width: 1400, height: 900 },
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});
const page = await context.newPage();
page.setDefaultTimeout(90_000); // the machine may be loaded
const wrong = [];
let restarting = false;
page.on("pageerror", (e) => wrong.push(`exception: ${e.message}`));
page.on("console", (m) => {
  // While the server is away, failed connections are reported by the browser itself; so is a machine without coverage.
  if (m.type() === "error" && !restarting && !/\/v1\/equipment\/.*\/coverage$/.test(m.location().url)) wrong.push(`console: ${m.text()}`);
});
page.on("request", (r) => {
  if (!r.url().startsWith(base) && !r.url().startsWith("data:")) wrong.push(`request to ${r.url()}`);
});
const cell = (id) => page.locator(".cell", { hasText: id }).first();
const evil = "<img src=x onerror=window.pwned=1>";

try {
  await check("the fleet appears", async () => {
    await page.goto(`${base}/`);
    await cell("pump-01").waitFor();
    assert.equal(await page.locator(".cell").count(), 12);
    assert.match(await page.locator(".tile.s-ok").innerText(), /12/);
    await page.locator(".link:not(.lost)").waitFor(); // not "live": on a loaded machine the fixture's last record may be old by now
    await page.getByText("No open alerts.").waitFor();
  });

  await check("an alert appears live", async () => {
    await step("alert");
    await page.locator(".alertline", { hasText: "Bearing temperature 71 °C" }).waitFor();
    await page.locator(".tile.s-critical b", { hasText: "1" }).waitFor();
    await page.locator(".cell.s-critical", { hasText: "pump-03" }).waitFor();
    assert.match(await page.locator(".cell").first().innerText(), /pump-03/, "what needs a human stands first");
    assert.match(await page.title(), /^\(1\)/);
  });

  await check("search and state filters", async () => {
    await page.getByRole("searchbox", { name: "Find a machine" }).fill("PUMP-1");
    await page.waitForFunction(() => document.querySelectorAll(".cell").length === 2);
    await page.getByRole("searchbox", { name: "Find a machine" }).fill("");
    await page.locator(".tile.s-critical").click();
    await page.waitForFunction(() => document.querySelectorAll(".cell").length === 1);
    await page.locator(".tile.s-critical").click();
    await page.waitForFunction(() => document.querySelectorAll(".cell").length === 12);
    for (const view of ["List", "Cards"]) {
      await page.getByRole("button", { name: view, exact: true }).click();
      await page.waitForFunction(() => document.querySelectorAll(".cell").length === 12);
    }
  });

  await check("the map by keyboard", async () => {
    await page.getByRole("button", { name: "Map", exact: true }).click();
    const map = page.getByRole("application");
    await map.focus();
    await page.keyboard.press("n");
    await page.locator(".fleetmap [role=status]", { hasText: "pump-03, Critical" }).waitFor();
    await page.keyboard.press("ArrowRight");
    await page.locator(".fleetmap [role=status]", { hasText: "pump-04, OK" }).waitFor();
    await page.keyboard.press("Enter");
    await page.getByRole("heading", { name: "pump-04" }).waitFor();
    await page.goto(`${base}/#/?view=map&by=name`);
    await page.getByRole("combobox", { name: "Which" }).selectOption("replay");
    await page.locator(".found", { hasText: "1 of 12" }).waitFor();
    await page.goto(`${base}/#/`);
  });

  await check("a machine's page has charts and says why", async () => {
    await cell("pump-03").click();
    await page.getByRole("heading", { name: "pump-03" }).waitFor();
    await page.waitForFunction(() => document.querySelectorAll(".chart canvas").length === 4);
    await page.waitForFunction(() =>
      [...document.querySelectorAll(".chart canvas")].every((c) => {
        const { data } = c.getContext("2d").getImageData(0, 0, c.width, c.height);
        const colours = new Set();
        for (let i = 0; i < data.length; i += 4) if (data[i + 3] > 200) colours.add((data[i] << 16) | (data[i + 1] << 8) | data[i + 2]);
        return colours.size > 3;
      }),
    );
    const why = page.locator(".why").first();
    await why.waitFor();
    assert.match(await why.innerText(), /bearing_temperature_c[\s\S]*71[\s\S]*expected 58[\s\S]*64/);
    const before = await page.locator(".machinehead .title").innerText();
    await step("window");
    await page.waitForFunction((b) => document.querySelector(".machinehead .title").innerText !== b, before);
  });

  await check("a value is on screen before a window holds it, and says so", async () => {
    await page.goto(`${base}/#/machine/pump-04`);
    await page.getByRole("heading", { name: "pump-04" }).waitFor();
    assert.equal(await page.locator(".unjudged").count(), 0);
    await step("frames begin");
    const chart = page.locator(".chart", { hasText: "bearing_temperature_c" });
    await chart.locator(".now.unjudged:not(.stale)", { hasText: /4.321/ }).waitFor();
    await chart.getByRole("img", { name: "now, not judged yet:" }).waitFor();
    await chart.getByRole("img", { name: /^bearing_temperature_c: 4.321, not judged yet; mean of the last window \d/ }).waitFor();
    assert.match(await chart.locator(".sub").innerText(), /^mean \d.* expected \d/);
    // A sensor that no window has yet, and whose source rejects its values.
    await page.locator(".chart", { hasText: "stuck" }).getByRole("img", { name: "stuck: bad quality, not judged yet" }).waitFor();
    assert.deepEqual(await accessible(page, "values not judged yet"), []);
    // Nobody knows this machine yet.
    await page.goto(`${base}/#/machine/new-01`);
    await page.getByText("Its first values come in.").waitFor();
    await page.locator(".now.unjudged:not(.stale)", { hasText: /4.321/ }).waitFor();
    // What was measured an hour ago is not now.
    await page.goto(`${base}/#/machine/new-02`);
    await page.locator(".now.unjudged.stale", { hasText: /4.321/ }).waitFor();
    await page.getByRole("img", { name: /^bearing_temperature_c: 4.321 of \d\d:\d\d:\d\d, not judged yet$/ }).waitFor();
    // The window takes its values' place.
    await page.goto(`${base}/#/machine/pump-04`);
    await chart.locator(".now.unjudged").waitFor();
    await step("frames end");
    await step("their window");
    await page.locator(".unjudged").first().waitFor({ state: "detached" });
    assert.equal(await page.locator(".unjudged").count(), 0);
    assert.match(await chart.locator(".now").innerText(), /^\d\d\.\d\d$/);
  });

  await check("names and texts from records are text", async () => {
    await step("evil");
    await page.goto(`${base}/#/`);
    await cell(evil).waitFor();
    await page.locator(".alertline .what", { hasText: evil }).waitFor();
    await cell(evil).click();
    await page.getByRole("heading", { name: evil }).waitFor();
    await page.locator(".chart .sensor", { hasText: evil }).first().waitFor();
    await page.locator(".alert .summary", { hasText: evil }).first().waitFor();
    await page.locator("td.text", { hasText: evil }).first().waitFor();
    await page.goto(`${base}/#/alerts`);
    await page.locator(".alert .summary", { hasText: evil }).first().waitFor();
    for (const [hash, ready] of [["#/?view=list", ".cell"], ["#/?view=map&by=name", ".fleetmap"], [`#/machine/${encodeURIComponent(evil)}?from=1&to=100000`, ".chart, .machinehead"], [`#/${encodeURIComponent(evil)}`, ".cell"]]) {
      await page.goto(`${base}/${hash}`);
      await page.locator(ready).first().waitFor();
      assert.equal(await page.evaluate(() => window.pwned), undefined, hash);
    }
    assert.equal(await page.locator("img").count(), 0);
    await page.evaluate(() => {
      // Even markup that got in would not run: the policy forbids it.
      const s = document.createElement("script");
      s.textContent = "window.pwned = 2";
      document.body.append(s);
    });
    assert.equal(await page.evaluate(() => window.pwned), undefined);
    assert.ok(wrong.some((w) => /Content Security Policy/i.test(w)), "the policy did not speak");
    wrong.length = 0;
  });

  await check("a replay of years ago is shown in its own time", async () => {
    await page.goto(`${base}/#/machine/replay-2014`);
    await page.getByRole("heading", { name: "replay-2014" }).waitFor();
    await page.locator(".chart canvas").first().waitFor();
    assert.match(await page.locator(".machinehead").innerText(), /2014/);
  });

  await check("what is judged and what is not", async () => {
    await page.goto(`${base}/#/`);
    await page.getByRole("link", { name: "Coverage" }).click();
    await page.getByRole("row", { name: /bad quality, stuck 1 1/ }).waitFor();
    await page.getByRole("row", { name: /gw-7 1 0 of 2 2 gateway down/ }).waitFor();
    await page.getByRole("row", { name: /pump-04 .* 3 of 4 1 bad quality, stuck/ }).waitFor();
    await page.getByText(evil).first().waitFor();
    await page.getByRole("combobox").selectOption("gateway_down");
    await page.getByRole("row", { name: /pump-04/ }).waitFor({ state: "detached" });
    assert.equal(await page.locator("img").count(), 0);
  });

  await check("a machine that nobody knows", async () => {
    await page.goto(`${base}/#/machine/nobody`);
    await page.getByText("Nothing has been heard of this machine.").waitFor();
  });

  await check("it comes back after the API was away", async () => {
    await page.goto(`${base}/#/`);
    await cell("pump-01").waitFor();
    restarting = true;
    await step("stop");
    await page.getByRole("alert").getByText("Connection lost.").waitFor();
    assert.ok(await cell("pump-01").isVisible(), "the last known state stays");
    await step("start");
    await page.locator(".link:not(.lost)").waitFor();
    restarting = false;
    await page.locator(".banner").waitFor({ state: "detached" });
    await step("alert after restart");
    await page.locator(".alertline", { hasText: "Flow is down" }).waitFor();
  });

  await check("alerts close", async () => {
    await page.goto(`${base}/#/alerts`);
    await page.locator(".alert", { hasText: "Bearing temperature 71 °C" }).waitFor();
    await step("close");
    await page.locator(".alert", { hasText: "Bearing temperature 71 °C" }).waitFor({ state: "detached" });
    await page.getByRole("button", { name: /^Closed/ }).click();
    await page.locator(".alert.done", { hasText: "Bearing temperature 71 °C" }).waitFor();
  });

  await check("themes, keyboard, phone", async () => {
    const theme = () => page.evaluate(() => document.documentElement.dataset.theme);
    const was = await theme();
    await page.getByRole("button", { name: /theme/ }).click();
    assert.notEqual(await theme(), was);
    await page.reload();
    assert.notEqual(await theme(), was, "the choice is kept");
    await page.goto(`${base}/#/`);
    await cell("pump-01").waitFor();
    await page.keyboard.press("Tab");
    assert.equal(await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle), "solid", "focus is visible");
    await page.keyboard.press("?");
    await page.getByRole("dialog", { name: "Keyboard" }).getByText("Only critical, or all").waitFor();
    await page.keyboard.press("Escape");
    await page.getByRole("dialog").waitFor({ state: "detached" });
    await page.keyboard.press("g");
    await page.keyboard.press("c");
    await page.getByRole("heading", { name: "Coverage" }).waitFor();
  });

  await check("what is sent is small, and nothing else holds up the first look", async () => {
    console.log(`first look: ${await light(page, base)} bytes`);
  });

  await check("installable, described, nothing deprecated, nothing that jumps", async () => {
    const jumps = await quality(context, base, [
      { hash: "#/", ready: ".cell" },
      { hash: "#/?view=list", ready: ".cell" },
      { hash: "#/coverage", ready: ".covered" },
      { hash: "#/machine/pump-03", ready: ".chart canvas" },
    ]);
    console.log(`things jump by at most ${Math.max(...Object.values(jumps)).toFixed(4)}: ${JSON.stringify(jumps)}`);
  });

  await check("no serious finding of axe, every view, both themes, on a phone too", async () => {
    await step("frames begin");
    await everyLook(page, base, [
      { hash: "#/", ready: ".cell" },
      { hash: "#/?view=list", ready: ".cell" },
      { hash: "#/?view=map", ready: ".fleetmap canvas" },
      { hash: "#/coverage", ready: ".covered" },
      { hash: "#/machine/pump-03", ready: ".chart canvas" },
      { hash: "#/machine/pump-04", ready: ".chart .unjudged" },
    ]);
    await step("frames end");
    await page.setViewportSize({ width: 1400, height: 900 });
  });

  await check("it opens without a connection and says how old what it shows is", async () => {
    await page.goto(`${base}/#/`);
    await cell("pump-01").waitFor();
    await page.evaluate(() => navigator.serviceWorker.ready);
    await page.evaluate(() => document.dispatchEvent(new Event("visibilitychange")));
    await page.waitForFunction(async () => (await caches.has("tocsin-state")) && (await (await caches.open("tocsin-state")).match("/kept-state")) !== undefined, undefined, { timeout: 60_000 });
    restarting = true;
    await step("stop");
    await page.goto("about:blank");
    await page.goto(`${base}/#/`);
    await cell("pump-01").waitFor();
    await page.getByRole("alert").getByText(/What you see is the state of .* ago|What you see is the state of .* now/).waitFor();
    await step("start");
    await page.locator(".link:not(.lost)").waitFor();
    await page.locator(".banner").waitFor({ state: "detached" });
  });

  await inbox(context, base, check, process.env.TOCSIN_INBOX_SHOTS);
  await scheduled(context, base, check, process.env.TOCSIN_INBOX_SHOTS);

  await check("who looks is asked, and sees their own machines", async () => {
    await step("stop");
    await step("start with people");
    await page.getByLabel("Your token").waitFor();
    assert.deepEqual(await accessible(page, "sign in"), []);
    await page.getByLabel("Your token").fill("not-a-token-of-anybody-000");
    await page.getByRole("button", { name: "Sign in" }).click();
    await page.getByText("Nobody has this token.").waitFor();
    await page.getByLabel("Your token").fill("the-token-of-ada-1234567890");
    await page.getByRole("button", { name: "Sign in" }).click();
    await cell("pump-01").waitFor();
    await page.locator(".found", { hasText: "11 machines" }).waitFor();
    assert.equal(await cell("replay-2014").count(), 0);
    await page.getByRole("button", { name: "You and this device" }).click();
    await page.getByRole("dialog").getByRole("heading", { name: "ada" }).waitFor();
    assert.deepEqual(await accessible(page, "you and this device"), []);
    await page.getByRole("button", { name: "Sign out" }).click();
    await page.getByLabel("Your token").waitFor();
    await page.waitForFunction(async () => !(await caches.has("tocsin-state"))); // nothing of what was seen stays
  });

  assert.deepEqual(wrong, []);
  console.log("PASS");
} catch (e) {
  console.log(`FAIL ${e.stack}`);
  for (const w of wrong) console.log(`saw ${w}`);
  if (process.env.TOCSIN_E2E_SHOT) await page.screenshot({ path: process.env.TOCSIN_E2E_SHOT });
  process.exitCode = 1;
} finally {
  await context.close();
  process.exit();
}
