// Pages in a real browser, by Web Push. Run by TestPushInABrowser, which serves the page and the router:
//
//   node push.mjs URL CHROMIUM PROFILE_DIR TOKEN
//
// No push service is asked: the page's subscription names one that is played here. It checks what one checks (RFC 8030, 8292), decrypts with the subscription's keys (RFC 8291), and what comes out is
// handed to the page's own service worker by the debugger. From there on everything is the browser's. Only two things are played besides: that somebody has clicked (scripts may not), and
// the windows that a click may bring to the front.
import assert from "node:assert/strict";
import { createDecipheriv, createECDH, hkdfSync, randomBytes } from "node:crypto";
import { createServer } from "node:http";
import { createInterface } from "node:readline";
import { chromium } from "playwright-core";

const [base, executablePath, profile, token] = process.argv.slice(2);
const patience = 90_000; // the machine may be loaded
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const step = async (name) => {
  console.log(`STEP ${name}`);
  assert.equal((await lines.next()).value, "done", `step ${name}`);
};

const device = createECDH("prime256v1");
device.generateKeys();
const auth = randomBytes(16);

/** What a record (RFC 8188, aes128gcm) says to the device (RFC 8291). */
function decrypt(record) {
  const salt = record.subarray(0, 16);
  const server = record.subarray(21, 21 + record[20]);
  const info = Buffer.concat([Buffer.from("WebPush: info\0"), device.getPublicKey(), server]);
  const secret = Buffer.from(hkdfSync("sha256", device.computeSecret(server), auth, info, 32));
  const derive = (what, n) => Buffer.from(hkdfSync("sha256", secret, salt, `Content-Encoding: ${what}\0`, n));
  const sealed = record.subarray(21 + record[20]);
  const d = createDecipheriv("aes-128-gcm", derive("aes128gcm", 16), derive("nonce", 12));
  d.setAuthTag(sealed.subarray(-16));
  const plain = Buffer.concat([d.update(sealed.subarray(0, -16)), d.final()]);
  return plain.subarray(0, plain.lastIndexOf(2));
}

const came = [];
let arrived = () => {};
const service = createServer((req, res) => {
  const parts = [];
  req.on("data", (p) => parts.push(p));
  req.on("end", () => {
    came.push({ path: req.url, headers: req.headers, body: Buffer.concat(parts) });
    res.writeHead(201).end();
    arrived();
  });
});
await new Promise((r) => service.listen(0, "127.0.0.1", r));
const endpoint = `http://127.0.0.1:${service.address().port}/device/1`;

const context = await chromium.launchPersistentContext(profile, {
  executablePath,
  headless: true,
  viewport: { width: 1200, height: 900 },
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});
const wrong = [];
try {
  await context.grantPermissions(["notifications"], { origin: base });
  await context.addInitScript(
    (keys) => {
      if (!("PushManager" in window)) return;
      const made = { endpoint: keys.endpoint, toJSON: () => ({ endpoint: keys.endpoint, expirationTime: null, keys: { p256dh: keys.p256dh, auth: keys.auth } }), unsubscribe: async () => true };
      PushManager.prototype.getSubscription = async () => (window.subscribedWith ? made : null);
      PushManager.prototype.subscribe = async (options) => {
        window.subscribedWith = options;
        return made;
      };
    },
    { endpoint, p256dh: device.getPublicKey("base64url"), auth: auth.toString("base64url") },
  );
  const page = await context.newPage();
  page.setDefaultTimeout(patience);
  page.on("pageerror", (e) => wrong.push(`exception: ${e.message}`));

  await page.goto(base);
  await page.getByLabel("Your token").fill(token);
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.evaluate(() => navigator.serviceWorker.ready.then(() => undefined));
  await page.getByRole("button", { name: "You and this device" }).click();
  await page.getByRole("button", { name: "Show pages for people" }).click();
  await page.getByText("Pages for people are shown on this device.").waitFor();
  const asked = await page.evaluate(() => ({ key: window.subscribedWith.applicationServerKey, visible: window.subscribedWith.userVisibleOnly }));
  assert.ok(asked.visible);
  await page.keyboard.press("Escape");
  console.log("ok somebody subscribes in the page");

  const first = new Promise((r) => (arrived = r));
  await step("fault of another's");
  await step("fault");
  await first;
  assert.equal(came.length, 1);
  const [{ path, headers, body }] = came;
  assert.equal(path, "/device/1");
  assert.equal(headers["content-encoding"], "aes128gcm");
  assert.equal(headers.urgency, "high");
  assert.ok(Number(headers.ttl) > 0);
  assert.match(headers.authorization, new RegExp(`^vapid t=[\\w-]+\\.[\\w-]+\\.[\\w-]+, ?k=${asked.key}=*$`), "signed with the key that the page subscribed with");
  const bytes = decrypt(body);
  console.log(`ok the router's message comes encrypted: ${body.length} bytes, ${bytes.length} of them to be read`);

  const cdp = await context.newCDPSession(page);
  const registered = new Promise((r) => cdp.on("ServiceWorker.workerRegistrationUpdated", (e) => e.registrations.filter((g) => !g.isDeleted && base.startsWith(new URL(g.scopeURL).origin)).slice(0, 1).forEach(r)));
  await cdp.send("ServiceWorker.enable");
  const { registrationId } = await registered;
  await cdp.send("ServiceWorker.deliverPushMessage", { origin: base, registrationId, data: bytes.toString("utf8") });
  await page.waitForFunction(async () => (await (await navigator.serviceWorker.ready).getNotifications()).length > 0, undefined, { timeout: patience });
  const seen = await page.evaluate(async () => {
    const all = await (await navigator.serviceWorker.ready).getNotifications();
    return all.map((n) => ({ title: n.title, body: n.body, tag: n.tag, actions: n.actions.map((a) => [a.action, a.title]), icon: n.icon, data: n.data, stays: n.requireInteraction }));
  });
  assert.equal(seen.length, 1);
  const [n] = seen;
  assert.match(n.title, /press-7/, "the machine");
  assert.match(n.body, /91/, "the reason");
  assert.deepEqual(n.actions, [["acknowledge", "Acknowledge"]]);
  assert.ok(n.stays, "a critical one stays until somebody looks");
  assert.ok(n.tag);
  assert.equal((await context.request.get(n.icon)).status(), 200);
  assert.equal(n.data.url, `${base}/#/machine/press-7`);
  console.log(`ok a notification: ${n.title} | ${n.body}`);

  // Anew, with the same tag, is the same notification.
  await cdp.send("ServiceWorker.deliverPushMessage", { origin: base, registrationId, data: bytes.toString("utf8") });
  const worker = context.serviceWorkers()[0] ?? (await context.waitForEvent("serviceworker"));
  await worker.evaluate(() => {
    self.brought = [];
    self.opened = [];
    WindowClient.prototype.focus = async function () {
      self.brought.push(this.url);
      return this;
    };
    Clients.prototype.openWindow = async (url) => void self.opened.push(url);
    // What the browser does when somebody clicks: the notification that is shown, and which button it was.
    self.click = async (action) => {
      const all = await self.registration.getNotifications();
      if (all.length !== 1) throw new Error(`${all.length} notifications`);
      self.dispatchEvent(new NotificationEvent("notificationclick", { notification: all[0], action }));
    };
  });
  const state = () => worker.evaluate(async () => ({ brought: self.brought, opened: self.opened, shown: (await self.registration.getNotifications()).length }));
  const until = async (what, ok) => {
    for (const end = Date.now() + patience; ; await new Promise((r) => setTimeout(r, 50))) {
      const s = await state();
      if (ok(s)) return s;
      assert.ok(Date.now() < end, `${what}: ${JSON.stringify(s)}`);
    }
  };

  await until("one is shown", (s) => s.shown === 1);
  await worker.evaluate(() => self.click(""));
  await page.waitForFunction(() => location.hash === "#/machine/press-7");
  await page.getByRole("heading", { name: "press-7" }).waitFor();
  const after = await until("closed, and the page in front", (s) => s.shown === 0 && s.brought.length === 1);
  assert.deepEqual(after.opened, [], "a page that is open is used");
  console.log("ok a click brings the page to the machine");

  await cdp.send("ServiceWorker.deliverPushMessage", { origin: base, registrationId, data: bytes.toString("utf8") });
  await until("shown again", (s) => s.shown === 1);
  await worker.evaluate(() => self.click("acknowledge"));
  const { opened } = await until("a window is opened", (s) => s.opened.length === 1);
  const other = await context.newPage();
  other.setDefaultTimeout(patience);
  await other.goto(opened[0]);
  await other.getByText("press-7").first().waitFor();
  await other.locator("form button[type=submit]").click();
  await page.goto(`${base}/#/alerts`);
  const row = page.locator(".incident", { hasText: "press-7" });
  await row.waitFor();
  await row.click();
  await page.locator(".incidentpage .chip.st-acknowledged").waitFor();
  assert.equal(await page.locator(".incident").count(), 1, "another's machine is not there");
  console.log("ok its button acknowledges the alert");

  // A message that is none of ours is shown as what it is.
  await cdp.send("ServiceWorker.deliverPushMessage", { origin: base, registrationId, data: "not JSON" });
  await until("something is said of what cannot be read", (s) => s.shown === 1);
  assert.equal(came.length, 1, "another's machine is not told of, and nothing twice");
  assert.deepEqual(wrong, []);
  console.log("PASS");
} catch (e) {
  console.log(`FAIL ${e.stack}`);
  for (const w of wrong) console.log(`saw ${w}`);
  process.exitCode = 1;
} finally {
  await context.close();
  service.close();
  process.exit();
}
