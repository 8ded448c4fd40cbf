import { createHash } from "node:crypto";
import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Plugin } from "vite";

/** What the service worker keeps need not hold: itself, and what no view loads. */
const left = new Set(["sw.js", "third-party-licences.txt", "index.html"]);

/** Puts the list of built files, and a digest of them all, into sw.js: it changes whenever a file does. */
export function worker(): Plugin {
  return {
    name: "service-worker",
    apply: "build",
    writeBundle(options) {
      const dir = options.dir as string;
      const names = readdirSync(dir, { recursive: true, withFileTypes: true })
        .filter((e) => e.isFile())
        .map((e) => join(e.parentPath, e.name).slice(dir.length + 1))
        .sort();
      const digest = createHash("sha256");
      for (const n of names) if (n !== "sw.js") digest.update(n).update(readFileSync(join(dir, n)));
      const files = ["./", ...names.filter((n) => !left.has(n)).map((n) => `./${n}`)];
      const path = join(dir, "sw.js");
      const source = readFileSync(path, "utf8").replace('["%FILES%"]', JSON.stringify(files)).replace("%DIGEST%", digest.digest("hex").slice(0, 16));
      writeFileSync(path, source);
    },
  };
}
