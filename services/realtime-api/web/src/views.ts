import { CoveragePage } from "./coverage";
import { Fleet } from "./fleet";
import { inboxViews } from "./inboxviews";
import { MachinePage } from "./machine";
import type { View } from "./view";

/** Every page, in the navigation's order. The first is shown for an address that nobody knows. */
export const views: View[] = [
  { path: "", title: () => "Fleet", nav: { label: "Fleet", key: "f" }, component: Fleet },
  ...inboxViews,
  { path: "coverage", title: () => "Coverage", nav: { label: "Coverage", key: "c" }, component: CoveragePage },
  { path: "machine", title: ([id]) => id ?? "Machine", component: MachinePage },
];
