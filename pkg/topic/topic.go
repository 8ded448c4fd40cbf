// Package topic names Tocsin's Kafka topics, says how each is to be created, and what record headers mean.
//
// All hot-path topics have the same number of partitions and records of one machine keep their partition from
// topic to topic, so one machine's whole life is ordered and one owner can follow it.
package topic

import (
	"slices"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Names of the topics. Changing one is a breaking change.
const (
	Frames    = "telemetry.frames.v1"
	Readings  = "telemetry.readings.v1"
	Windows   = "telemetry.windows.v1"
	Anomalies = "detect.anomalies.v1"
	// Coverage holds, of each machine, what is judged of it and what not.
	Coverage = "detect.coverage.v1"
	Alerts   = "alert.events.v1"
	// Findings holds what was concluded from more than the moment: by scheduled checks, and by whoever looks for causes.
	Findings = "insight.findings.v1"
	State    = "processor.state.v1"
	Registry = "equipment.registry.v1"
	// Config holds detection configurations by revision.
	Config = "detect.config.v1"
	// Cases holds what was known of a machine before each of its episodes.
	Cases = "detect.cases.v1"
	// Undelivered holds what receivers were to be told and would not take, or could not.
	Undelivered = "alert.notifications.v1.dlq"
	// Comparisons holds how shadow models judged beside champions, and what models were given.
	Comparisons = "model.comparisons.v1"
	// Told holds which receiver was told of which alerts, by each alert-router.
	Told = "alert.told.v1"
)

// DLQ is the dead-letter topic of t.
func DLQ(t string) string { return t + ".dlq" }

// Headers of every record. The ce_ ones are CloudEvents' type and id; traceparent is W3C Trace Context.
const (
	HeaderTraceParent = "traceparent"
	HeaderType        = "ce_type"
	HeaderID          = "ce_id"
)

// HeaderReceived, on Frames, is when the gateway took the frame, by its own clock: ms since 1970 UTC, in decimal.
const HeaderReceived = "tocsin_received_ms"

// HeaderScoreTook, on Comparisons, is how long models took to score one window: "champion=812ns shadow=790ns". It was measured, so it is no part of the value.
const HeaderScoreTook = "score_took"

// Values of HeaderType: the full protobuf name of the record's value.
const (
	TypeFrame    = "tocsin.event.v1.SensorFrame"
	TypeSchema   = "tocsin.event.v1.FrameSchema"
	TypeReading  = "tocsin.event.v1.Reading"
	TypeWindow   = "tocsin.event.v1.Window"
	TypeTick     = "tocsin.event.v1.Tick"
	TypeAnomaly  = "tocsin.event.v1.Anomaly"
	TypeCoverage = "tocsin.event.v1.MachineCoverage"
	TypeAlert    = "tocsin.event.v1.AlertEvent"
	TypeFinding  = "tocsin.event.v1.Finding"
	TypeSnapshot = "tocsin.event.v1.MachineSnapshot"
	TypeCase     = "tocsin.event.v1.Case"
	TypeMeta     = "tocsin.event.v1.PartitionMeta"
	// TypeDetection marks a detection configuration, on Config and in Frames.
	TypeDetection = "tocsin.event.v1.DetectionConfig"
	// TypeCohort marks, in Frames, where the cohorts of the partition are: see CohortRound.
	TypeCohort          = "tocsin.event.v1.CohortRound"
	TypePartitionConfig = "tocsin.event.v1.PartitionConfig"
	TypeComparison      = "tocsin.event.v1.ModelComparison"
	TypeInputs          = "tocsin.event.v1.ModelInputs"
)

// Type is what the record says its value is, or "" when it does not say.
func Type(r *kgo.Record) string { return Header(r, HeaderType) }

// Header is the value of the first header named key, or "".
func Header(r *kgo.Record, key string) string {
	for i := range r.Headers {
		if r.Headers[i].Key == key {
			return string(r.Headers[i].Value)
		}
	}
	return ""
}

// Received is what HeaderReceived says, in ms since 1970 UTC; 0 when it says nothing of use.
func Received(r *kgo.Record) int64 {
	ms, err := strconv.ParseInt(Header(r, HeaderReceived), 10, 64)
	if err != nil || ms < 0 {
		return 0
	}
	return ms
}

// IsTick tells a tick from data without allocating.
func IsTick(r *kgo.Record) bool { return Is(r, TypeTick) }

// IsControl tells what the judge itself wrote into Frames besides ticks: what is to be judged by, and where cohorts are.
func IsControl(r *kgo.Record) bool { return Is(r, TypeDetection) || Is(r, TypeCohort) }

// Is tells whether the record says that its value is of that type, without allocating.
func Is(r *kgo.Record, typ string) bool {
	for i := range r.Headers {
		if r.Headers[i].Key == HeaderType {
			return string(r.Headers[i].Value) == typ
		}
	}
	return false
}

// Partitioning says how many partitions a topic gets.
type Partitioning int

const (
	// PerMachine topics have the fleet's number of partitions, keyed by equipment_id.
	PerMachine Partitioning = iota
	// Single topics are small and read whole by everybody.
	Single
)

// Spec is how one topic is created.
type Spec struct {
	Name         string
	Partitioning Partitioning
	// Configs are Kafka's topic configuration keys.
	Configs map[string]string
}

// Retention of the event topics.
const Retention = 7 * 24 * time.Hour

func event(name string) Spec {
	return Spec{Name: name, Configs: map[string]string{
		"cleanup.policy":         "delete",
		"retention.ms":           ms(Retention),
		"message.timestamp.type": "LogAppendTime",
		"max.message.bytes":      "8388608",
	}}
}

// cases are as old as the frames that they are replayed with. The bound on bytes is for machines with megabytes of state that call often.
func cases() Spec {
	s := event(Cases)
	s.Configs["retention.bytes"], s.Configs["segment.bytes"] = "1073741824", "67108864"
	return s
}

func ms(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }

// Count is the topic's number of partitions where topics keyed by machine have perMachine of them.
func (s Spec) Count(perMachine int32) int32 {
	if s.Partitioning == Single {
		return 1
	}
	return perMachine
}

// Specs are the named ones of All, in its order. A name that All does not know is left out.
func Specs(names ...string) []Spec {
	return slices.DeleteFunc(All(), func(s Spec) bool { return !slices.Contains(names, s.Name) })
}

// All lists every topic that Tocsin makes, dead letters included.
func All() []Spec {
	specs := []Spec{
		event(Frames), event(Readings), event(Windows), event(Anomalies), event(Alerts), event(Findings),
		{Name: State, Configs: map[string]string{
			"cleanup.policy":            "compact",
			"min.cleanable.dirty.ratio": "0.1",
			// Kafka compacts closed segments only, and a restore reads what is not compacted as well: the default of 1 GiB per partition
			// would be read whole, however small the state is.
			"segment.bytes": "33554432",
			// Longer than the longest restore, or a restore could miss a tombstone.
			"delete.retention.ms": ms(24 * time.Hour),
			"max.message.bytes":   "8388608",
			// An alert's case is copied from here right after it opened. By then its machine may have been saved anew: what was replaced stays
			// for a moment, also for a processor that crashed and comes back. No longer, because a restore reads it in vain: with every
			// machine saved every 30 s, this is half as much again as the state.
			"min.compaction.lag.ms": ms(15 * time.Second),
		}},
		cases(), event(Comparisons),
		{Name: Coverage, Configs: map[string]string{"cleanup.policy": "compact", "segment.bytes": "33554432", "max.message.bytes": "8388608"}},
		{Name: Registry, Partitioning: Single, Configs: map[string]string{"cleanup.policy": "compact", "max.message.bytes": "8388608"}},
		{Name: Config, Partitioning: Single, Configs: map[string]string{"cleanup.policy": "compact", "max.message.bytes": "8388608"}},
		{Name: Told, Partitioning: Single, Configs: map[string]string{
			"cleanup.policy": "compact,delete", "retention.ms": ms(Retention), "segment.bytes": "33554432", "max.message.bytes": "8388608",
		}},
	}
	for _, t := range []string{DLQ(Frames), DLQ(Readings), DLQ(Windows), DLQ(Anomalies), DLQ(Alerts), DLQ(Findings), Undelivered} {
		s := event(t)
		s.Partitioning = Single
		specs = append(specs, s)
	}
	return specs
}
