// The types that the page works with are what openapi.yaml says is sent: the compiler compares them. Nothing of this is in the page.
import type * as api from "./api.gen";
import type { Alert, Anomaly, Sample, Summary, Window } from "./model";
import type { Session } from "./session";

type Sent<Contract extends Ours, Ours> = [Contract, Ours];

export type Checked = [
  Sent<api.AlertEvent, Alert>,
  Sent<api.Anomaly, Anomaly>,
  Sent<api.Window, Window>,
  Sent<api.LiveSample, Sample>,
  Sent<api.Summary, Omit<Summary, "coalesced_ticks">>,
  Sent<api.Session, Session>,
];
