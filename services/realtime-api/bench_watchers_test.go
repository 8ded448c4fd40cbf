//go:build bench

package realtimeapi

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// watchers are the clients.
type watchers struct {
	t                       *testing.T
	fl                      *benchFleet
	url                     string
	all                     []*watcher
	wg                      sync.WaitGroup
	cancels                 []context.CancelFunc
	connected, fresh, bytes atomic.Int64
	cuts                    atomic.Int64
	cutting, measure        atomic.Bool
}

// watcher is a client: it follows fleet, alerts and one machine, and goes on where it was after each cut. mu guards all.
type watcher struct {
	mu       sync.Mutex
	w        *watchers
	rng      *rand.Rand
	machine  string
	instance string
	versions map[string]uint64
	last     int64   // start of the machine's last window
	rows     []int64 // t by machine, where this client checks the fleet too
	alerts   []bool
	delays   []int32
	fresh    bool
	resumed  bool

	resumes, resets, gaps, behind int
}

func (w *watchers) start(ctx context.Context, i int, whole bool) {
	v := &watcher{w: w, rng: rand.New(rand.NewPCG(uint64(i), 1)), machine: w.fl.ids[i*7%len(w.fl.ids)], versions: map[string]uint64{}, alerts: make([]bool, maxBenchAlerts)}
	if whole {
		v.rows = make([]int64, len(w.fl.ids))
	}
	ctx, cancel := context.WithCancel(ctx)
	w.all, w.cancels = append(w.all, v), append(w.cancels, cancel)
	w.wg.Go(func() {
		for ctx.Err() == nil {
			v.connect(ctx)
			if ctx.Err() == nil {
				w.cuts.Add(1)
				select {
				case <-ctx.Done():
				case <-time.After(time.Duration(v.rng.Int64N(int64(awayAtMost)))):
				}
			}
		}
	})
}

func (w *watchers) stop() {
	for _, c := range w.cancels {
		c()
	}
	w.wg.Wait()
}

func (w *watchers) await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	eventually(t, 3*time.Minute, what, ok)
}

// complete tells whether every client has the last of everything.
func (w *watchers) complete() bool {
	last := w.fl.start + (w.fl.rounds.Load()-1)*windowUS
	for _, v := range w.all {
		v.mu.Lock()
		ok := v.last == last && !slices.Contains(v.alerts[:w.fl.alerts.Load()], false)
		for _, at := range v.rows {
			ok = ok && at == last+windowUS
		}
		v.mu.Unlock()
		if !ok {
			return false
		}
	}
	return true
}

// connect serves one connection until it is cut.
func (v *watcher) connect(ctx context.Context) {
	until := time.Duration(float64(cutEvery) * (0.2 + v.rng.ExpFloat64()))
	conn, resp, err := websocket.Dial(ctx, v.w.url, &websocket.DialOptions{CompressionMode: websocket.CompressionDisabled})
	if err != nil {
		if ctx.Err() == nil {
			v.w.t.Logf("dial: %v", err)
		}
		return
	}
	_ = resp
	defer conn.CloseNow()
	conn.SetReadLimit(-1)
	v.w.connected.Add(1)
	defer v.w.connected.Add(-1)
	ask := fmt.Sprintf(`{"type":"subscribe","channels":["fleet","alerts","machine:%s"]`, v.machine)
	v.mu.Lock()
	v.resumed = v.fresh
	if v.fresh {
		v.resumes++
		ask += fmt.Sprintf(`,"resume":{"instance":%q,"version":%d}`, v.instance, min(v.versions["fleet"], v.versions["alerts"], v.versions["machine"]))
	}
	v.mu.Unlock()
	if err := conn.Write(ctx, websocket.MessageText, []byte(ask+"}")); err != nil {
		return
	}
	buf := make([]byte, 0, 1<<16)
	var began time.Time
	for {
		_, r, err := conn.Reader(ctx)
		if err != nil {
			return
		}
		if buf, err = readInto(r, buf[:0]); err != nil {
			return
		}
		v.w.bytes.Add(int64(len(buf)))
		v.take(buf)
		if v.w.cutting.Load() {
			if began.IsZero() {
				began = time.Now()
			}
			if time.Since(began) > until {
				return // CloseNow: no goodbye
			}
		}
	}
}

func readInto(r io.Reader, b []byte) ([]byte, error) {
	for {
		if len(b) == cap(b) {
			b = slices.Grow(b, cap(b))
		}
		n, err := r.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		if err == io.EOF {
			return b, nil
		}
		if err != nil {
			return b, err
		}
	}
}

// after is the number that follows the first key in b; ok is false when there is none.
func after(b []byte, key string) (n int64, rest []byte, ok bool) {
	i := bytes.Index(b, []byte(key))
	if i < 0 {
		return 0, nil, false
	}
	b = b[i+len(key):]
	j := 0
	for j < len(b) && (b[j] == '-' || b[j] >= '0' && b[j] <= '9') {
		j++
	}
	n, err := strconv.ParseInt(string(b[:j]), 10, 64)
	return n, b[j:], err == nil
}

func (v *watcher) take(m []byte) {
	v.mu.Lock()
	defer v.mu.Unlock()
	head := m[:min(len(m), 80)]
	kind, _, _ := bytes.Cut(m[len(`{"type":"`):], []byte{'"'})
	version, _, _ := after(head, `"version":`)
	more, reset := bytes.Contains(head, []byte(`"more":true`)), bytes.Contains(head, []byte(`"reset":true`))
	if reset && v.resumed {
		v.resets++
	}
	switch string(kind) {
	case "hello":
		_, rest, _ := bytes.Cut(m, []byte(`"instance":"`))
		id, _, _ := bytes.Cut(rest, []byte{'"'})
		v.instance = string(id)
		return
	case "summary":
		n, _, _ := after(m, `"coalesced_ticks":`)
		v.behind += int(n)
		return
	case "fleet":
		v.takeRows(m)
	case "alerts":
		for n, rest, ok := after(m, `"alert_id":"bench/`); ok; n, rest, ok = after(rest, `"alert_id":"bench/`) {
			v.alerts[n] = true
		}
	case "machine":
		v.takeWindows(m)
	}
	if !more && version > 0 {
		v.versions[string(kind)] = uint64(version)
		if !v.fresh && len(v.versions) == 3 {
			v.fresh = true
			v.w.fresh.Add(1)
		}
	}
}

func (v *watcher) takeRows(m []byte) {
	if v.rows == nil {
		return
	}
	for {
		_, rest, ok := bytes.Cut(m, []byte(`{"id":"`))
		if !ok {
			return
		}
		id, rest, _ := bytes.Cut(rest, []byte{'"'})
		at, rest, ok := after(rest, `"t":`)
		if i, known := v.w.fl.index[string(id)]; known && ok {
			v.rows[i] = at
		}
		m = rest
	}
}

// takeWindows checks that the machine's windows come without a gap.
func (v *watcher) takeWindows(m []byte) {
	now := time.Now().UnixMilli()
	_, m, _ = bytes.Cut(m, []byte(`"windows":[`))
	for start, rest, ok := after(m, `"start_us":`); ok; start, rest, ok = after(rest, `"start_us":`) {
		if v.last > 0 && start > v.last+windowUS {
			v.gaps += int((start-v.last)/windowUS) - 1
		}
		v.last = max(v.last, start)
		if closed, _, ok := after(rest, `"closed_at_ms":`); ok && v.w.measure.Load() {
			v.delays = append(v.delays, int32(now-closed))
		}
	}
}

// delay tells how long windows took from the broker to the clients.
func (w *watchers) delay() map[string]int {
	var all []int32
	for _, v := range w.all {
		v.mu.Lock()
		all = append(all, v.delays...)
		v.mu.Unlock()
	}
	if len(all) == 0 {
		return nil
	}
	slices.Sort(all)
	q := func(p float64) int { return int(all[min(int(p*float64(len(all))), len(all)-1)]) }
	return map[string]int{"p50": q(0.5), "p90": q(0.9), "p99": q(0.99), "max": q(1), "count": len(all)}
}
