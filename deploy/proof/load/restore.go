package load

import (
	"encoding/json"
	"time"
)

// RestoreConfig sizes the scenario of the cold restore.
type RestoreConfig struct {
	StateMB int64         `json:"state_mb"`   // newest values of processor.state.v1, at least
	Sensors int           `json:"sensors"`    // of each machine
	Windows int           `json:"windows"`    // that each machine has been judged for
	PerS    int           `json:"live_per_s"` // frames a second while it is killed
	Repeats int           `json:"repeats"`    // how often it is killed
	LiveFor time.Duration `json:"live_ns"`    // between two kills, so that there is something to replay
	Quiet   time.Duration `json:"quiet_ns"`   // without a snapshot: then all are saved
	Target  time.Duration `json:"target_ns"`
	Profile string        `json:"-"` // file for a CPU profile of the restore; empty: none
	// MemoryLimit is process.memory_limit, such as 1600MB; CapMB what may be resident at most. Empty and 0: none.
	MemoryLimit string        `json:"memory_limit"`
	CapMB       int64         `json:"cap_mb"`
	Patience    time.Duration `json:"-"`
}

// DefaultRestore is the size that is promised.
func DefaultRestore() RestoreConfig {
	return RestoreConfig{StateMB: 500, Sensors: 10, Windows: 72, PerS: 1000, Repeats: 3, LiveFor: 40 * time.Second, Quiet: 15 * time.Second, Target: 15 * time.Second, MemoryLimit: "1600MB", CapMB: 2000, Patience: 10 * time.Minute}
}

// RestoreNeeds are the components that the scenario runs on.
func RestoreNeeds() []string { return []string{"stream-processor"} }

// RestoreMeasured is what came out.
type RestoreMeasured struct {
	Machines     int           `json:"machines"`
	Frames       int           `json:"frames_that_made_the_state"`
	MakingS      float64       `json:"making_seconds"`
	PerMachine   int64         `json:"live_bytes_per_machine"`
	Kills        []RestoreKill `json:"kills"`
	WorstReadyS  float64       `json:"worst_ready_seconds"`
	WorstJudgedS float64       `json:"worst_first_fresh_frame_judged_seconds"`
	Sent         int           `json:"frames_in_kafka"`
	Judged       int           `json:"frames_judged"`
	Lost         int           `json:"frames_lost"`
	Doubled      int           `json:"frames_doubled"`

	next int // the machine whose turn it is, in live frames
}

// StateSize is what processor.state.v1 holds.
type StateSize struct {
	LiveMB   float64 `json:"live_mb"` // newest value of each key
	RawMB    float64 `json:"raw_mb"`  // all that a reader is given
	Keys     int     `json:"keys"`
	Records  int     `json:"records"`
	OnDiskMB float64 `json:"on_disk_mb"` // of the broker's segments
}

// RestoreKill is one kill -9 and what followed. Times are seconds since the new process was started.
type RestoreKill struct {
	State      StateSize            `json:"state"`
	Ready      float64              `json:"ready_seconds"`
	Judged     float64              `json:"first_fresh_frame_judged_seconds"` // a frame that came after the kill, in a committed transaction
	JudgedAll  float64              `json:"every_partition_judged_seconds"`
	Partitions int                  `json:"partitions"`
	Said       []RestoreStep        `json:"said"` // what /health/ready answered, each time that it changed
	Steps      []RestoreStepSeconds `json:"steps"`
	Logged     []json.RawMessage    `json:"log_lines"`
	Metrics    map[string]float64   `json:"metrics"`
	PeakMB     int64                `json:"peak_rss_mb"`
	CPUSeconds float64              `json:"processor_cpu_seconds"` // until it was ready
	CPU        map[string]float64   `json:"cpu_percent_of_machine"`
}

// RestoreStepSeconds is how long a step took.
type RestoreStepSeconds struct {
	Step  string  `json:"step"`
	Worst float64 `json:"slowest_partition_seconds"`
	Sum   float64 `json:"all_partitions_seconds,omitempty"` // added up; several are restored side by side
}

// RestoreStep is how far the new process said it was.
type RestoreStep struct {
	At   float64 `json:"at_seconds"`
	What string  `json:"what"`
}
