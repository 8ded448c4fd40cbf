package load

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tocsin-io/tocsin/pkg/topic"
)

type restoreRun struct {
	*World
	cfg    RestoreConfig
	fleet  *fleet
	seq    []uint64 // last sequence of each machine
	out    RestoreMeasured
	report *Report
}

// Restore runs the scenario. The error says that it could not be carried out; broken promises are in the report.
func Restore(ctx context.Context, w *World, cfg RestoreConfig) (*Report, error) {
	r := &restoreRun{
		World: w, cfg: cfg, fleet: newFleet("press", cfg.Sensors),
		report: newReport("restore", fmt.Sprintf("a processor with %d MB of state that is killed judges again within %s", cfg.StateMB, cfg.Target), cfg),
	}
	if err := r.makeState(ctx); err != nil {
		return nil, fmt.Errorf("restore: make the state: %w", err)
	}
	if err := r.kills(ctx); err != nil {
		return nil, fmt.Errorf("restore: %w", err)
	}
	if err := r.check(ctx); err != nil {
		return nil, fmt.Errorf("restore: %w", err)
	}
	r.judge()
	r.report.end(r.out)
	return r.report, nil
}

// guessedBytes is how large the state of a machine of ten sensors is after an hour. It says how many machines are tried first.
const guessedBytes = 9_800

// makeState has the processor judge frames of as many machines as it takes, and waits until everything is saved.
func (r *restoreRun) makeState(ctx context.Context) error {
	undo, err := withEnv(map[string]string{
		// Only while the state is made: everything is saved soon, and VictoriaMetrics is not flooded with the past.
		"TOCSIN_STREAM_PROCESSOR_SNAPSHOT_MAX_AGE":            "3s",
		"TOCSIN_STREAM_PROCESSOR_VICTORIA_METRICS_PER_SENSOR": "false",
	})
	if err != nil {
		return err
	}
	defer undo()
	if err := r.Stack.Up(ctx); err != nil {
		return err
	}
	if err := r.watchProcessor(ctx); err != nil {
		return err
	}
	began := time.Now()
	size := StateSize{}
	// Somewhat more: states shrink and grow by a little while frames come.
	for want := 1.02 * float64(r.cfg.StateMB); size.LiveMB < want; {
		more := int(want * 1e6 / guessedBytes)
		if size.Keys > 0 {
			more = int((want-size.LiveMB)/size.LiveMB*float64(len(r.seq))*1.01) + 1
		}
		if err := r.judgeMachines(ctx, more); err != nil {
			return err
		}
		if size, err = r.saved(ctx); err != nil {
			return err
		}
		r.say("%d machines: %.0f MB of state live, %.0f MB in the topic", len(r.seq), size.LiveMB, size.RawMB)
	}
	r.out.Machines, r.out.MakingS = len(r.seq), time.Since(began).Seconds()
	r.out.PerMachine = int64(size.LiveMB*1e6) / int64(len(r.seq))
	r.watch(nil)
	return r.Stack.Stop(ctx, "stream-processor")
}

func (r *restoreRun) watchProcessor(ctx context.Context) error {
	pids, err := r.pids(ctx, "stream-processor")
	r.watch(pids)
	return err
}

// Each machine has sent samples of so many windows, in frames of so many samples, 5 s of event time with perWindow samples.
const (
	perWindow  = 4
	windowTime = 5 * time.Second
	perFrame   = 48 // samples
)

// judgeMachines sends the frames of machines that were not there before.
func (r *restoreRun) judgeMachines(ctx context.Context, more int) error {
	cl, err := r.producer(20 * time.Millisecond)
	if err != nil {
		return err
	}
	defer cl.Close()
	first := len(r.seq)
	r.seq = append(r.seq, make([]uint64, more)...)
	frames := r.cfg.Windows * perWindow / perFrame
	step := windowTime / perWindow
	start := time.Now().Add(-time.Duration(r.cfg.Windows) * windowTime).Truncate(windowTime)
	var p produced
	var wg sync.WaitGroup
	workers := runtime.NumCPU()
	// The machines' frames in two rounds, so that states are saved several times: a topic of compacted states that were all
	// written once would be read quicker than any real one.
	for n := range workers {
		wg.Go(func() {
			m := r.fleet.maker(uint64(first + n))
			for from := 0; from < frames; from += (frames + 1) / 2 {
				for machine := first + n; machine < first+more && ctx.Err() == nil && p.err() == nil; machine += workers {
					for f := from; f < min(frames, from+(frames+1)/2); f++ {
						at := start.Add(time.Duration(f*perFrame) * step)
						r.seq[machine]++
						cl.Produce(ctx, record(m.frame(machine, r.seq[machine], at, perFrame, step)), p.promise)
					}
				}
			}
		})
	}
	wg.Wait()
	r.out.Frames += more * frames
	return errors.Join(cl.Flush(ctx), p.err(), ctx.Err())
}

// saved waits until the processor has judged all, closed the idle windows, and saved every machine; then it measures the state.
func (r *restoreRun) saved(ctx context.Context) (StateSize, error) {
	cl, err := r.client()
	if err != nil {
		return StateSize{}, err
	}
	defer cl.Close()
	to, err := ends(ctx, cl, topic.Frames)
	if err != nil {
		return StateSize{}, err
	}
	err = r.until(ctx, r.cfg.Patience, "the processor has judged all", func() (bool, error) { return consumed(ctx, cl, "stream-processor", topic.Frames, to) })
	if err != nil {
		return StateSize{}, err
	}
	// The last window of each machine is closed by a tick 10 s later; when nothing but meta records has come for longer, all is saved.
	quiet := time.Now()
	size := StateSize{}
	from := map[int32]int64{}
	err = r.until(ctx, r.cfg.Patience, "everything is saved", func() (bool, error) {
		if err := sleep(ctx, r.cfg.Quiet/10); err != nil {
			return false, err
		}
		snapshots, err := r.newSnapshots(ctx, cl, from)
		if err != nil {
			return false, err
		}
		if snapshots > 0 {
			quiet = time.Now()
		}
		return time.Since(quiet) > r.cfg.Quiet, nil
	})
	if err == nil {
		size, err = r.stateSize(ctx)
	}
	return size, err
}

// kills starts the processor as it is configured to run, keeps frames coming, kills it, and measures what follows, again and again.
func (r *restoreRun) kills(ctx context.Context) error {
	env := map[string]string{"TOCSIN_STREAM_PROCESSOR_VICTORIA_METRICS_PER_SENSOR": "false"}
	if r.cfg.MemoryLimit != "" {
		env["TOCSIN_PROCESS_MEMORY_LIMIT"] = r.cfg.MemoryLimit
	}
	if r.cfg.Profile != "" {
		env["TOCSIN_STREAM_PROCESSOR_HTTP_PPROF"] = "true"
	}
	undo, err := withEnv(env)
	if err != nil {
		return err
	}
	defer undo()
	if err := r.Stack.Start(ctx, "stream-processor"); err != nil {
		return err
	}
	for n := range r.cfg.Repeats {
		k, err := r.kill(ctx)
		if err != nil {
			return fmt.Errorf("kill %d: %w", n+1, err)
		}
		r.say("kill %d: ready after %.2f s, first fresh frame judged after %.2f s, all partitions after %.2f s, %d MB at most", n+1, k.Ready, k.Judged, k.JudgedAll, k.PeakMB)
		r.out.Kills = append(r.out.Kills, *k)
	}
	return nil
}

// kill lets frames come for a while, kills the processor amid them, starts it again while they go on, and measures.
func (r *restoreRun) kill(ctx context.Context) (*RestoreKill, error) {
	cl, err := r.producer(0)
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	k := &RestoreKill{}
	if k.State, err = r.stateSize(ctx); err != nil {
		return nil, err
	}
	from, err := ends(ctx, cl, topic.Readings)
	if err != nil {
		return nil, err
	}
	batches := r.live(r.cfg.LiveFor + 2*r.cfg.Target)
	runtime.GC()
	sending, stop := context.WithCancel(ctx)
	defer stop()
	sent := make(chan error, 1)
	go func() { sent <- paced(sending, cl, batches, pace) }()
	if err := sleep(ctx, r.cfg.LiveFor); err != nil {
		return nil, err
	}
	if err := r.Stack.Kill("stream-processor", syscall.SIGKILL); err != nil {
		return nil, err
	}
	killed := time.Now()
	r.watch(nil)
	pids, err := r.pids(ctx)
	if err != nil {
		return nil, err
	}
	cpu := startShare(pids)
	logFrom := fileSize(r.Stack.LogFile("stream-processor"))
	began := time.Now()
	started := make(chan error, 1)
	go func() { started <- r.Stack.Start(ctx, "stream-processor") }()
	profiled := r.profile(ctx)
	if err := r.watchReady(ctx, began, k); err != nil {
		return nil, err
	}
	k.Ready = time.Since(began).Seconds()
	if err := <-started; err != nil {
		return nil, err
	}
	pids, err = r.pids(ctx, "stream-processor")
	if err != nil {
		return nil, err
	}
	r.watch(pids)
	cpu.add("stream-processor", pids["stream-processor"])
	k.CPU = cpu.end()
	k.CPUSeconds = float64(cpuTicks(pids["stream-processor"])) / ticksPerSecond
	k.PeakMB = peakMB(pids["stream-processor"])
	if k.Metrics, err = r.metrics(ctx, "stream-processor", "tocsin_processor_restore_"); err != nil {
		return nil, err
	}
	if err := sleep(ctx, 2*time.Second); err != nil {
		return nil, err
	}
	if err := <-profiled; err != nil {
		return nil, err
	}
	stop()
	if err := <-sent; err != nil {
		return nil, err
	}
	to, err := ends(ctx, cl, topic.Frames)
	if err != nil {
		return nil, err
	}
	err = r.until(ctx, r.cfg.Patience, "the processor has judged all", func() (bool, error) { return consumed(ctx, cl, "stream-processor", topic.Frames, to) })
	if err != nil {
		return nil, err
	}
	if k.Logged, err = restoreLog(r.Stack.LogFile("stream-processor"), logFrom); err != nil {
		return nil, err
	}
	k.Steps = stepsOf(k.Logged, began)
	return k, r.firstJudged(ctx, from, killed, began, k)
}

// profile takes a profile of the processor's first seconds, if that is asked for.
func (r *restoreRun) profile(ctx context.Context) <-chan error {
	done := make(chan error, 1)
	if r.cfg.Profile == "" {
		done <- nil
		return done
	}
	go func() {
		for ctx.Err() == nil {
			status, body, err := get(ctx, r.url("stream-processor", "/debug/pprof/profile?seconds=8"))
			if err == nil && status == http.StatusOK {
				done <- os.WriteFile(r.cfg.Profile, body, 0o600)
				return
			}
			_ = sleep(ctx, 10*time.Millisecond) // it is not listening yet
		}
		done <- ctx.Err()
	}()
	return done
}

// live makes frames of all machines in turn, for so long. Sequences are given when they are made: those that are not sent before the caller
// stops are numbers left out, as of a gateway that lost power.
func (r *restoreRun) live(length time.Duration) [][]*kgo.Record {
	ticks := int(length / pace)
	perTick := max(1, r.cfg.PerS*int(pace)/int(time.Second))
	out := make([][]*kgo.Record, ticks)
	m := r.fleet.maker(uint64(r.out.Frames))
	began := time.Now()
	for i := range out {
		for range perTick {
			machine := r.out.next % len(r.seq)
			r.out.next++
			r.seq[machine]++
			out[i] = append(out[i], record(m.frame(machine, r.seq[machine], began.Add(time.Duration(i)*pace), 1, 0)))
		}
	}
	return out
}

// watchReady polls until /health/ready answers 200, and notes each thing that it said on the way.
func (r *restoreRun) watchReady(ctx context.Context, began time.Time, k *RestoreKill) error {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Patience)
	defer cancel()
	last := ""
	for {
		status, body, err := get(ctx, r.url("stream-processor", "/health/ready"))
		switch {
		case status == http.StatusOK:
			return nil
		case ctx.Err() != nil:
			return fmt.Errorf("not ready: %s: %w", last, ctx.Err())
		case err == nil && string(body) != last:
			last = string(body)
			k.Said = append(k.Said, RestoreStep{At: time.Since(began).Seconds(), What: last})
		}
		if err := sleep(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
}

// firstJudged finds in the log when the first frame that came after the kill was judged, and when each partition had judged one: the
// time of the marker that committed its reading.
func (r *restoreRun) firstJudged(ctx context.Context, from map[int32]int64, killed, began time.Time, k *RestoreKill) error {
	delays, err := r.readDelays(ctx, from, func([]byte) int { return 0 })
	if err != nil {
		return err
	}
	first := map[int32]int64{}
	for i := range delays {
		d := &delays[i]
		if d.frameAt <= killed.UnixMilli() {
			continue
		}
		at := d.frameAt + int64(d.visible)
		if old, ok := first[d.partition]; !ok || at < old {
			first[d.partition] = at
		}
	}
	if len(first) == 0 {
		return errors.New("no frame that came after the kill was judged")
	}
	all := slices.Sorted(maps.Values(first))
	since := func(ms int64) float64 { return time.UnixMilli(ms).Sub(began).Seconds() }
	k.Judged, k.JudgedAll, k.Partitions = since(all[0]), since(all[len(all)-1]), len(all)
	return nil
}

// check counts: every frame that Kafka has is judged once, whatever was killed.
func (r *restoreRun) check(ctx context.Context) error {
	sent, judged := map[frameID]uint8{}, map[frameID]uint8{}
	err := r.scanFrames(ctx, func(id frameID) { sent[id]++ })
	if err != nil {
		return err
	}
	err = r.scanReadings(ctx, nil, func(rd *reading) error {
		machine, ok := r.fleet.machineOf(rd.frame.EquipmentID)
		if !ok {
			return fmt.Errorf("a reading of a machine that sent nothing: %q", rd.frame.EquipmentID)
		}
		judged[frameID{machine, rd.frame.Sequence}]++
		return nil
	})
	if err != nil {
		return err
	}
	for id, n := range judged {
		if n > 1 || sent[id] == 0 {
			r.out.Doubled++
		}
	}
	for id := range sent {
		if judged[id] == 0 {
			r.out.Lost++
		}
	}
	r.out.Sent, r.out.Judged = len(sent), len(judged)
	return nil
}
