package machine

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"runtime"
	"testing"

	"github.com/tocsin-io/tocsin/services/stream-processor/internal/machine/codec"
)

// lived is a machine that has seen everything.
func lived(tb testing.TB) *rig {
	critical := 60.0
	r := newRig(tb, func(c *Config) { c.Detect.Limits = append(c.Detect.Limits, limitFor("s0", nil, &critical)) })
	s := newSignal(1)
	for i := range int64(700) {
		v := s.next()
		if i > 600 {
			v[0] += 15
		}
		r.sample(epoch0+i*second, v...)
	}
	r.sample(epoch0+690*second, 1, 2, 3)
	f := frameOf(1, names(3), []int64{epoch0 + 701*second}, [][]float32{{1}, {2}, {3}})
	r.apply(f) // the gateway lost its counter
	r.tick(r.logMS + 60_000)
	return r
}

func TestRestoreRefusesEveryDamage(t *testing.T) {
	r := lived(t)
	if len(episodes(r.anomalies)) < 3 {
		t.Fatalf("only %v", episodes(r.anomalies))
	}
	snap := r.m.AppendSnapshot(nil)
	for i := range snap {
		bad := append([]byte(nil), snap...)
		bad[i] ^= 0x40
		if _, err := Restore(r.cfg, "pump-1", bad); !errors.Is(err, codec.ErrCorrupt) {
			t.Fatalf("byte %d changed: %v", i, err)
		}
	}
	for n := range snap {
		if n%7 > 0 && n > 100 {
			continue
		}
		if _, err := Restore(r.cfg, "pump-1", snap[:n]); !errors.Is(err, codec.ErrCorrupt) {
			t.Fatalf("cut to %d bytes: %v", n, err)
		}
	}
	if _, err := Restore(r.cfg, "pump-2", snap); !errors.Is(err, codec.ErrCorrupt) {
		t.Fatalf("another machine's snapshot: %v", err)
	}
}

func TestRestoreUnderAnotherConfiguration(t *testing.T) {
	r := lived(t)
	cfg := DefaultConfig()
	cfg.Detect.Detectors = []string{"spread", "ewma"}
	cfg.Detect.RobustZ.History = 8
	cfg.KeptWindows, cfg.MaxSensors, cfg.MaxGateways = 1, 1, 1
	m, err := Restore(&cfg, "pump-1", r.m.AppendSnapshot(nil))
	if err != nil {
		t.Fatal(err)
	}
	r.m, r.cfg = m, &cfg
	s := newSignal(8)
	for i := int64(800); i < 900; i++ {
		r.sample(epoch0+i*second, s.next()...)
	}
	if m.learning() {
		t.Fatal("what was learned is lost")
	}
}

// signed gives a body a right checksum, so that the fuzzer reaches what lies behind it.
func signed(body []byte) []byte {
	out := append(append([]byte(snapshotMagic), SnapshotFormat), body...)
	return binary.LittleEndian.AppendUint32(out, crc32.Checksum(out, castagnoli()))
}

func FuzzRestore(f *testing.F) {
	snap := lived(f).m.AppendSnapshot(nil)
	young := New(lived(f).cfg, "pump-1").AppendSnapshot(nil)
	for _, s := range [][]byte{snap, young} {
		f.Add(s[len(snapshotMagic)+1 : len(s)-snapshotTrailer])
	}
	cfg := DefaultConfig()
	f.Fuzz(func(t *testing.T, body []byte) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		m, err := Restore(&cfg, "pump-1", signed(body))
		runtime.ReadMemStats(&after)
		if n := after.TotalAlloc - before.TotalAlloc; n > 1<<20+40*uint64(len(body)) {
			t.Fatalf("%d bytes allocated for %d", n, len(body))
		}
		if err != nil {
			if !errors.Is(err, codec.ErrCorrupt) {
				t.Fatal(err)
			}
			return
		}
		// Whatever was restored can live on.
		r := &rig{tb: t, cfg: &cfg, m: m, seq: 1 << 40, logMS: epoch0 / 1000}
		s := newSignal(1)
		for i := range int64(30) {
			r.sample(epoch0+i*second, s.next()...)
		}
		m.Provisional(&r.out)
		m.Current()
		r.tick(r.logMS + 1_000_000)
		if _, err := Restore(&cfg, "pump-1", m.AppendSnapshot(nil)); err != nil {
			t.Fatalf("its own snapshot: %v", err)
		}
	})
}
