import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";
import { licences } from "./licences.ts";
import { worker } from "./worker.ts";

// The output is embedded into the Go binary and committed. Names carry no hashes and nothing depends on where or
// when it was built, so that a build can be compared with what is committed (npm run check).
export default defineConfig({
  base: "./",
  plugins: [react(), licences(), worker()],
  build: {
    outDir: process.env["TOCSIN_PAGE_OUT"] ?? "../internal/page/dist",
    emptyOutDir: true,
    target: "es2022",
    modulePreload: false,
    assetsInlineLimit: 0,
    reportCompressedSize: false,
    rollupOptions: {
      output: {
        entryFileNames: "assets/app.js",
        chunkFileNames: "assets/[name].js",
        assetFileNames: "assets/app[extname]",
      },
    },
  },
  server: {
    proxy: { "/v1": { target: "http://127.0.0.1:8080", ws: true } },
  },
});
