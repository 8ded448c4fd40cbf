package load

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	ingestv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/ingest/v1"
)

// GatewayMeasured is what the overload phase saw at the gateway.
type GatewayMeasured struct {
	HotOffered    int     `json:"hot_offered_frames_per_s"`
	HotTried      int     `json:"hot_frames_tried"`
	HotTaken      int     `json:"hot_frames_taken"`
	HotLimited    int     `json:"hot_frames_refused_429"`
	HotOther      int     `json:"hot_frames_refused_otherwise"`
	OthersTaken   int     `json:"others_frames_taken"`
	OthersRefused int     `json:"others_frames_refused"`
	OthersP50     float64 `json:"others_answer_p50_ms"`
	OthersP99     float64 `json:"others_answer_p99_ms"`
}

const (
	gatewayPace = 50 * time.Millisecond // between two bulks of the others
	hotPace     = 25 * time.Millisecond // between two bulks of the hot machine
	hotBulk     = 500                   // frames in each: 20,000 a second are offered
)

// overload lets all come through the gateway: the others at their rate, the hot machine at ten times what is allowed, without heeding Retry-After.
// It keeps its frames and sends those again that were refused, so nothing of it is lost either.
func (h *hotRun) overload(ctx context.Context) error {
	length := h.cfg.Settle + h.cfg.Phase
	began := time.Now()
	perBulk := h.cfg.PerS * int(gatewayPace) / int(time.Second)
	others := make([][]byte, length/gatewayPace)
	turn := 0
	for i := range others {
		when := began.Add(time.Duration(i) * gatewayPace)
		for range perBulk {
			machine := turn % h.cfg.Machines
			turn++
			h.seq[machine]++
			others[i] = appendDelimited(others[i], h.maker.frame(machine, h.seq[machine], when, 1, 0).AppendTo(nil))
		}
	}
	mine := make([][]byte, int(1.2*length.Seconds()*float64(h.cfg.LimitPerS))+4*h.cfg.LimitPerS)
	for i := range mine {
		h.hotSeq++
		when := began.Add(time.Duration(i) * length / time.Duration(len(mine)))
		mine[i] = appendDelimited(nil, h.hotM.frame(0, h.hotSeq, when, 1, 0).AppendTo(nil))
	}
	h.say("phase %q: made in %s", "overload", time.Since(began).Round(time.Millisecond))

	g := &GatewayMeasured{HotOffered: int(time.Second/hotPace) * hotBulk}
	p := &PhaseMeasured{Name: "overload through the gateway", Gateway: g}
	cpu := startShare(h.pids)
	h.mem.take()
	p.from = time.Now().Add(h.cfg.Settle)
	p.to = p.from.Add(h.cfg.Phase)
	ctx, cancel := context.WithTimeout(ctx, length+h.cfg.Patience)
	defer cancel()
	var wg sync.WaitGroup
	var hotErr, othersErr error
	wg.Go(func() { hotErr = h.sendHot(ctx, mine, p.to, g) })
	wg.Go(func() { othersErr = h.sendOthers(ctx, others, perBulk, g) })
	wg.Wait()
	if err := errors.Join(hotErr, othersErr); err != nil {
		return fmt.Errorf("phase overload: %w", err)
	}
	p.PeakMB, p.CPU = h.mem.take(), cpu.end()
	h.out.Phases = append(h.out.Phases, p)
	h.out.Sent += g.HotTaken + g.OthersTaken
	return nil
}

func appendDelimited(dst, message []byte) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(message))), message...)
}

// bulk posts a body of delimited frames and returns their statuses; none when the whole bulk was refused with that code.
func (h *hotRun) bulk(ctx context.Context, client *http.Client, body []byte) (int, []*ingestv1.FrameResult, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, h.url("ingest-gateway", "/v1/frames"), bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Content-Type", "application/x-protobuf; delimited=true")
	req.Header.Set("Accept", "application/x-protobuf")
	res, err := client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = res.Body.Close() }()
	answer, err := io.ReadAll(io.LimitReader(res.Body, 32<<20))
	if err != nil || res.StatusCode != http.StatusOK {
		return res.StatusCode, nil, err
	}
	var all ingestv1.PublishResponse
	if err := proto.Unmarshal(answer, &all); err != nil {
		return 0, nil, fmt.Errorf("the gateway's answer: %w", err)
	}
	return res.StatusCode, all.GetResults(), nil
}

// sendHot offers a bulk at each pace: the oldest frames that were not taken yet.
func (h *hotRun) sendHot(ctx context.Context, frames [][]byte, end time.Time, g *GatewayMeasured) error {
	client := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	tick := time.NewTicker(hotPace)
	defer tick.Stop()
	next := 0
	var body []byte
	for time.Now().Before(end) && next < len(frames) {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		n := min(hotBulk, len(frames)-next)
		body = body[:0]
		for _, f := range frames[next : next+n] {
			body = append(body, f...)
		}
		status, results, err := h.bulk(ctx, client, body)
		if err != nil {
			return fmt.Errorf("hot machine: %w", err)
		}
		g.HotTried += n
		switch status {
		case http.StatusOK:
			taken := 0
			for _, r := range results {
				switch r.GetStatus() {
				case ingestv1.FrameStatus_FRAME_STATUS_ACKNOWLEDGED:
					taken++
				case ingestv1.FrameStatus_FRAME_STATUS_RETRY:
					g.HotLimited++
				default:
					g.HotOther++
				}
			}
			for i, r := range results { // one machine's frames are taken in order
				if i < taken && r.GetStatus() != ingestv1.FrameStatus_FRAME_STATUS_ACKNOWLEDGED {
					return fmt.Errorf("the gateway took a frame and refused one before it: %v", r)
				}
			}
			g.HotTaken += taken
			next += taken
		case http.StatusTooManyRequests:
			g.HotLimited += n
		default:
			g.HotOther += n
		}
	}
	return nil
}

// sendOthers sends a bulk at each pace, each by itself, so that a slow answer does not hold up the next.
func (h *hotRun) sendOthers(ctx context.Context, bulks [][]byte, frames int, g *GatewayMeasured) error {
	client := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 16}}
	defer client.CloseIdleConnections()
	var mu sync.Mutex
	var took []float64
	var failed error
	var wg sync.WaitGroup
	began := time.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for i, body := range bulks {
		due := began.Add(time.Duration(i) * gatewayPace)
		timer.Reset(time.Until(due))
		select {
		case <-ctx.Done():
			wg.Wait()
			return ctx.Err()
		case <-timer.C:
		}
		wg.Go(func() {
			status, results, err := h.bulk(ctx, client, body)
			ms := time.Since(due).Seconds() * 1000
			mu.Lock()
			defer mu.Unlock()
			failed = errors.Join(failed, err)
			took = append(took, ms)
			if status != http.StatusOK {
				g.OthersRefused += frames
			}
			for _, r := range results {
				if r.GetStatus() == ingestv1.FrameStatus_FRAME_STATUS_ACKNOWLEDGED {
					g.OthersTaken++
				} else {
					g.OthersRefused++
				}
			}
		})
	}
	wg.Wait()
	slices.Sort(took)
	g.OthersP50, g.OthersP99 = quantile(took, 0.5), quantile(took, 0.99)
	return failed
}
