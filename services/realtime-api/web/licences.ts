import { existsSync, readFileSync, readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import type { Plugin } from "vite";

/** The package folder that a module belongs to, or undefined for our own code. */
function packageDir(id: string): string | undefined {
  const path = id.replace(/^\0/, "").split("?")[0] ?? "";
  const at = path.lastIndexOf("/node_modules/");
  if (at < 0) return undefined;
  for (let dir = dirname(path); dir.length > at; dir = dirname(dir)) {
    const manifest = join(dir, "package.json");
    if (existsSync(manifest) && "version" in JSON.parse(readFileSync(manifest, "utf8"))) return dir;
  }
  return undefined;
}

/** Writes the licence of every package that ended up in the bundle beside it. */
export function licences(): Plugin {
  return {
    name: "third-party-licences",
    generateBundle(_, bundle) {
      const dirs = new Set<string>();
      for (const item of Object.values(bundle)) {
        if (item.type !== "chunk") continue;
        for (const id of item.moduleIds) {
          const dir = packageDir(id);
          if (dir) dirs.add(dir);
        }
      }
      // Styles leave no module behind in the bundle.
      const notices = [...dirs].map((dir) => {
        const { name, version, license } = JSON.parse(readFileSync(join(dir, "package.json"), "utf8"));
        const file = readdirSync(dir).find((f) => /^licen[cs]e/i.test(f));
        if (!file) this.error(`${name} has no licence file`);
        const text = readFileSync(join(dir, file as string), "utf8").replace(/\r\n/g, "\n").trim();
        return `${name} ${version} (${license})\n\n${text}\n`;
      });
      notices.sort();
      this.emitFile({
        type: "asset",
        fileName: "third-party-licences.txt",
        source: `This page contains the following software.\n\n${notices.join(`\n${"-".repeat(80)}\n\n`)}`,
      });
    },
  };
}
