package coldpathwriter

import (
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tocsin-io/tocsin/pkg/kafka/kafkatest"
	"github.com/tocsin-io/tocsin/pkg/topic"
	"github.com/tocsin-io/tocsin/services/cold-path-writer/internal/chunk"
)

// The same log gives the same files, byte for byte, however it is polled, split among members and interrupted.
func TestDeterminism(t *testing.T) {
	k := kafkatest.Start(t, 3)
	src := newSource(t, k)
	for p := range int32(3) {
		src.readings(p, 40)
		src.transaction(kgo.TryCommit, tick(t, topic.Readings, p), src.reading(p))
		src.readings(p, 40)
	}
	// 81 readings of 10 rows per partition, 4 to a file: 20 files each.
	run := func(group string, chaotic bool) map[string]string {
		dir := t.TempDir()
		cfg := testConfig(dir)
		cfg.Group = group
		b := newFaulty(t, dir)
		if chaotic {
			cfg.DrainTimeout = time.Millisecond
			b.before, b.after = flaky(0.1), flaky(0.1)
			for range 5 {
				w := start(t, cfg, k, b)
				puts := b.puts.Load()
				eventually(t, "progress", func() bool { return b.puts.Load() > puts+int64(rand.N(8)) || len(files(t, dir, "readings")) == 60 })
				w.cancel()
				w.wait(t)
			}
		}
		w := start(t, cfg, k, b)
		eventually(t, "all files", func() bool { return len(files(t, dir, "readings")) == 60 })
		w.stop(t)
		clean(t, dir)
		content := map[string]string{}
		for _, f := range files(t, dir, "readings") {
			data, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			content[strings.TrimPrefix(f, dir+string(filepath.Separator))] = string(data)
		}
		return content
	}
	if a, b := run("calm", false), run("chaotic", true); !maps.Equal(a, b) {
		t.Errorf("%d and %d files that differ", len(a), len(b))
	}
}

func TestMemoryLimit(t *testing.T) {
	k := kafkatest.Start(t, 4)
	src, dir := newSource(t, k), t.TempDir()
	b := newFaulty(t, dir)
	var down atomic.Bool
	down.Store(true)
	b.before = func(string) error {
		if down.Load() {
			return errDown
		}
		return nil
	}
	cfg := testConfig(dir)
	cfg.Chunk = chunk.Rules{MaxRows: 1_000_000, MaxBytes: 32 << 10, Interval: time.Hour}
	cfg.MemoryLimit = 64 << 10
	for p := range int32(4) { // about 90 KiB each
		src.readings(p, 400)
	}
	w := start(t, cfg, k, b)
	eventually(t, "something is held", func() bool { return w.group.Held() > 32<<10 })
	down.Store(false)
	var most int64
	want := func() bool {
		most = max(most, w.group.Held())
		seen := sequences(t, dir)
		for p := range 4 {
			if seen[int64(p*400+1)] == 0 || seen[int64(p*400+200)] == 0 {
				return false
			}
		}
		return true
	}
	eventually(t, "all partitions get on", want)
	t.Logf("held at most %d bytes", most)
	for s, n := range sequences(t, dir) {
		if n != rowsPerReading {
			t.Errorf("reading %d has %d rows", s, n)
		}
	}
	clean(t, dir)
}

// More idle partitions than memory has room for hold unfinished chunks: another one still gets on, because they give theirs back.
func TestIdlePartitionsGiveMemoryBack(t *testing.T) {
	k := kafkatest.Start(t, 4)
	src, dir := newSource(t, k), t.TempDir()
	cfg := testConfig(dir)
	cfg.Chunk = chunk.Rules{MaxRows: 1000, MaxBytes: 24 << 10, Interval: time.Hour}
	cfg.MemoryLimit = 48 << 10
	cfg.StallTimeout = 50 * time.Millisecond
	for p := range int32(3) { // about 21 KiB each
		src.readings(p, 95)
	}
	w := start(t, cfg, k, nil)
	eventually(t, "memory is given back", func() bool { return counter(w, `tocsin_lake_retries_total{reason="memory"}`) > 0 })
	src.readings(3, 100)
	eventually(t, "the file of the fourth", func() bool { return len(sequences(t, dir)) == 100 })
	for p := range int32(3) {
		src.readings(p, 5)
	}
	awaitExact(t, dir, 400)
	clean(t, dir)
}

// A stop commits nothing that is not in the lake, and leaves no half file.
func TestStopInTheMiddle(t *testing.T) {
	k := kafkatest.Start(t, 1)
	src, dir := newSource(t, k), t.TempDir()
	src.readings(0, 6) // one file of 4, and 2 left over
	w := start(t, testConfig(dir), k, nil)
	awaitExact(t, dir, 4)
	w.stop(t)
	if err := w.Ready(); err == nil {
		t.Error("ready after its end")
	}
	awaitExact(t, dir, 4)
	src.readings(0, 2)
	start(t, testConfig(dir), k, nil)
	awaitExact(t, dir, 8)
	if n := len(files(t, dir, "readings")); n != 2 {
		t.Errorf("%d files, want 2", n)
	}
	clean(t, dir)
}
