package machine

import (
	"github.com/tocsin-io/tocsin/pkg/frame"
)

const (
	hardMaxSensors  = 1 << 17
	hardMaxGateways = 64
)

type scratch struct{}

type Machine struct{ cfg *Config }

func New(cfg *Config, equipmentID string) *Machine { return &Machine{cfg: cfg} }

func (m *Machine) EquipmentID() string { return "" }

// Apply judges one frame.
func (m *Machine) Apply(f *frame.Frame, sensors [][]byte, at Meta, out *Output) {}

// Tick moves log time.
func (m *Machine) Tick(logTimeMS int64, out *Output) {}

// NextDeadline is the log time (ms) before which Tick is certainly a no-op; math.MaxInt64: Tick does nothing until the next Apply.
func (m *Machine) NextDeadline() int64 { return 1<<63 - 1 }

func (m *Machine) AppendSnapshot(dst []byte) []byte { return dst }

func Restore(cfg *Config, equipmentID string, src []byte) (*Machine, error) { return New(cfg, equipmentID), nil }

// Current is the verdict of the newest judged window.
func (m *Machine) Current() *Verdict { return &Verdict{} }

// Provisional judges the windows that are still open as if they ended now, without learning.
func (m *Machine) Provisional(out *Output) *Verdict { return &Verdict{} }
