// Package replay sends recorded data through the ingest-gateway as an edge gateway would: CSV files from disk or S3, or the frames of
// another Kafka cluster.
//
// Sending the same file again changes nothing: its frames carry the same gateway id (made from the content) and the same sequences, so
// the processor counts each once.
package replay

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/tocsin-io/tocsin/pkg/frame"
	"github.com/tocsin-io/tocsin/pkg/ingestclient"
	"github.com/tocsin-io/tocsin/pkg/objstore"
	"github.com/tocsin-io/tocsin/services/all-in-one/internal/csvfile"
)

// Options of a replay.
type Options struct {
	Inputs     []string // paths, s3://bucket/key or kafka://broker[,broker]/topic
	CSV        csvfile.Options
	Equipment  string  // machine of a file without equipment column; empty: the file's name
	Gateway    string  // gateway id; empty: made from the file's content
	Speed      float64 // 1: as fast as the data was recorded, 10: ten times; 0: as fast as it is taken
	ShiftToNow bool    // move each file's times so that its first row is now
	S3         objstore.Config
	Client     ingestclient.Config
	// Progress is told of bytes read and their total (0: unknown) while an input is sent. May be nil.
	Progress func(input string, done, total int64)
}

// Summary is what became of a replay.
type Summary struct {
	Inputs, Rows, Values   int
	Acknowledged, Rejected uint64
	First, Last            time.Time // event times
	Took                   time.Duration
}

// Run sends everything and waits until each frame is acknowledged or rejected. With rejected frames it
// returns an error that holds the first reason.
func Run(ctx context.Context, opt Options) (sum Summary, err error) {
	began := time.Now()
	rejections := make(chan ingestclient.Rejection, 1)
	opt.Client.OnReject = func(r ingestclient.Rejection) {
		select {
		case rejections <- r: // the first is enough to act on
		default:
		}
	}
	cl, err := ingestclient.New(opt.Client)
	if err != nil {
		return sum, err
	}
	defer func() {
		if e := cl.Close(); err == nil {
			err = e
		}
	}()
	for _, in := range opt.Inputs {
		r := runner{opt: opt, cl: cl, sum: &sum, input: in}
		if err := r.run(ctx); err != nil {
			return sum, fmt.Errorf("%s: %w", in, err)
		}
		sum.Inputs++
	}
	if err := cl.Flush(ctx); err != nil {
		return sum, err
	}
	st := cl.Stats()
	sum.Acknowledged, sum.Rejected, sum.Took = st.Acknowledged, st.Rejected, time.Since(began)
	select {
	case r := <-rejections:
		return sum, fmt.Errorf("%d frames were refused; the first, sequence %d of %s: %s: %s", st.Rejected, r.Sequence, r.EquipmentID, r.Field, r.Reason)
	default:
		return sum, nil
	}
}

type runner struct {
	opt   Options
	cl    *ingestclient.Client
	sum   *Summary
	input string
}

func (r *runner) run(ctx context.Context) error {
	switch scheme, rest, _ := strings.Cut(r.input, "://"); scheme {
	case "kafka":
		brokers, name, ok := strings.Cut(rest, "/")
		if !ok || brokers == "" || name == "" {
			return errors.New("want kafka://broker:port[,broker:port]/topic")
		}
		return r.kafka(ctx, strings.Split(brokers, ","), name)
	case "s3":
		return r.s3(ctx)
	default:
		f, err := os.Open(r.input)
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }()
		return r.csv(ctx, f, filepath.Base(r.input))
	}
}

// s3 keeps the object in a temporary file: it is read twice, once for its hash.
func (r *runner) s3(ctx context.Context) error {
	u, err := url.Parse(r.input)
	if err != nil {
		return err
	}
	cfg := r.opt.S3
	cfg.URL = "s3://" + u.Host
	b, err := objstore.Open(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() { _ = b.Close() }()
	data, _, err := b.Get(ctx, strings.TrimPrefix(u.Path, "/"), 1<<30)
	if err != nil {
		return err
	}
	return r.csv(ctx, strings.NewReader(string(data)), path.Base(u.Path))
}

func (r *runner) csv(ctx context.Context, in io.ReadSeeker, name string) error {
	h := sha256.New()
	total, err := io.Copy(h, in)
	if err != nil {
		return err
	}
	if _, err := in.Seek(0, io.SeekStart); err != nil {
		return err
	}
	gateway := r.opt.Gateway
	if gateway == "" {
		gateway = "replay-" + hex.EncodeToString(h.Sum(nil)[:6])
	}
	equipment := r.opt.Equipment
	if equipment == "" {
		equipment = Identifier(strings.TrimSuffix(name, path.Ext(name)))
	}
	counted := &csvfile.Counter{R: in}
	rows, err := csvfile.NewReader(counted, r.opt.CSV)
	if err != nil {
		return err
	}
	sequences := map[string]uint64{}
	pace := pacer{speed: r.opt.Speed}
	var shift time.Duration
	for n := 0; ; n++ {
		row, err := rows.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		at := row.Time
		if r.opt.ShiftToNow {
			if n == 0 {
				shift = time.Since(at).Truncate(time.Second)
			}
			at = at.Add(shift)
		}
		machine := equipment
		if row.Equipment != "" {
			machine = Identifier(row.Equipment)
		}
		if err := pace.wait(ctx, row.Time); err != nil {
			return err
		}
		sequences[machine]++
		f := frame.New(machine, gateway, sequences[machine], at, rows.Sensors, row.Values)
		ref := ingestclient.Ref{EquipmentID: machine, GatewayID: gateway, Sequence: sequences[machine]}
		if err := r.cl.SendEncoded(ctx, ref, f.AppendTo(nil)); err != nil {
			return fmt.Errorf("line %d: %w", row.Line, err)
		}
		r.sum.Rows++
		r.sum.Values += len(row.Values)
		r.seen(at)
		if r.opt.Progress != nil && n%256 == 0 {
			r.opt.Progress(r.input, counted.N, total)
		}
	}
	if r.opt.Progress != nil {
		r.opt.Progress(r.input, total, total)
	}
	return nil
}

func (r *runner) seen(at time.Time) {
	if r.sum.First.IsZero() || at.Before(r.sum.First) {
		r.sum.First = at
	}
	if at.After(r.sum.Last) {
		r.sum.Last = at
	}
}

// Identifier is s with the characters that no id may hold replaced.
func Identifier(s string) string {
	s = strings.Map(func(c rune) rune {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '.', c == '_', c == ':', c == '-':
			return c
		}
		return '_'
	}, s)
	if s == "" {
		return "unnamed"
	}
	return s[:min(len(s), 128)]
}

// pacer holds rows back so that they leave at the pace they were recorded at.
type pacer struct {
	speed float64
	began time.Time
	first time.Time
}

func (p *pacer) wait(ctx context.Context, at time.Time) error {
	if p.speed <= 0 {
		return ctx.Err()
	}
	if p.first.IsZero() {
		p.began, p.first = time.Now(), at
	}
	due := p.began.Add(time.Duration(float64(at.Sub(p.first)) / p.speed))
	d := time.Until(due)
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
