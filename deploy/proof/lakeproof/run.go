package lakeproof

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/tocsin-io/tocsin/deploy/local/stack"
	"github.com/tocsin-io/tocsin/pkg/lake"
	"github.com/tocsin-io/tocsin/pkg/objstore"
	coldpathwriter "github.com/tocsin-io/tocsin/services/cold-path-writer"
)

// Config of a run.
type Config struct {
	Sizes Sizes
	// Kills of the writer at least, and of the committer, while the readings are on their way.
	Kills, CommitterKills int
	// Python has duckdb, pyarrow, chdb, pyiceberg and pyspark.
	Python string
	// Jars of Spark: its Iceberg runtime and SQLite's driver.
	Jars []string
	// Repo is the repository's root: binaries and docs/LAKE.md.
	Repo string
	// Dir holds everything that the run keeps.
	Dir  string
	Seed uint64
	// Progress gets a line for each step.
	Progress func(string)
}

// DefaultConfig is the full run: 10 million readings.
func DefaultConfig() Config {
	return Config{Sizes: Sizes{Machines: 1000, Sensors: 10, Frames: 20, Samples: 50, Rate: 60_000}, Kills: 40, CommitterKills: 15, Seed: 1}
}

const (
	writer    = "cold-path-writer"
	committer = "iceberg-committer"
	patience  = 10 * time.Minute
)

// proof is a run under way.
type proof struct {
	cfg    Config
	dir    string
	lake   string // folder
	store  objstore.Config
	bucket objstore.Bucket
	stack  *stack.Stack
	report *Report
	began  time.Time
	base   int64
	truth  [][]any
}

func (p *proof) say(format string, args ...any) {
	if p.cfg.Progress != nil {
		p.cfg.Progress(fmt.Sprintf(format, args...))
	}
}

// Run is the whole proof. An error means that it could not be made; broken promises stand in the report.
func Run(ctx context.Context, cfg Config) (_ *Report, err error) {
	p := &proof{cfg: cfg, dir: cfg.Dir, lake: filepath.Join(cfg.Dir, "lake"), began: time.Now().UTC(), report: newReport(cfg)}
	p.store = objstore.DefaultConfig(p.lake)
	p.stack, err = stack.New(stack.Options{
		Repo: cfg.Repo, Dir: filepath.Join(cfg.Dir, "stack"), PortOffset: stack.AutoPorts, Ephemeral: true, HealthTimeout: 3 * time.Minute,
		Only: []string{"ingest-gateway", "stream-processor", writer, committer},
		Config: map[string]any{
			"cold_path_writer": map[string]any{
				"lake": map[string]any{"url": p.store.URL, "access_key": "", "secret_key": "", "endpoint": ""}, "chunk": map[string]any{"interval": "5s"},
			},
			"iceberg_committer": map[string]any{
				"lake":    map[string]any{"url": p.store.URL, "access_key": "", "secret_key": "", "endpoint": ""},
				"iceberg": map[string]any{"catalog": "sqlite://" + p.catalog(), "interval": "2s"},
			},
		},
	})
	if err != nil {
		return nil, err
	}
	defer func() {
		down, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		err = errors.Join(err, p.stack.Down(down))
	}()
	if err := p.stack.Up(ctx); err != nil {
		return nil, err
	}
	if p.bucket, err = objstore.Open(ctx, p.store); err != nil {
		return nil, err
	}
	defer func() { _ = p.bucket.Close() }()
	for _, step := range []func(context.Context) error{p.replay, p.settle, p.asWritten, p.merged, p.retained, p.evolved, p.recipes} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	p.report.end()
	return p.report, nil
}

func (p *proof) catalog() string { return filepath.Join(p.lake, "tocsin", "_iceberg", "catalog.db") }

// replay sends everything while writer and committer are killed.
func (p *proof) replay(ctx context.Context) error {
	begin := p.began.Add(-time.Duration(p.cfg.Sizes.Frames*p.cfg.Sizes.Samples+60) * time.Second).Truncate(time.Second)
	p.base = begin.UnixMicro()
	p.truth = p.cfg.Sizes.truth(begin, p.base)
	p.say("%d readings go through the gateway", p.cfg.Sizes.Readings())
	stop := make(chan struct{})
	killed := make(chan error, 1)
	began := time.Now()
	go func() { killed <- p.kill(ctx, stop) }()
	last := time.Now()
	err := p.cfg.Sizes.feed(ctx, "grpc://"+p.stack.Addr("ingest-gateway-grpc"), begin, func(sent int) {
		if time.Since(last) > 10*time.Second {
			last = time.Now()
			p.say("  %d sent", sent)
		}
	})
	p.report.Replay.SentSeconds = round(time.Since(began))
	close(stop)
	if err := errors.Join(err, <-killed); err != nil {
		return err
	}
	err = p.until(ctx, "all readings in the lake", func() (bool, error) {
		n, err := p.rows(ctx, "readings")
		return n >= int64(p.cfg.Sizes.Readings()), err
	})
	p.report.Replay.StoredSeconds = round(time.Since(began))
	return err
}

// kill ends writer and committer by SIGKILL, again and again, and starts them again: until stop, and as often as was asked for.
func (p *proof) kill(ctx context.Context, stop <-chan struct{}) error {
	rng := rand.New(rand.NewPCG(p.cfg.Seed, 6))
	r := &p.report.Replay
	for {
		wait := time.NewTimer(time.Second + time.Duration(rng.Int64N(int64(3*time.Second))))
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-wait.C:
		}
		select {
		case <-stop:
			if r.WriterKills >= p.cfg.Kills && r.CommitterKills >= p.cfg.CommitterKills {
				return nil
			}
		default:
		}
		name, count := writer, &r.WriterKills
		if rng.IntN(4) == 0 || r.WriterKills >= p.cfg.Kills && r.CommitterKills < p.cfg.CommitterKills {
			name, count = committer, &r.CommitterKills
		}
		if err := p.stack.Kill(name, syscall.SIGKILL); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return err
		}
		*count++
		if err := p.stack.Start(ctx, name); err != nil {
			return err
		}
	}
}

// rows is what the files that count hold by their metadata.
func (p *proof) rows(ctx context.Context, table string) (n int64, err error) {
	v, err := lake.Open(ctx, p.bucket, table)
	if err != nil {
		return 0, err
	}
	for e, err := range v.Files(ctx, time.Time{}, time.Time{}) {
		if err != nil {
			return 0, err
		}
		if e.Merged {
			n += v.Manifest.Files()[e.Key].Rows
			continue
		}
		info, err := p.bucket.Head(ctx, e.Key)
		if err != nil {
			return 0, err
		}
		o, err := e.Raw.WithMetadata(info.Metadata)
		if err != nil {
			return 0, err
		}
		n += o.Rows
	}
	return n, nil
}

// settle ends what writes, when nothing comes any more.
func (p *proof) settle(ctx context.Context) error {
	for _, name := range []string{"ingest-gateway", "stream-processor"} {
		if err := p.stack.Stop(ctx, name); err != nil {
			return err
		}
	}
	was, since := int64(-1), time.Now()
	err := p.until(ctx, "the writer to be done", func() (bool, error) {
		n := int64(0)
		for _, t := range []string{"windows", "anomalies", "alerts", "findings"} {
			rows, err := p.rows(ctx, t)
			if err != nil {
				return false, err
			}
			n += rows
		}
		if n != was {
			was, since = n, time.Now()
		}
		return time.Since(since) > 20*time.Second, nil
	})
	if err != nil {
		return err
	}
	return p.stack.Stop(ctx, writer)
}

// synced waits until the committer has looked at what stands in the lake now.
func (p *proof) synced(ctx context.Context) error {
	now := time.Now()
	return p.until(ctx, "the Iceberg tables to be up to date", func() (bool, error) {
		at := metric(ctx, "http://"+p.stack.Addr(committer)+"/metrics", "tocsin_iceberg_synced_timestamp_seconds")
		return at > float64(now.UnixMilli())/1000+5, nil // a round that began before may have ended after
	})
}

// phase is one reading of everything.
func (p *proof) phase(ctx context.Context, name string, tables []string, extra map[string][]string, audited bool) (map[string]found, error) {
	p.say("%s", name)
	if err := p.synced(ctx); err != nil {
		return nil, err
	}
	ph := &Phase{Name: name, Tables: map[string]int{}}
	p.report.Phases = append(p.report.Phases, ph)
	if audited {
		out, err := p.tocsin(ctx, "lake", "audit")
		p.report.brokenIf(err != nil, "%s: tocsin lake audit: %v: %s", name, err, tail(out, 500))
		ph.Audit = lastLine(out)
	}
	a := ask{Base: p.base, Tables: map[string][]string{}, Catalog: p.catalog(), Warehouse: p.store.URL + "/tocsin/_iceberg", Jars: p.cfg.Jars, Extra: extra}
	for _, t := range tables {
		out, err := p.tocsin(ctx, "lake", "files", t)
		if err != nil {
			return nil, fmt.Errorf("tocsin lake files %s: %w: %s", t, err, out)
		}
		a.Tables[t] = strings.Fields(out)
		ph.Tables[t] = len(a.Tables[t])
	}
	got, err := p.read(ctx, a)
	if err != nil {
		return nil, err
	}
	ph.compare(p.report, got, tables)
	return got, nil
}

// tables of the lake that have files.
func (p *proof) tables(ctx context.Context) ([]string, error) {
	all, err := lake.Tables(ctx, p.bucket)
	return slices.DeleteFunc(all, func(t string) bool { return !slices.Contains(known, t) }), err
}

// known are the tables that read.py knows.
var known = []string{"readings", "windows", "anomalies", "alerts", "findings", "readings_1m", "readings_1h"} //nolint:gochecknoglobals // a constant list

// asWritten: each engine finds what was sent.
func (p *proof) asWritten(ctx context.Context) error {
	tables, err := p.tables(ctx)
	if err != nil {
		return err
	}
	got, err := p.phase(ctx, "as written", tables, nil, true)
	if err != nil {
		return err
	}
	p.matchTruth(got)
	return nil
}

// merged: after the merge of hours the tables are the same, and the rollups hold what the readings do.
func (p *proof) merged(ctx context.Context) error {
	before := p.report.Phases[0]
	later := func() time.Time { return time.Now().Add(4 * time.Hour) }
	o := coldpathwriter.MaintainOptions{Maintenance: coldpathwriter.DefaultMaintenance(), Now: later}
	if err := coldpathwriter.Compact(ctx, p.bucket, o); err != nil {
		return fmt.Errorf("compact: %w", err)
	}
	tables, err := p.tables(ctx)
	if err != nil {
		return err
	}
	got, err := p.phase(ctx, "merged", tables, nil, true)
	if err != nil {
		return err
	}
	p.matchTruth(got)
	now := p.report.Phases[1]
	for t, digest := range before.digests {
		p.report.brokenIf(now.digests[t] != digest, "merged: table %s is not what it was", t)
	}
	p.report.brokenIf(now.Tables["readings"] >= before.Tables["readings"], "merged: %d files of readings, %d before", now.Tables["readings"], before.Tables["readings"])
	for _, t := range []string{"readings_1m", "readings_1h"} {
		count, want := fmt.Sprint(got["DuckDB"].Tables[t]["sum(count)"]), fmt.Sprint(p.present())
		p.report.brokenIf(count != want, "merged: %s counts %s values, the readings have %s", t, count, want)
	}
	return nil
}

// retained: windows are removed by policy, for all readers at once; nothing else changes.
func (p *proof) retained(ctx context.Context) error {
	before := p.report.Phases[1]
	m := coldpathwriter.DefaultMaintenance()
	m.Keep = []coldpathwriter.Keep{{Table: "windows", For: time.Hour}}
	later := func() time.Time { return time.Now().Add(4 * time.Hour) }
	if err := coldpathwriter.Retain(ctx, p.bucket, coldpathwriter.MaintainOptions{Maintenance: m, Now: later}); err != nil {
		return fmt.Errorf("retain: %w", err)
	}
	tables, err := p.tables(ctx)
	if err != nil {
		return err
	}
	got, err := p.phase(ctx, "retention", tables, nil, true)
	if err != nil {
		return err
	}
	p.matchTruth(got)
	now := p.report.Phases[2]
	for e, f := range got {
		p.report.brokenIf(fmt.Sprint(f.Tables["windows"]["rows"]) != "0", "retention: %s still finds %v windows", e, f.Tables["windows"]["rows"])
	}
	for t, digest := range before.digests {
		p.report.brokenIf(t != "windows" && now.digests[t] != digest, "retention: table %s is not what it was", t)
	}
	return nil
}

// tocsin runs a command of the CLI on the lake.
func (p *proof) tocsin(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(p.cfg.Repo, "bin", "tocsin"), append(args, "--data-dir", p.dir)...) //nolint:gosec // ours
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (p *proof) until(ctx context.Context, what string, done func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		ok, err := done()
		if ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waited for %s: %w", what, ctx.Err())
		case <-tick.C:
		}
	}
}

// metric reads one sample of a page; 0 when it cannot be had.
func metric(ctx context.Context, url, name string) float64 {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return 0
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}
	res, err := client.Do(req)
	if err != nil {
		return 0
	}
	defer func() { _ = res.Body.Close() }()
	body, _ := io.ReadAll(io.LimitReader(res.Body, 4<<20))
	for line := range strings.Lines(string(body)) {
		if rest, ok := strings.CutPrefix(line, name+" "); ok {
			var v float64
			_, _ = fmt.Sscan(rest, &v)
			return v
		}
	}
	return 0
}
