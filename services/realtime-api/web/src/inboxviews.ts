import { lazy } from "react";
import { openAlerts } from "./alerts";
import type { View } from "./view";

/** What people work with: alerts, tuning, models, health. Each is loaded when it is first opened. */
export const inboxViews: View[] = [
  {
    path: "alerts",
    title: ([id]) => id ?? "Alerts",
    nav: { label: "Alerts", key: "a", badge: (d) => openAlerts(d).length },
    component: lazy(() => import("./inbox").then((m) => ({ default: m.AlertsView }))),
  },
  { path: "tuning", title: () => "Tuning", nav: { label: "Tuning", key: "u" }, component: lazy(() => import("./tuning").then((m) => ({ default: m.TuningPage }))) },
  { path: "models", title: () => "Models", nav: { label: "Models", key: "m" }, component: lazy(() => import("./models").then((m) => ({ default: m.ModelsPage }))) },
  { path: "checks", title: () => "Checks", nav: { label: "Checks", key: "s" }, component: lazy(() => import("./checks").then((m) => ({ default: m.ChecksPage }))) },
  { path: "health", title: () => "Health", nav: { label: "Health", key: "h" }, component: lazy(() => import("./health").then((m) => ({ default: m.HealthPage }))) },
];
