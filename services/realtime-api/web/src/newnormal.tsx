import { useState } from "react";
import { ReasonDialog, useDetection } from "./applied";
import { newNormal } from "./detectionapi";
import { Dialog } from "./dialog";
import type { Incident } from "./inboxapi";
import { say } from "./toast";
import { YamlBlock } from "./yamlblock";

/** What a machine does since an alert began is how it is meant to be: said to the fleet by who may, else as lines for its configuration. */
export function NewNormalDialog({ alert, onClose }: { alert: Incident; onClose(): void }) {
  const { value: d, error, at } = useDetection();
  const what = (
    <p>
      What {alert.equipment_id} does since this alert began is how it is meant to be: the alert ends, and the machine is learned anew from there on. While it is learned its behaviour pages nobody; limits and silence do.
    </p>
  );
  if (!d && !error && at === 0) {
    return (
      <Dialog title="This is the new normal" onClose={onClose}>
        {what}
      </Dialog>
    );
  }
  if (!d || d.rights === "read") return <Lines alert={alert} what={what} onClose={onClose} />;
  return (
    <ReasonDialog
      title="This is the new normal"
      verb="Say so"
      name={d.name}
      onDo={(reason) => newNormal(alert.equipment_id, alert.started_at, reason)}
      onDone={(n) => {
        say(`Revision ${n.id}: the alert ends when ${alert.equipment_id} next reports.`);
        onClose();
      }}
      onClose={onClose}
    >
      {what}
      <p className="hint">This cannot be taken back: what was usual before is forgotten.</p>
    </ReasonDialog>
  );
}

function Lines({ alert, what, onClose }: { alert: Incident; what: React.ReactNode; onClose(): void }) {
  const [why, setWhy] = useState("");
  const q = (s: string) => JSON.stringify(s);
  const yaml = `stream_processor:
  detection_revision: N            # one more than now
  detection:
    corrections:                   # beside those that are there
      - machine: ${q(alert.equipment_id)}
        kind: new_normal
        from: ${q(alert.started_at)}
        why: ${q(why)}
`;
  return (
    <Dialog title="This is the new normal" onClose={onClose}>
      <div className="actform">
        {what}
        <label>
          <span>Why, for those who read it later</span>
          <textarea rows={2} maxLength={1000} value={why} onChange={(e) => setWhy(e.target.value)} />
        </label>
        <p className="hint">You may not say so from here. Add this to the fleet's configuration and reload the stream-processors (SIGHUP), or ask somebody who may.</p>
        <YamlBlock text={yaml} />
      </div>
    </Dialog>
  );
}
