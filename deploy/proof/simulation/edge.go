package simulation

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tocsin-io/tocsin/deploy/proof/history"
	"github.com/tocsin-io/tocsin/deploy/proof/simulation/memnet"
	"github.com/tocsin-io/tocsin/pkg/frame"
)

const (
	// sampleEvery is the machines' own rate; a frame holds the samples since the last.
	sampleEvery = time.Second
	// answerWithin: an edge that has no answer by then sends again.
	answerWithin = 20 * time.Second
)

var sensors = []string{"pressure", "temperature", "vibration"}

// edge sends the frames of one machine. It keeps each until it is acknowledged and sends them in order.
type edge struct {
	w       *World
	machine string
	gateway string // the edge gateway's id
	node    *memnet.Node
	http    *http.Client
	rand    *rand.Rand
	every   time.Duration
	skew    time.Duration // of its clock
	// repeat is the share of acknowledged frames that are sent again on purpose.
	repeat float64
	quiet  atomic.Bool // no new frames
	cut    atomic.Bool // its gateway is dead
	idle   atomic.Bool // nothing is waiting to be acknowledged
	mood   atomic.Int32

	mu   sync.Mutex
	kept []sent // the last that were acknowledged
}

type sent struct {
	sequence uint64
	body     []byte
}

// keptFrames are kept for sending them again.
const keptFrames = 30

// What is wrong with a machine.
const (
	moodFine   int32 = iota
	moodHot          // above its limit
	moodBad          // its values are marked bad
	moodStuck        // a sensor does not move
	moodSilent       // sends nothing
	moods
)

func (w *World) senders() {
	for i := range w.opts.Machines {
		e := &edge{
			w: w, machine: fmt.Sprintf("pump-%02d", i), gateway: fmt.Sprintf("edge-%d", i%w.opts.EdgeGateways), node: w.net.Node(fmt.Sprintf("edge-%02d", i)),
			rand: rand.New(rand.NewPCG(w.opts.Seed, uint64(i)+1)), every: 2*time.Second + time.Duration(i%3)*time.Second,
		}
		switch i % 6 {
		case 3:
			e.skew = -time.Hour
		case 4:
			e.skew = -24 * time.Hour
		case 5:
			e.repeat = 0.1
		}
		e.http = &http.Client{Transport: &http.Transport{DialContext: e.node.DialContext, DisableCompression: true, MaxIdleConnsPerHost: 1}}
		e.idle.Store(true)
		w.edges = append(w.edges, e)
		w.running.Go(func() { e.run(w.ctx) })
	}
}

func (e *edge) run(ctx context.Context) {
	defer e.http.CloseIdleConnections()
	taken := time.Now()
	for sequence := uint64(1); ; {
		if wait(ctx, e.every+time.Duration(e.rand.Int64N(int64(200*time.Millisecond)))) != nil {
			return
		}
		if e.mood.Load() == moodSilent || e.cut.Load() || e.quiet.Load() {
			taken = time.Now()
			continue
		}
		e.idle.Store(false)
		body := e.frame(sequence, taken)
		taken = time.Now()
		if !e.deliver(ctx, sequence, body) {
			return
		}
		if e.rand.Float64() < e.repeat {
			e.w.counted("repeats_on_purpose")
			e.w.ledger.Sent(history.FrameRef{Gateway: e.gateway, Equipment: e.machine, Sequence: sequence})
			_, _ = e.post(ctx, body)
		}
		e.idle.Store(true)
		sequence++
	}
}

// deliver sends until the frame is acknowledged; false when the world ends.
func (e *edge) deliver(ctx context.Context, sequence uint64, body []byte) bool {
	ref := history.FrameRef{Gateway: e.gateway, Equipment: e.machine, Sequence: sequence}
	for try := 0; ; try++ {
		e.w.ledger.Sent(ref)
		status, err := e.post(ctx, body)
		if ctx.Err() != nil {
			return false
		}
		switch {
		case err == nil && status == http.StatusOK:
			e.w.ledger.Acked(ref)
			e.mu.Lock()
			e.kept = append(e.kept[max(0, len(e.kept)+1-keptFrames):], sent{sequence, body})
			e.mu.Unlock()
			e.w.acked()
			return true
		case err == nil && status == http.StatusBadRequest:
			panic(fmt.Sprintf("simulation: frame %v is refused for good", ref))
		}
		e.w.counted("sender_retries")
		if wait(ctx, min(8*time.Second, 500*time.Millisecond<<min(try, 4))) != nil {
			return false
		}
	}
}

// post sends to one gateway or the other.
func (e *edge) post(ctx context.Context, body []byte) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	to := gatewayAddr(e.rand.IntN(e.w.opts.Gateways))
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+to+"/v1/frames", bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Content-Type", "application/x-protobuf")
	resp, err := e.http.Do(req)
	if err != nil {
		return 0, err
	}
	defer func() { _ = resp.Body.Close() }() // read to its end: nothing can be lost
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, err
}

// frame makes the samples since from.
func (e *edge) frame(sequence uint64, from time.Time) []byte {
	n := max(1, int(time.Since(from)/sampleEvery))
	n = min(n, 30)
	f := frame.New(e.machine, e.gateway, sequence, from.Add(e.skew), sensors, make([]float32, n*len(sensors)))
	mood := e.mood.Load()
	for t := range n {
		f.OffsetsUS = append(f.OffsetsUS, uint64(t)*uint64(sampleEvery/time.Microsecond))
		at := from.Add(time.Duration(t) * sampleEvery).Sub(e.w.began).Seconds()
		f.Values[t] = float32(5 + math.Sin(at/9) + e.rand.NormFloat64()/8)
		f.Values[n+t] = float32(60 + 2*math.Sin(at/30) + e.rand.NormFloat64()/4)
		f.Values[2*n+t] = float32(1 + e.rand.NormFloat64()/16)
		switch mood {
		case moodHot:
			f.Values[n+t] += 45
		case moodStuck:
			f.Values[2*n+t] = 1.5
		}
	}
	if mood == moodBad {
		for range f.Values {
			f.Qualities = append(f.Qualities, frame.QualityBad)
		}
	}
	return f.AppendTo(nil)
}

// ail makes machines fall ill and recover until ctx ends.
func (w *World) ail(ctx context.Context) {
	for {
		if wait(ctx, w.between(10*time.Second, 40*time.Second)) != nil {
			return
		}
		e := w.edges[w.intn(len(w.edges))]
		if e.mood.Load() != moodFine {
			e.mood.Store(moodFine)
			continue
		}
		m := 1 + int32(w.intn(int(moods)-1))
		e.mood.Store(m)
		w.running.Go(func() {
			_ = wait(ctx, w.between(25*time.Second, 70*time.Second))
			e.mood.Store(moodFine)
		})
	}
}
