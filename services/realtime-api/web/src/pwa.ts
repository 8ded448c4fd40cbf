import { useSyncExternalStore } from "react";

interface InstallPrompt extends Event {
  prompt(): Promise<unknown>;
}

let prompt: InstallPrompt | undefined;
const listeners = new Set<() => void>();

window.addEventListener("beforeinstallprompt", (e) => {
  e.preventDefault();
  prompt = e as InstallPrompt;
  for (const l of listeners) l();
});

export const installable = () => prompt !== undefined;

export const useInstallable = () =>
  useSyncExternalStore(
    (l) => {
      listeners.add(l);
      return () => listeners.delete(l);
    },
    () => prompt,
  );

export async function install() {
  await prompt?.prompt();
  prompt = undefined;
  for (const l of listeners) l();
}

/** The worker keeps the page's own files, so that it opens without a connection. Only secure contexts have one. */
export function registerWorker() {
  if (!("serviceWorker" in navigator) || !window.isSecureContext || import.meta.env.DEV) return;
  navigator.serviceWorker.register("./sw.js", { scope: "./", updateViaCache: "none" }).catch((e: unknown) => console.warn("service worker:", e));
}
