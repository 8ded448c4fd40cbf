package load

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tocsin-io/tocsin/pkg/topic"
)

// HotConfig sizes the scenario of the hot machine.
type HotConfig struct {
	Machines int           `json:"machines"`         // all others
	PerS     int           `json:"frames_per_s"`     // of all others together; the hot machine sends as many alone
	Sensors  int           `json:"sensors"`          //
	Phase    time.Duration `json:"phase_ns"`         // length of each phase
	Settle   time.Duration `json:"settle_ns"`        // at the start of a phase, not measured
	Slow     time.Duration `json:"writer_frozen_ns"` // how long the slow consumer stands still; 0: that phase is left out
	Overload bool          `json:"overload"`         // the phase in which the hot machine comes through the gateway, as fast as it can
	// LimitPerS is the gateway's limit for one identity in the overload phase.
	LimitPerS int `json:"gateway_limit_frames_per_s"`
	// Floor is a p99 that is never too long.
	Floor       time.Duration `json:"floor_ns"`
	ProcessorMB int64         `json:"processor_cap_mb"`
	WriterMB    int64         `json:"writer_cap_mb"`
	Patience    time.Duration `json:"-"`
}

// DefaultHot is the size that is promised.
func DefaultHot() HotConfig {
	return HotConfig{
		Machines: 500, PerS: 1000, Sensors: 10, Phase: 60 * time.Second, Settle: 10 * time.Second, Slow: 60 * time.Second,
		Overload: true, LimitPerS: 2000, ProcessorMB: 512, WriterMB: 512, Patience: 5 * time.Minute,
	}
}

// PhaseMeasured is one phase of the run.
type PhaseMeasured struct {
	Name string `json:"name"`
	// Others are all machines but the hot one; Beside are those of them in the hot machine's partition.
	Others  Quantiles          `json:"others"`
	Beside  Quantiles          `json:"others_in_its_partition"`
	Hot     Quantiles          `json:"hot"`
	PeakMB  map[string]int64   `json:"peak_rss_mb"`
	CPU     map[string]float64 `json:"cpu_percent_of_machine"`
	Gateway *GatewayMeasured   `json:"gateway,omitempty"`

	from, to time.Time
}

// HotMeasured is what came out.
type HotMeasured struct {
	Partition int32            `json:"hot_partition"`
	Phases    []*PhaseMeasured `json:"phases"`
	Sent      int              `json:"frames_sent"`
	Judged    int              `json:"frames_judged"`
	Restarts  int              `json:"restarts"`
	LakeRows  int64            `json:"lake_rows"`
	LakeWant  int64            `json:"lake_rows_wanted"`
	CatchUp   float64          `json:"writer_catch_up_seconds"`
}

type hotRun struct {
	*World
	cfg    HotConfig
	fleet  *fleet
	hot    *fleet
	start  map[int32]int64
	pids   map[string]int
	mem    *memory
	out    HotMeasured
	report *Report

	seq    []uint64 // next sequence of each machine
	hotSeq uint64
	maker  *maker
	hotM   *maker
}

// pace is how often frames are sent: those of one tick go together.
const pace = 10 * time.Millisecond

// Hot runs the scenario. The error says that it could not be carried out; broken promises are in the report.
func Hot(ctx context.Context, w *World, cfg HotConfig) (*Report, error) {
	h := &hotRun{
		World: w, cfg: cfg, fleet: newFleet("fan", cfg.Sensors), hot: newFleet("hot", cfg.Sensors), seq: make([]uint64, cfg.Machines),
		report: newReport("hot", "a machine with half of all load at most doubles the others' p99 delay; memory stays under its caps", cfg),
	}
	h.hot.gateway = "hot-gw"
	h.maker, h.hotM = h.fleet.maker(1), h.hot.maker(2)
	h.out.Partition = partitionOf([]byte(h.hot.id(0)))
	undo, err := withEnv(h.env())
	if err != nil {
		return nil, err
	}
	defer undo()
	if err := w.Stack.Up(ctx); err != nil {
		return nil, err
	}
	if h.pids, err = w.pids(ctx, "stream-processor", "cold-path-writer", "ingest-gateway", "alert-router", "realtime-api"); err != nil {
		return nil, err
	}
	w.watch(h.pids)
	h.mem = w.watchMemory(h.pids)
	defer h.mem.stop()
	if err := h.phases(ctx); err != nil {
		return nil, fmt.Errorf("hot: %w", err)
	}
	if err := h.check(ctx); err != nil {
		return nil, fmt.Errorf("hot: %w", err)
	}
	h.judge()
	h.report.end(h.out)
	return h.report, nil
}

func (h *hotRun) env() map[string]string {
	mb := func(n int64) string { return fmt.Sprint(n << 20) }
	env := map[string]string{
		"TOCSIN_COLD_PATH_WRITER_CHUNK_INTERVAL": "10s",
		// The cap holds the records; files on their way and the program itself come on top of it, so the limit is half of the cap.
		"TOCSIN_COLD_PATH_WRITER_CHUNK_MAX_BYTES": mb(h.cfg.WriterMB / 8),
		"TOCSIN_COLD_PATH_WRITER_CHUNK_MAX_ROWS":  "200000",
		"TOCSIN_COLD_PATH_WRITER_MEMORY_LIMIT":    mb(h.cfg.WriterMB / 4),
		// Of every process, 80 % of the smaller cap as its documentation says.
		"TOCSIN_PROCESS_MEMORY_LIMIT": fmt.Sprintf("%dMB", min(h.cfg.ProcessorMB, h.cfg.WriterMB)*8/10),
	}
	if h.cfg.Overload {
		env["TOCSIN_INGEST_GATEWAY_RATE_LIMIT_FRAMES_PER_SECOND"] = fmt.Sprint(h.cfg.LimitPerS)
	}
	return env
}

// phases runs one after the other on the same stack: the others alone, the hot machine beside them, a frozen writer, an overload.
func (h *hotRun) phases(ctx context.Context) error {
	cl, err := h.producer(0)
	if err != nil {
		return err
	}
	defer cl.Close()
	// The first phase warms up: baselines, caches, heap.
	if err := h.phase(ctx, cl, "", false, nil); err != nil {
		return err
	}
	if h.start, err = ends(ctx, cl, topic.Readings); err != nil {
		return err
	}
	if err := h.phase(ctx, cl, "others alone", false, nil); err != nil {
		return err
	}
	if err := h.phase(ctx, cl, "hot machine", true, nil); err != nil {
		return err
	}
	if h.cfg.Slow > 0 {
		if err := h.phase(ctx, cl, "hot machine, writer frozen", true, h.freezeWriter); err != nil {
			return err
		}
	}
	if h.cfg.Overload {
		return h.overload(ctx)
	}
	return nil
}

// batches makes what is sent in one phase, a batch for each pace.
func (h *hotRun) batches(length time.Duration, withHot bool, at time.Time) [][]*kgo.Record {
	ticks := int(length / pace)
	perTick := h.cfg.PerS * int(pace) / int(time.Second)
	out := make([][]*kgo.Record, ticks)
	turn := 0
	for i := range out {
		when := at.Add(time.Duration(i) * pace)
		batch := make([]*kgo.Record, 0, 2*perTick)
		for range perTick {
			machine := turn % h.cfg.Machines
			turn++
			h.seq[machine]++
			batch = append(batch, record(h.maker.frame(machine, h.seq[machine], when, 1, 0)))
			if withHot {
				h.hotSeq++
				// Two samples of one machine at one instant would be odd: the hot one's are apart.
				hotAt := when.Add(pace * time.Duration(len(batch)) / time.Duration(2*perTick+1))
				batch = append(batch, record(h.hotM.frame(0, h.hotSeq, hotAt, 1, 0)))
			}
		}
		h.out.Sent += len(batch)
		out[i] = batch
	}
	return out
}

// phase sends for a while and notes when that was. Frames are made before, for the time at which they will be sent.
func (h *hotRun) phase(ctx context.Context, cl *kgo.Client, name string, withHot bool, meanwhile func(context.Context) error) error {
	length := h.cfg.Settle + h.cfg.Phase
	if name == "" {
		length = h.cfg.Settle
	}
	began := time.Now()
	batches := h.batches(length, withHot, began.Add(time.Duration(float64(length)/20)))
	h.say("phase %q: %d ticks made in %s", name, len(batches), time.Since(began).Round(time.Millisecond))
	p := &PhaseMeasured{Name: name}
	cpu := startShare(h.pids)
	h.mem.take()
	p.from = time.Now().Add(h.cfg.Settle)
	p.to = p.from.Add(h.cfg.Phase)
	other := make(chan error, 1)
	go func() {
		if meanwhile == nil {
			other <- nil
			return
		}
		other <- meanwhile(ctx)
	}()
	err := errors.Join(paced(ctx, cl, batches, pace), <-other)
	if err != nil {
		return fmt.Errorf("phase %q: %w", name, err)
	}
	if name != "" {
		p.PeakMB, p.CPU = h.mem.take(), cpu.end()
		h.out.Phases = append(h.out.Phases, p)
	}
	return h.caughtUp(ctx, cl)
}

// caughtUp waits until the processor has judged all: the next phase must not begin with this one's backlog.
func (h *hotRun) caughtUp(ctx context.Context, cl *kgo.Client) error {
	to, err := ends(ctx, cl, topic.Frames)
	if err != nil {
		return err
	}
	return h.until(ctx, h.cfg.Patience, "the processor has judged all", func() (bool, error) { return consumed(ctx, cl, "stream-processor", topic.Frames, to) })
}

// freezeWriter stops the writer for a while: it stands for any slow consumer.
func (h *hotRun) freezeWriter(ctx context.Context) error {
	if err := sleep(ctx, h.cfg.Settle/2); err != nil {
		return err
	}
	if err := h.Stack.Kill("cold-path-writer", syscall.SIGSTOP); err != nil {
		return err
	}
	err := sleep(ctx, h.cfg.Slow)
	return errors.Join(err, h.Stack.Kill("cold-path-writer", syscall.SIGCONT))
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// check reads what the run left in the log and in the lake.
func (h *hotRun) check(ctx context.Context) error {
	cl, err := h.client()
	if err != nil {
		return err
	}
	defer cl.Close()
	if err := h.caughtUp(ctx, cl); err != nil {
		return err
	}
	delays, err := h.readDelays(ctx, h.start, func(id []byte) int {
		if n, ok := h.fleet.machineOf(id); ok {
			return n
		}
		return -1
	})
	if err != nil {
		return err
	}
	for _, p := range h.out.Phases {
		p.Others = quantiles(delays, p.from, p.to, func(d *delay) bool { return d.machine >= 0 })
		p.Beside = quantiles(delays, p.from, p.to, func(d *delay) bool { return d.machine >= 0 && d.partition == h.out.Partition })
		p.Hot = quantiles(delays, p.from, p.to, func(d *delay) bool { return d.machine < 0 })
	}
	// Everything that was sent is judged once and stands in the lake, the slow writer's part too.
	counts := map[string]int{}
	err = h.scanReadings(ctx, nil, func(rd *reading) error {
		counts[string(rd.frame.EquipmentID)]++
		h.out.Judged++
		return nil
	})
	if err != nil {
		return err
	}
	began := time.Now()
	to, err := ends(ctx, cl, topic.Readings)
	if err != nil {
		return err
	}
	err = h.until(ctx, h.cfg.Patience, "the writer has stored all", func() (bool, error) {
		return consumed(ctx, cl, "cold-path-writer", topic.Readings, to)
	})
	if err != nil {
		return err
	}
	h.out.CatchUp = time.Since(began).Seconds()
	if _, err := h.lakeReadings(func(*lakeRow) error { h.out.LakeRows++; return nil }); err != nil {
		return err
	}
	h.out.LakeWant = int64(h.out.Judged * h.cfg.Sensors)
	now, err := h.World.pids(ctx)
	if err != nil {
		return err
	}
	for name, pid := range h.pids {
		if now[name] != pid {
			h.out.Restarts++
			h.report.brokenIf(true, "%s died or was restarted", name)
		}
	}
	return nil
}

// judge holds what was measured against the promise and fills the table.
func (h *hotRun) judge() {
	r, o := h.report, &h.out
	base := o.Phases[0]
	r.row("phase", "others: frames", "p50", "p99", "max ms", "in its partition: p50", "p99 ms", "hot: p50", "p99 ms", "processor", "writer MB", "other programs")
	for i, p := range o.Phases {
		r.row(p.Name, p.Others.Frames, p.Others.VisibleP50, p.Others.VisibleP99, p.Others.VisibleMax, p.Beside.VisibleP50, p.Beside.VisibleP99,
			p.Hot.VisibleP50, p.Hot.VisibleP99, p.PeakMB["stream-processor"], p.PeakMB["cold-path-writer"], fmt.Sprintf("%.0f %%", p.CPU["others"]))
		r.Machine.OthersCPU = max(r.Machine.OthersCPU, p.CPU["others"])
		r.brokenIf(p.PeakMB["stream-processor"] > h.cfg.ProcessorMB, "%s: the processor had %d MB resident, %d are allowed", p.Name, p.PeakMB["stream-processor"], h.cfg.ProcessorMB)
		r.brokenIf(p.PeakMB["cold-path-writer"] > h.cfg.WriterMB, "%s: the writer had %d MB resident, %d are allowed", p.Name, p.PeakMB["cold-path-writer"], h.cfg.WriterMB)
		if i == 0 {
			continue
		}
		floor := int32(h.cfg.Floor.Milliseconds())
		r.brokenIf(p.Others.VisibleP99 > max(floor, 2*base.Others.VisibleP99), "%s: the others' p99 is %d ms, it was %d ms", p.Name, p.Others.VisibleP99, base.Others.VisibleP99)
		r.brokenIf(p.Beside.VisibleP99 > max(floor, 2*base.Beside.VisibleP99), "%s: in its partition the others' p99 is %d ms, it was %d ms", p.Name, p.Beside.VisibleP99, base.Beside.VisibleP99)
	}
	for _, p := range o.Phases {
		if g := p.Gateway; g != nil {
			r.row("gateway", fmt.Sprintf("hot: %d frames tried, %d taken, %d refused with 429, %d otherwise; the limit is %d a second", g.HotTried, g.HotTaken, g.HotLimited, g.HotOther, h.cfg.LimitPerS))
			r.row("", fmt.Sprintf("others: %d taken, %d refused, p50 %.1f ms, p99 %.1f ms to the answer", g.OthersTaken, g.OthersRefused, g.OthersP50, g.OthersP99))
			r.brokenIf(g.OthersRefused > 0, "overload: %d frames of the others were refused", g.OthersRefused)
			r.brokenIf(g.HotLimited == 0, "overload: the hot machine was not limited")
		}
	}
	r.row("until the reading stands in the log, uncommitted: p50 / p99 / max ms of the others")
	for _, p := range o.Phases {
		r.row("  "+p.Name, "", p.Others.JudgedP50, p.Others.JudgedP99, p.Others.JudgedMax, p.Beside.JudgedP50, p.Beside.JudgedP99)
	}
	r.row("frames sent", o.Sent, "judged", o.Judged, "lake rows", o.LakeRows, "wanted", o.LakeWant, "restarts", o.Restarts)
	r.brokenIf(o.Judged != o.Sent, "%d frames were taken, %d judged", o.Sent, o.Judged)
	r.brokenIf(o.LakeRows != o.LakeWant, "the lake holds %d rows, %d were judged", o.LakeRows, o.LakeWant)
}
