// Tocsin's service worker: the page's own files without a connection, and pages as notifications. The build puts the list of files and their digest in.
const files = ["./","./assets/app.css","./assets/app.js","./assets/applied.js","./assets/checks.js","./assets/health.js","./assets/inbox.js","./assets/inboxapi.js","./assets/load.js","./assets/models.js","./assets/tuning.js","./assets/waiting.js","./badge-96.png","./icon-192.png","./icon-512.png","./icon-maskable-512.png","./icon.svg","./manifest.webmanifest"];
const shell = "tocsin-shell-bc4cc2b9ddd2e4d1";
const patienceMs = 3000;

self.addEventListener("install", (e) => {
  e.waitUntil(
    caches
      .open(shell)
      .then((c) => c.addAll(files.map((f) => new Request(f, { cache: "no-cache" }))))
      .then(() => self.skipWaiting()),
  );
});

self.addEventListener("activate", (e) => {
  e.waitUntil(
    caches
      .keys()
      .then((names) => Promise.all(names.filter((n) => n.startsWith("tocsin-shell-") && n !== shell).map((n) => caches.delete(n))))
      .then(() => self.clients.claim()),
  );
});

// What the server has goes first; what is kept is for when it does not answer.
self.addEventListener("fetch", (e) => {
  const url = new URL(e.request.url);
  const scope = new URL(self.registration.scope);
  if (e.request.method !== "GET" || url.origin !== scope.origin || !url.pathname.startsWith(scope.pathname)) return;
  const name = url.pathname.slice(scope.pathname.length);
  const file = e.request.mode === "navigate" && (name === "" || name === "index.html") ? "./" : `./${name}`;
  if (!files.includes(file)) return;
  e.respondWith(
    fetch(e.request, { signal: AbortSignal.timeout(patienceMs) })
      .then((r) => (r.ok || r.status === 304 ? r : Promise.reject(new Error(String(r.status)))))
      .catch(async (err) => {
        const kept = await caches.match(file, { cacheName: shell });
        if (kept) return kept;
        throw err;
      }),
  );
});

self.addEventListener("push", (e) => {
  let n = {};
  try {
    n = e.data.json();
  } catch {
    n = { title: "Tocsin", body: "A page that this device cannot read. Open Tocsin." };
  }
  e.waitUntil(
    self.registration.showNotification(String(n.title ?? "Tocsin"), {
      body: String(n.body ?? ""),
      tag: n.tag,
      renotify: Boolean(n.tag),
      timestamp: n.at_ms,
      icon: "./icon-192.png",
      badge: "./badge-96.png",
      requireInteraction: n.severity === "critical" && n.status === "firing",
      actions: (n.actions ?? []).slice(0, 2).map((a) => ({ action: String(a.action), title: String(a.title) })),
      data: { url: n.url, actions: n.actions ?? [] },
    }),
  );
});

self.addEventListener("notificationclick", (e) => {
  e.notification.close();
  const { url, actions } = e.notification.data ?? {};
  const asked = actions?.find((a) => a.action === e.action)?.url ?? url ?? "./#/alerts";
  e.waitUntil(show(asked));
});

async function show(asked) {
  const target = new URL(asked, self.registration.scope);
  if (target.protocol !== "https:" && target.protocol !== "http:") return;
  if (target.origin === self.location.origin) {
    for (const w of await self.clients.matchAll({ type: "window" })) {
      if ("navigate" in w) {
        await w.focus();
        await w.navigate(target.href);
        return;
      }
    }
  }
  await self.clients.openWindow(target.href);
}
