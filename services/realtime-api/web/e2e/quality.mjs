// What an audit of the page looks at beside axe, as far as it does not depend on how fast the machine is: installable, described, nothing deprecated, nothing that jumps, legible, headers.
import assert from "node:assert/strict";

/** The manifest as the browser reads it, and icons that are what it says of them. */
async function installable(page, cdp) {
  const { errors, data } = await cdp.send("Page.getAppManifest");
  assert.deepEqual(errors, [], "the manifest");
  const m = JSON.parse(data);
  for (const k of ["id", "name", "short_name", "description", "start_url", "scope", "theme_color", "background_color"]) assert.ok(m[k], `the manifest lacks ${k}`);
  assert.ok(m.short_name.length <= 12, "a short name fits below an icon");
  assert.equal(m.display, "standalone");
  const { installabilityErrors } = await cdp.send("Page.getInstallabilityErrors");
  assert.deepEqual(installabilityErrors.filter((e) => e.errorId !== "in-incognito"), [], "installable");
  const icons = await page.evaluate(async (list) => {
    const out = [];
    for (const icon of list.filter((i) => i.type === "image/png")) {
      const r = await fetch(icon.src);
      const image = await createImageBitmap(await r.blob());
      const canvas = new OffscreenCanvas(image.width, image.height);
      const c = canvas.getContext("2d");
      c.drawImage(image, 0, 0);
      const { data } = c.getImageData(0, 0, image.width, image.height);
      let clear = 0;
      for (let i = 3; i < data.length; i += 4) if (data[i] < 255) clear++;
      out.push({ purpose: icon.purpose ?? "any", said: icon.sizes, is: `${image.width}x${image.height}`, type: r.headers.get("content-type"), clear });
    }
    return out;
  }, m.icons);
  for (const i of icons) assert.deepEqual([i.is, i.type], [i.said, "image/png"]);
  for (const size of ["192x192", "512x512"]) assert.ok(icons.some((i) => i.is === size && i.purpose === "any"), `no icon of ${size}`);
  const masked = icons.filter((i) => i.purpose === "maskable");
  assert.ok(masked.length > 0 && masked.every((i) => i.clear === 0), "what is cut to a shape is whole to its edges");
  for (const s of m.shortcuts) assert.ok(new URL(s.url, page.url()).href.startsWith(new URL(m.scope, page.url()).href), s.url);
}

/** What a browser, a search and a screen reader are told of the page. */
async function described(page) {
  const d = await page.evaluate(() => ({
    doctype: document.doctype?.name, quirks: document.compatMode, lang: document.documentElement.lang, charset: document.characterSet, title: document.title,
    description: document.querySelector("meta[name=description]")?.content ?? "", viewport: document.querySelector("meta[name=viewport]")?.content ?? "",
    themes: document.querySelectorAll("meta[name=theme-color][media]").length, touch: document.querySelector("link[rel=apple-touch-icon]")?.href ?? "", noscript: document.querySelector("noscript")?.textContent ?? "",
    mains: document.querySelectorAll("main").length, h1: document.querySelectorAll("h1").length, ids: [...document.querySelectorAll("[id]")].map((e) => e.id),
    dead: [...document.querySelectorAll("a:not([href]), a[href='#'], a[href^='javascript:']")].length,
    open: [...document.querySelectorAll("a[target=_blank]:not([rel~=noopener])")].length,
    unlabelled: [...document.querySelectorAll("img:not([alt])")].length,
  }));
  assert.deepEqual([d.doctype, d.quirks, d.charset], ["html", "CSS1Compat", "UTF-8"]);
  assert.ok(d.lang && d.title && d.noscript);
  assert.ok(d.description.length >= 20 && d.description.length <= 160, d.description);
  assert.match(d.viewport, /width=device-width/);
  assert.doesNotMatch(d.viewport, /user-scalable=(no|0)|maximum-scale=[0-4](\.|,|$)/, "it can be enlarged");
  assert.equal(d.themes, 2, "a colour for the dark and for the light");
  assert.equal((await page.request.get(d.touch)).status(), 200);
  assert.deepEqual([d.mains, d.dead, d.open, d.unlabelled], [1, 0, 0, 0]);
  assert.equal(new Set(d.ids).size, d.ids.length, "each id once");
}

/** How the files are sent. */
async function sent(page, base) {
  const r = await page.request.get(`${base}/`);
  const h = r.headers();
  const policy = h["content-security-policy"] ?? "";
  assert.doesNotMatch(policy, /unsafe-inline|unsafe-eval|\*/, policy);
  for (const want of ["default-src", "frame-ancestors", "base-uri", "form-action"]) assert.ok(policy.includes(want), `the policy lacks ${want}: ${policy}`);
  assert.equal(h["x-content-type-options"], "nosniff");
  assert.ok(h["referrer-policy"]);
  for (const path of ["/", "/assets/app.js", "/assets/app.css", "/manifest.webmanifest", "/sw.js", "/icon-192.png"]) {
    const first = await page.request.get(base + path);
    const { etag } = first.headers();
    assert.ok(first.status() === 200 && etag, path);
    assert.equal((await page.request.get(base + path, { headers: { "If-None-Match": etag } })).status(), 304, `${path} is not sent twice`);
  }
}

/** Share of the characters in sight that are at least 12 px high. */
const legible = (page) =>
  page.evaluate(() => {
    const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    let large = 0;
    let all = 0;
    for (let n = walk.nextNode(); n; n = walk.nextNode()) {
      const e = n.parentElement;
      const length = n.textContent.trim().length;
      if (!length || !e || e.getClientRects().length === 0) continue;
      all += length;
      if (parseFloat(getComputedStyle(e).fontSize) >= 12) large += length;
    }
    return all ? large / all : 1;
  });

/** views: addresses and what shows that they are there. Gives how far things jumped on each, at worst. */
export async function quality(context, base, views) {
  const page = await context.newPage();
  page.setDefaultTimeout(90_000);
  const cdp = await context.newCDPSession(page);
  const issues = [];
  // A field without a name is one that the browser cannot fill in by itself: there is nothing here that it should.
  cdp.on("Audits.issueAdded", ({ issue }) => issue.details.genericIssueDetails?.errorType === "FormEmptyIdAndNameAttributesForInputError" || issues.push(`${issue.code} ${JSON.stringify(issue.details).slice(0, 300)}`));
  await cdp.send("Audits.enable");
  // What moved though nobody had touched anything, from the first paint on.
  await page.addInitScript(() => {
    window.jumped = 0;
    window.jumpers = [];
    new PerformanceObserver((l) => {
      for (const e of l.getEntries().filter((x) => !x.hadRecentInput)) {
        window.jumped += e.value;
        window.jumpers.push(...e.sources.map((s) => `${e.value.toFixed(4)} ${s.node?.nodeName.toLowerCase()}.${s.node?.className} from ${s.previousRect.y},${s.previousRect.height} to ${s.currentRect.y},${s.currentRect.height}`));
      }
    }).observe({ type: "layout-shift", buffered: true });
  });
  const worst = {};
  if (process.env.TOCSIN_SLOWED) await cdp.send("Emulation.setCPUThrottlingRate", { rate: Number(process.env.TOCSIN_SLOWED) });
  for (const [width, height] of [[1400, 900], [375, 800]]) {
    await page.setViewportSize({ width, height });
    for (const { hash, ready } of views) {
      const what = `${hash}, ${width} px`;
      await page.goto("about:blank");
      await page.goto(`${base}/${hash}`);
      await page.locator(ready).first().waitFor();
      await page.evaluate(() => new Promise((r) => requestAnimationFrame(() => requestAnimationFrame(r))));
      const { by, who } = await page.evaluate(() => ({ by: window.jumped, who: window.jumpers }));
      assert.ok(by < 0.1, `${what} jumps by ${by}:\n${who.join("\n")}`);
      worst[what] = by;
      const share = await legible(page);
      assert.ok(share >= 0.9, `${what}: ${Math.round(share * 100)} % of the text is 12 px or larger`);
      await described(page);
    }
  }
  await installable(page, cdp);
  await sent(page, base);
  assert.deepEqual(issues, [], "what the browser itself has to say against the page");
  await cdp.detach();
  await page.close();
  return worst;
}
