import { AlertsPage, openAlerts } from "./alerts";
import type { View } from "./view";

/** What people work with: alerts, tuning, models, health. */
export const inboxViews: View[] = [
  { path: "alerts", title: () => "Alerts", nav: { label: "Alerts", key: "a", badge: (d) => openAlerts(d).length }, component: AlertsPage },
];
