// Package history holds the checker of what a run promised: every frame that was acknowledged is judged once, and each
// judgement stands once in readings, windows, anomalies, alert events and the lake.
//
// A Ledger notes what was sent and what was acknowledged. When the world has come to rest (Settle), Check reads every topic and the
// lake and compares them with what a fault-free run makes of the same input log.
package history

import (
	"context"
	"errors"
	"time"

	"github.com/tocsin-io/tocsin/pkg/kafka"
	"github.com/tocsin-io/tocsin/pkg/objstore"
	streamprocessor "github.com/tocsin-io/tocsin/services/stream-processor"
)

// FrameRef names a frame.
type FrameRef struct {
	Gateway, Equipment string
	Sequence           uint64
}

// Notification is what a receiver was told of one alert.
type Notification struct {
	AlertID  string
	Resolved bool
	At       time.Time
}

// World is what a run left behind.
type World struct {
	Kafka     kafka.Config
	Lake      objstore.Bucket // nil: no writer ran
	Detection *streamprocessor.DetectionConfig
	Schemas   func(ctx context.Context, id string) ([]string, error)
	Ledger    *Ledger
	// Notifications that came, in order of arrival; nil: no receiver was there. Every alert that opened must be among them.
	Notifications []Notification
	// Groups of the services that ran, for Settle.
	Groups []string
}

// Finding is one broken promise.
type Finding struct {
	Kind   string `json:"kind"` // lost, duplicated, reordered, invented, wrong, unnotified
	Where  string `json:"where"`
	Detail string `json:"detail"`
}

// Report of a check.
type Report struct {
	Counts   map[string]int `json:"counts"`
	Findings []Finding      `json:"findings"`
}

// ErrNotYet marks what is not written yet.
var ErrNotYet = errors.New("not written yet")

// Ledger notes what senders did. Safe for concurrent use.
type Ledger struct{}

// NewLedger is empty.
func NewLedger() *Ledger { return &Ledger{} }

// Sent notes that a frame is about to be sent; again for a repeat does no harm.
func (l *Ledger) Sent(FrameRef) {}

// Acked notes that a frame was acknowledged.
func (l *Ledger) Acked(FrameRef) {}

// Settle waits until every group has read to the end and the lake holds it. StallError when nothing moves for patience.
func Settle(context.Context, World, time.Duration) error { return ErrNotYet }

// Check compares. The error says that it could not look; broken promises are findings.
func Check(context.Context, World) (*Report, error) { return nil, ErrNotYet }
