package routing

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"go.uber.org/zap"
)

// memory is a journaled state: a set of strings.
type memory struct {
	mu   sync.Mutex
	set  map[string]bool
	tell func([]byte)
}

func newMemory() *memory { return &memory{set: map[string]bool{}, tell: func([]byte) {}} }

func entry(s string) []byte { return append(binary.AppendUvarint(nil, uint64(len(s))), s...) }

func (m *memory) MarshalBinary() ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []byte
	for s := range m.set {
		out = append(out, entry(s)...)
	}
	return out, nil
}

func (m *memory) Merge(b []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for len(b) > 0 {
		n, k := binary.Uvarint(b)
		if k <= 0 || int(n) > len(b)-k {
			return errors.New("torn")
		}
		m.set[string(b[k:k+int(n)])] = true
		b = b[k+int(n):]
	}
	return nil
}

func (m *memory) SetBroadcast(f func([]byte)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.tell = f
}
func (m *memory) GC() (int, error) { return 0, nil }

func (m *memory) add(s string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.set[s] = true
	m.tell(entry(s)) // under the lock, as the engine does
}

// reopen reads what lies on the disk, as a new process would.
func reopen(t *testing.T, path string) map[string]bool {
	t.Helper()
	dir := t.TempDir()
	names, _ := filepath.Glob(path + "*")
	for _, n := range names {
		data, err := os.ReadFile(n)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(n)), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	m := newMemory()
	to := filepath.Join(dir, filepath.Base(path))
	if data, err := os.ReadFile(to); err == nil {
		if err := m.Merge(data); err != nil {
			t.Fatalf("snapshot: %v", err)
		}
	}
	j, err := openJournal(to, m, false, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	if err := j.close(); err != nil {
		t.Fatal(err)
	}
	return m.set
}

func TestJournalSurvivesAtEveryStep(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	m := newMemory()
	j, err := openJournal(path, m, true, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]bool{}
	check := func(step string) {
		t.Helper()
		if got := reopen(t, path); !maps.Equal(got, want) {
			t.Fatalf("%s: %v, want %v", step, got, want)
		}
	}
	add := func(s string) { m.add(s); want[s] = true }
	add("a")
	check("after an entry")
	if err := j.rotate(); err != nil {
		t.Fatal(err)
	}
	check("between rotation and snapshot")
	add("b")
	check("entry between rotation and snapshot")
	if err := j.snapshot(); err != nil { // the old journal of the half snapshot is still needed
		t.Fatal(err)
	}
	check("after a snapshot over a half one")
	add("c")
	if err := j.snapshot(); err != nil {
		t.Fatal(err)
	}
	check("after a snapshot")
	if info, err := os.Stat(path + ".journal"); err != nil || info.Size() != 0 {
		t.Errorf("journal after snapshot: %v %v", info, err)
	}
	if err := j.close(); err != nil {
		t.Fatal(err)
	}
	m.add("after close") // must not panic
	check("after close")
}

func TestJournalTornTail(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	whole := append(entry("a"), entry("b")...)
	for cut := range len(whole) + 1 {
		if err := os.WriteFile(path+".journal", whole[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		want := map[string]bool{}
		if cut >= 2 {
			want["a"] = true
		}
		if cut >= 4 {
			want["b"] = true
		}
		if got := reopen(t, path); !maps.Equal(got, want) {
			t.Errorf("cut at %d: %v, want %v", cut, got, want)
		}
	}
}

func TestJournalConcurrently(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	m := newMemory()
	j, err := openJournal(path, m, false, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]bool{}
	var wg sync.WaitGroup
	for w := range 4 {
		for i := range 50 {
			want[fmt.Sprint(w, i)] = true
		}
		wg.Go(func() {
			for i := range 50 {
				m.add(fmt.Sprint(w, i))
			}
		})
	}
	for range 10 {
		if err := j.snapshot(); err != nil {
			t.Error(err)
		}
		j.flush()
	}
	wg.Wait()
	if got := reopen(t, path); !maps.Equal(got, want) {
		t.Errorf("%d of %d entries", len(got), len(want))
	}
	if err := j.close(); err != nil {
		t.Error(err)
	}
}

// Rubbish where a snapshot should be is kept aside and does not keep the alarms from starting.
func TestUnreadableStateIsSetAside(t *testing.T) {
	o := options(t, "")
	for _, name := range []string{"nflog", "silences"} {
		if err := os.WriteFile(filepath.Join(o.DataDir, name), []byte(strings.Repeat("\xff", 100)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	e, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"nflog", "silences"} {
		if kept, _ := filepath.Glob(filepath.Join(o.DataDir, name+".corrupt-*")); len(kept) != 1 {
			t.Errorf("%s: kept %v", name, kept)
		}
	}
}
