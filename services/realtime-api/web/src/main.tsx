import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import "uplot/dist/uPlot.min.css";
import "./styles/tokens.css";
import "./styles/frame.css";
import "./styles/fleet.css";
import "./styles/machine.css";
import "./styles/alerts.css";
import "./styles/coverage.css";
import "./styles/overlay.css";
import "./styles/inbox.css";
import "./styles/tuning.css";
import "./styles/models.css";
import "./styles/health.css";
import "./styles/checks.css";
import { registerWorker } from "./pwa";
import { Root } from "./root";
import { refreshSession } from "./session";
import { applyTheme } from "./theme";

applyTheme();
void refreshSession();
registerWorker();
const root = document.getElementById("root");
if (root) {
  createRoot(root).render(
    <StrictMode>
      <Root />
    </StrictMode>,
  );
}
