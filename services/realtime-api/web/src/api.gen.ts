// Made of internal/rest/openapi.yaml; not to be edited. `go test ./internal/rest -run TestTypedClient -rewrite` makes it anew.

export type AlertEvent = {
  actor: string;
  alert_id: string;
  annotations: Record<string, string>;
  anomaly_at_ms: number;
  at_ms: number;
  cause: string;
  comment: string;
  confidence: number | null;
  contributions: Contribution[];
  ended_us: number;
  equipment_id: string;
  event_id: string;
  labels: Record<string, string>;
  machines: number;
  observed_us: number;
  origin: "ORIGIN_UNSPECIFIED" | "ORIGIN_MACHINE" | "ORIGIN_SENSOR" | "ORIGIN_GATEWAY" | "ORIGIN_CLOCK" | "ORIGIN_MODEL";
  received_at_ms: number;
  score: number | null;
  severity: Severity;
  started_us: number;
  summary: string;
  transition: "ALERT_TRANSITION_UNSPECIFIED" | "ALERT_TRANSITION_OPENED" | "ALERT_TRANSITION_ESCALATED" | "ALERT_TRANSITION_CLOSED" | "ALERT_TRANSITION_ACKNOWLEDGED" | "ALERT_TRANSITION_SHELVED" | "ALERT_TRANSITION_UNSHELVED" | "ALERT_TRANSITION_OUT_OF_SERVICE" | "ALERT_TRANSITION_IN_SERVICE" | "ALERT_TRANSITION_VERDICT";
  until_ms: number;
  verdict: "ALERT_VERDICT_UNSPECIFIED" | "ALERT_VERDICT_REAL" | "ALERT_VERDICT_FALSE" | "ALERT_VERDICT_KNOWN" | "ALERT_VERDICT_SENSOR";
};

export type Anomaly = {
  anomaly_id: string;
  cause: string;
  cohort: number;
  confidence: number | null;
  contributions: Contribution[];
  detectors: string[];
  earlier?: {
    ended_us?: number;
    episode_id?: string;
    similarity?: number | null;
    started_us?: number;
  };
  episode_id: string;
  equipment_id: string;
  gateway_id: string;
  judged_at_ms: number;
  machines: number;
  observed_us: number;
  origin: "ORIGIN_UNSPECIFIED" | "ORIGIN_MACHINE" | "ORIGIN_SENSOR" | "ORIGIN_GATEWAY" | "ORIGIN_CLOCK" | "ORIGIN_MODEL";
  phase: "PHASE_UNSPECIFIED" | "PHASE_STARTED" | "PHASE_ONGOING" | "PHASE_ENDED";
  received_at_ms: number;
  regime: string;
  score: number | null;
  severity: Severity;
  started_us: number;
  summary: string;
};

export type Contribution = {
  detector: string;
  expected_high: number | null;
  expected_low: number | null;
  observed: number | null;
  sensor: string;
  share: number | null;
  statistic: string;
};

export type CoverageState = "COVERAGE_STATE_UNSPECIFIED" | "COVERAGE_STATE_JUDGED" | "COVERAGE_STATE_LEARNING" | "COVERAGE_STATE_SILENT" | "COVERAGE_STATE_LATE" | "COVERAGE_STATE_BAD_QUALITY" | "COVERAGE_STATE_SHELVED" | "COVERAGE_STATE_GATEWAY_DOWN" | "COVERAGE_STATE_CLOCK_WRONG" | "COVERAGE_STATE_DEAD_LETTERED" | "COVERAGE_STATE_MODEL_FAILED" | "COVERAGE_STATE_REFUSED";

export type CoverageTotal = {
  machines: number;
  reason: string;
  sensors: number;
  state: CoverageState;
};

export type GatewayCoverage = {
  gateway_id: string;
  judged: number;
  machines: number;
  sensors: number;
  states: CoverageTotal[];
};

export type Health = "HEALTH_UNSPECIFIED" | "HEALTH_HEALTHY" | "HEALTH_DEGRADED" | "HEALTH_FAILED";

export type LiveSample = {
  quality: "QUALITY_UNSPECIFIED" | "QUALITY_GOOD" | "QUALITY_UNCERTAIN" | "QUALITY_BAD" | "QUALITY_MISSING";
  sensor: string;
  time_us: number;
  value: number | null;
};

export type Machine = {
  equipment_id: string;
  gateway_id: string;
  group?: string;
  last_window_us: number;
  line?: string;
  open_alerts: number;
  score: number | null;
  sensors?: string[];
  severity: Severity;
  site?: string;
  state: "MACHINE_STATE_LEARNING" | "MACHINE_STATE_OK" | "MACHINE_STATE_WARNING" | "MACHINE_STATE_CRITICAL" | "MACHINE_STATE_SILENT";
};

export type MachineCoverage = {
  at_ms: number;
  behind_us: number;
  detectors: {
    detector?: string;
    health?: Health;
    reason?: string;
    since_us?: number;
    windows_left?: number;
  }[];
  equipment_id: string;
  gateway_id: string;
  groups: {
    count?: number;
    judged_until_us?: number[];
    reason?: string;
    sensors?: string[];
    state?: CoverageState;
  }[];
  health: Health;
  learning_left_us: number;
  newest_us: number;
  refused_frames: number;
};

export type MachineCoverageRow = {
  at_ms: number;
  equipment_id: string;
  gateway_id: string;
  health: Health;
  judged: number;
  learning_left_us: number;
  sensors: number;
  states: CoverageTotal[];
};

export type PipelineHealth = {
  at_ms: number;
  backlog_at_ms: number;
  caught_up: boolean;
  dead_letters: {
    records: number;
    topic: string;
  }[];
  hops: ({
    count: number;
    hop: "gathered" | "judged" | "reported" | "routed" | "delivered" | "shown";
    max_ms: number;
    p50_ms: number;
    p90_ms: number;
    p99_ms: number;
    target_ms: number;
  })[];
  lags: {
    group: string;
    members: number;
    records: number;
    topic: string;
  }[];
  log_time_ms: number;
  rates: {
    anomaly_reports_per_second: number;
    windows_per_second: number;
  };
  services: {
    ready: boolean;
    reason: string;
    service: string;
    took_ms: number;
  }[];
};

export type Place = {
  group: string;
  line: string;
  machines: number;
  open_alerts: number;
  site: string;
};

export type Problem = {
  detail: string;
  field?: string;
  parameter?: string;
  service?: string;
  status: number;
  title: string;
  type: string;
};

export type SensorWindow = {
  count: number;
  expected_high: number | null;
  expected_low: number | null;
  last: number | null;
  max: number | null;
  mean: number | null;
  min: number | null;
  score: number | null;
  sensor: string;
  stddev: number | null;
  unusable: number;
};

export type Session = {
  all_machines: boolean;
  anonymous: boolean;
  authenticated: boolean;
  build: string;
  equipment: string[];
  expires_at_ms: number;
  features: Record<string, boolean>;
  instance: string;
  login: boolean;
  name: string;
  version: string;
};

export type Severity = "SEVERITY_UNSPECIFIED" | "SEVERITY_INFO" | "SEVERITY_WARNING" | "SEVERITY_CRITICAL";

export type Summary = {
  anomaly_reports_per_second: number;
  caught_up: boolean;
  log_time_ms: number;
  machines: Record<string, number>;
  open_alerts: number;
  pipeline_delay_ms: number | null;
  server_time_ms: number;
  windows_per_second: number;
};

export type Window = {
  closed_at_ms: number;
  end_us: number;
  equipment_id: string;
  learning: boolean;
  regime: string;
  revision: number;
  score: number | null;
  sensors: SensorWindow[];
  start_us: number;
};

/** What is answered, by operation. What other services answer is said in their own contracts. */
export interface Answers {
  "GET /v1/alerts": {
    alerts: AlertEvent[];
    next_page_token: string;
    total: number;
  };
  "GET /v1/anomalies": {
    anomalies: Anomaly[];
  };
  "GET /v1/coverage": {
    gateways: GatewayCoverage[];
    machines: MachineCoverageRow[];
    machines_degraded: number;
    machines_failed: number;
    next_page_token: string;
    total: number;
    totals: CoverageTotal[];
  };
  "GET /v1/equipment/{id}/coverage": {
    coverage: MachineCoverage;
  };
  "GET /v1/health/pipeline": PipelineHealth;
  "GET /v1/machines": {
    machines: Machine[];
    next_page_token: string;
    total: number;
  };
  "GET /v1/machines/{id}": {
    machine: Machine;
  };
  "GET /v1/machines/{id}/windows": {
    windows: Window[];
  };
  "GET /v1/places": {
    places: Place[];
  };
  "GET /v1/session": Session;
  "POST /v1/session": Session;
  "GET /v1/summary": Summary;
}
