package simulation

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kbin"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// traceDir is where each run writes what happened in it, in order, for looking into one seed; empty: nowhere.
var traceDir = os.Getenv("TOCSIN_SIM_TRACE")

// trace is the story of one run: faults, log lines, what the coordinators and the pager were asked, by virtual time. A nil trace takes nothing.
type trace struct {
	mu    sync.Mutex
	out   *bufio.Writer
	file  *os.File
	began time.Time
}

func openTrace(seed uint64) (*trace, error) {
	if traceDir == "" {
		return nil, nil
	}
	f, err := os.Create(filepath.Join(traceDir, fmt.Sprintf("%d-%d.txt", seed, os.Getpid())))
	if err != nil {
		return nil, fmt.Errorf("trace: %w", err)
	}
	return &trace{out: bufio.NewWriterSize(f, 1<<20), file: f, began: time.Now()}, nil
}

func (t *trace) add(who, format string, args ...any) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	_, _ = fmt.Fprintf(t.out, "%9.3f %-13s %s\n", time.Since(t.began).Seconds(), who, fmt.Sprintf(format, args...))
}

func (t *trace) close() {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	_ = t.out.Flush()
	_ = t.file.Close()
}

// traced are the requests that a trace shows whole; of Produce only where to.
var traced = map[kmsg.Key]bool{
	kmsg.TxnOffsetCommit: true, kmsg.EndTxn: true, kmsg.InitProducerID: true, kmsg.AddPartitionsToTxn: true, kmsg.AddOffsetsToTxn: true,
	kmsg.OffsetFetch: true, kmsg.OffsetCommit: true, kmsg.JoinGroup: true, kmsg.SyncGroup: true, kmsg.LeaveGroup: true, kmsg.Produce: true,
}

// request shows a request on its way to the broker, with the fate that the rules give it.
func (t *trace) request(client string, key, version int16, message []byte, arrives bool) {
	if t == nil || !traced[kmsg.Key(key)] {
		return
	}
	fate := ""
	if !arrives {
		fate = " LOST"
	}
	req := kmsg.RequestForKey(key)
	req.SetVersion(version)
	r := kbin.Reader{Src: message[12:]}
	r.NullableString() // client id
	if req.IsFlexible() {
		kmsg.SkipTags(&r)
	}
	if err := req.ReadFrom(r.Src); err != nil {
		t.add(client, "-> %s: %v", req.(interface{ Key() int16 }), err)
		return
	}
	t.add(client, "-> %s #%d%s %s", kmsg.Key(key).Name(), binary.BigEndian.Uint32(message[8:]), fate, shown(req))
}

func (t *trace) response(client string, key, version int16, message []byte, arrives bool) {
	if t == nil || !traced[kmsg.Key(key)] {
		return
	}
	fate := ""
	if !arrives {
		fate = " LOST"
	}
	resp := kmsg.ResponseForKey(key)
	resp.SetVersion(version)
	head := 8
	if resp.IsFlexible() {
		head++
	}
	if err := resp.ReadFrom(message[head:]); err != nil {
		t.add(client, "<- %s: %v", kmsg.Key(key).Name(), err)
		return
	}
	t.add(client, "<- %s #%d%s %s", kmsg.Key(key).Name(), binary.BigEndian.Uint32(message[4:]), fate, shown(resp))
}

func shown(m any) string {
	if p, ok := m.(*kmsg.ProduceRequest); ok {
		s := ""
		for _, t := range p.Topics {
			for _, q := range t.Partitions {
				var b kmsg.RecordBatch
				_ = b.ReadFrom(q.Records)
				s += fmt.Sprintf(" %s%x[%d] %d records pid %d/%d seq %d;", t.Topic, t.TopicID[:2], q.Partition, b.NumRecords, b.ProducerID, b.ProducerEpoch, b.FirstSequence)
			}
		}
		return s
	}
	b, err := json.Marshal(m)
	if err != nil {
		return err.Error()
	}
	return string(b[:min(len(b), 1500)])
}
