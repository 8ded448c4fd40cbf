package load

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tocsin-io/tocsin/pkg/frame"
	"github.com/tocsin-io/tocsin/pkg/topic"
)

type frameID struct {
	machine  int
	sequence uint64
}

// scanFrames calls each for every frame of the run's machines that Kafka has.
func (r *restoreRun) scanFrames(ctx context.Context, each func(frameID)) error {
	var f frame.Frame
	return r.scan(ctx, topic.Frames, nil, func(rec *kgo.Record) error {
		if rec.Attrs.IsControl() || topic.Type(rec) != topic.TypeFrame {
			return nil
		}
		if err := f.Unmarshal(rec.Value); err != nil {
			return err
		}
		machine, ok := r.fleet.machineOf(f.EquipmentID)
		if !ok {
			return fmt.Errorf("a frame of a machine that is not ours: %q", f.EquipmentID)
		}
		each(frameID{machine, f.Sequence})
		return nil
	})
}

// stateSize reads processor.state.v1 as a restore does and adds up.
func (r *restoreRun) stateSize(ctx context.Context) (StateSize, error) {
	type key struct {
		partition int32
		key       string
	}
	newest := map[key]int{}
	var raw int64
	s := StateSize{}
	err := r.scan(ctx, topic.State, nil, func(rec *kgo.Record) error {
		if rec.Attrs.IsControl() {
			return nil
		}
		s.Records++
		n := len(rec.Key) + len(rec.Value)
		raw += int64(n)
		newest[key{rec.Partition, string(rec.Key)}] = n
		return nil
	})
	if err != nil {
		return s, err
	}
	live := 0
	for _, n := range newest {
		live += n
	}
	s.LiveMB, s.RawMB, s.Keys = float64(live)/1e6, float64(raw)/1e6, len(newest)
	s.OnDiskMB = r.onDisk(topic.State)
	return s, nil
}

// onDisk is what the broker's segments of a topic take, in MB.
func (w *World) onDisk(name string) float64 {
	files, err := filepath.Glob(filepath.Join(filepath.Dir(w.Stack.ConfigFile()), "data", "kafka-1", name+"-*", "*.log"))
	if err != nil {
		return 0
	}
	var sum int64
	for _, f := range files {
		if st, err := os.Stat(f); err == nil {
			sum += st.Size()
		}
	}
	return float64(sum) / 1e6
}

// newSnapshots counts the machines' records that came to the state topic since the last call, and moves from on.
func (r *restoreRun) newSnapshots(ctx context.Context, cl *kgo.Client, from map[int32]int64) (int, error) {
	to, err := ends(ctx, cl, topic.State)
	if err != nil {
		return 0, err
	}
	n := 0
	if len(from) > 0 {
		err = r.scan(ctx, topic.State, maps.Clone(from), func(rec *kgo.Record) error {
			if topic.Type(rec) == topic.TypeSnapshot {
				n++
			}
			return nil
		})
	} else {
		n = 1
	}
	maps.Copy(from, to)
	return n, err
}

func fileSize(path string) int64 {
	st, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return st.Size()
}

// restoreLog are the processor's log lines about its restore, from an offset of its log on.
func restoreLog(path string, from int64) ([]json.RawMessage, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	if fileSize(path) >= from { // else it was rotated at the start
		if _, err := f.Seek(from, io.SeekStart); err != nil {
			return nil, err
		}
	}
	var out []json.RawMessage
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if line := lines.Bytes(); json.Valid(line) && strings.Contains(string(line), "restor") {
			out = append(out, slices.Clone(line))
		}
	}
	return out, lines.Err()
}

// stepsOf adds up what the partitions' log lines say: how long each step took in the slowest partition, and in all of them together.
func stepsOf(lines []json.RawMessage, began time.Time) []RestoreStepSeconds {
	sums, worst := map[string]float64{}, map[string]float64{}
	var firstBegun, lastDone float64
	for _, line := range lines {
		var fields map[string]any
		if err := json.Unmarshal(line, &fields); err != nil {
			continue
		}
		at := 0.0
		if s, ok := fields["time"].(string); ok {
			if t, err := time.Parse(time.RFC3339Nano, s); err == nil {
				at = t.Sub(began).Seconds()
			}
		}
		switch fields["msg"] {
		case "restoring partition":
			if firstBegun == 0 || at < firstBegun {
				firstBegun = at
			}
		case "partition restored":
			lastDone = max(lastDone, at)
			for name, v := range fields {
				if step, ok := strings.CutSuffix(name, "_seconds"); ok {
					if seconds, ok := v.(float64); ok {
						sums[step] += seconds
						worst[step] = max(worst[step], seconds)
					}
				}
			}
		}
	}
	out := []RestoreStepSeconds{
		{Step: "start, join the group, first partition begins", Worst: firstBegun},
		{Step: "restore, first begin to last end", Worst: lastDone - firstBegun},
	}
	for _, name := range slices.Sorted(maps.Keys(sums)) {
		out = append(out, RestoreStepSeconds{Step: name, Worst: worst[name], Sum: sums[name]})
	}
	return out
}

// judge holds what was measured against the promise and fills the table.
func (r *restoreRun) judge() {
	o, rep := &r.out, r.report
	rep.row("state", fmt.Sprintf("%d machines of %d sensors, %d bytes each", o.Machines, r.cfg.Sensors, o.PerMachine))
	rep.row("kill", "live MB", "raw MB", "on disk MB", "ready s", "fresh frame judged s", "in all partitions s", "its CPU s", "peak MB", "other programs")
	for i := range o.Kills {
		k := &o.Kills[i]
		o.WorstReadyS, o.WorstJudgedS = max(o.WorstReadyS, k.Ready), max(o.WorstJudgedS, k.JudgedAll)
		rep.row(i+1, fmt.Sprintf("%.0f", k.State.LiveMB), fmt.Sprintf("%.0f", k.State.RawMB), fmt.Sprintf("%.0f", k.State.OnDiskMB), k.Ready, k.Judged, k.JudgedAll, k.CPUSeconds, k.PeakMB, fmt.Sprintf("%.0f %%", k.CPU["others"]))
		rep.Machine.OthersCPU = max(rep.Machine.OthersCPU, k.CPU["others"])
		rep.brokenIf(k.Ready > r.cfg.Target.Seconds(), "kill %d: ready after %.1f s", i+1, k.Ready)
		rep.brokenIf(k.JudgedAll > r.cfg.Target.Seconds(), "kill %d: every partition judges after %.1f s", i+1, k.JudgedAll)
		rep.brokenIf(r.cfg.CapMB > 0 && k.PeakMB > r.cfg.CapMB, "kill %d: %d MB resident, %d are allowed", i+1, k.PeakMB, r.cfg.CapMB)
		rep.brokenIf(k.State.LiveMB < float64(r.cfg.StateMB), "kill %d: the state had %.0f MB only", i+1, k.State.LiveMB)
	}
	if len(o.Kills) > 0 {
		rep.row("steps of the last, s", "slowest partition", "all added up")
		for _, s := range o.Kills[len(o.Kills)-1].Steps {
			sum := ""
			if s.Sum > 0 {
				sum = fmt.Sprintf("%.2f", s.Sum)
			}
			rep.row("  "+s.Step, fmt.Sprintf("%.2f", s.Worst), sum)
		}
	}
	rep.row("frames", o.Sent, "judged", o.Judged, "lost", o.Lost, "doubled", o.Doubled)
	rep.brokenIf(o.Lost > 0 || o.Doubled > 0, "%d frames lost, %d doubled", o.Lost, o.Doubled)
	rep.brokenIf(len(o.Kills) == 0, "nothing was killed")
}
