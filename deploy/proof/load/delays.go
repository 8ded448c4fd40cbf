package load

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tocsin-io/tocsin/pkg/topic"
)

// delay is of one frame, from the broker's time of it.
type delay struct {
	machine   int // -1: the hot one
	partition int32
	frameAt   int64 // ms since 1970
	judged    int32 // ms until its reading stood in the log
	visible   int32 // ms until the transaction of its reading was committed: then consumers see it
}

// readDelays reads every reading from the given offsets on. A reading becomes visible with the marker that ends its
// transaction, which stands behind it in the same partition; one processor writes there, so the next marker is its own.
func (w *World) readDelays(ctx context.Context, from map[int32]int64, machineOf func(id []byte) int) ([]delay, error) {
	var out []delay
	open := map[int32][]int{} // delays that wait for their marker
	var rd reading
	err := w.scan(ctx, topic.Readings, from, func(r *kgo.Record) error {
		if r.Attrs.IsControl() {
			for _, i := range open[r.Partition] {
				out[i].visible = int32(r.Timestamp.UnixMilli() - out[i].frameAt)
			}
			open[r.Partition] = open[r.Partition][:0]
			return nil
		}
		if topic.Type(r) != topic.TypeReading {
			return nil
		}
		if err := rd.decode(r); err != nil {
			return err
		}
		at := rd.frameAt.UnixMilli()
		open[r.Partition] = append(open[r.Partition], len(out))
		out = append(out, delay{
			machine: machineOf(rd.frame.EquipmentID), partition: r.Partition, frameAt: at, judged: int32(r.Timestamp.UnixMilli() - at), visible: -1,
		})
		return nil
	})
	return out, err
}

// Quantiles of delays, in milliseconds.
type Quantiles struct {
	Frames     int   `json:"frames"`
	JudgedP50  int32 `json:"judged_p50_ms"`
	JudgedP99  int32 `json:"judged_p99_ms"`
	JudgedMax  int32 `json:"judged_max_ms"`
	VisibleP50 int32 `json:"visible_p50_ms"`
	VisibleP99 int32 `json:"visible_p99_ms"`
	VisibleMax int32 `json:"visible_max_ms"`
}

// quantiles of those delays that belong, of frames in [from, to).
func quantiles(all []delay, from, to time.Time, belongs func(*delay) bool) Quantiles {
	lo, hi := from.UnixMilli(), to.UnixMilli()
	var judged, visible []int32
	for i := range all {
		if d := &all[i]; d.frameAt >= lo && d.frameAt < hi && belongs(d) {
			judged = append(judged, d.judged)
			visible = append(visible, d.visible)
		}
	}
	slices.Sort(judged)
	slices.Sort(visible)
	return Quantiles{
		Frames:    len(judged),
		JudgedP50: quantile(judged, 0.5), JudgedP99: quantile(judged, 0.99), JudgedMax: quantile(judged, 1),
		VisibleP50: quantile(visible, 0.5), VisibleP99: quantile(visible, 0.99), VisibleMax: quantile(visible, 1),
	}
}

// quantile of sorted numbers, by the nearest rank; the zero value of none.
func quantile[T cmp.Ordered](sorted []T, q float64) T {
	var none T
	if len(sorted) == 0 {
		return none
	}
	return sorted[max(0, min(int(q*float64(len(sorted))+0.999999)-1, len(sorted)-1))]
}
