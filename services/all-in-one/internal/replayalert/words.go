package replayalert

import (
	"math"
	"strings"
	"time"

	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
	streamprocessor "github.com/tocsin-io/tocsin/services/stream-processor"
)

func phase(p eventv1.Phase) string {
	return strings.ToLower(strings.TrimPrefix(p.String(), "PHASE_"))
}

func severity(s eventv1.Severity) string {
	return strings.ToLower(strings.TrimPrefix(s.String(), "SEVERITY_"))
}

// known is nil for NaN.
func known(x float64) *float64 {
	if x != x || math.IsInf(x, 0) {
		return nil
	}
	return &x
}

// chance is the p-value of a surprise.
func chance(t float64) *float64 { return known(math.Exp(-t)) }

func explained(x *streamprocessor.Explanation) *Window {
	w := &Window{
		Start: time.UnixMicro(x.StartUS).UTC(), Learning: x.Learning, PValue: known(x.PValue),
		Own: known(x.Own), Final: known(x.Final), Demand: known(x.Demand), Joint: opinions(x.Joint),
	}
	for i := range x.Sensors {
		s := &x.Sensors[i]
		w.Sensors = append(w.Sensors, Sensor{
			Name: s.Sensor, Count: s.Count, Unusable: s.Unusable, Mean: known(s.Mean), Stddev: known(s.Stddev), Min: known(s.Min), Max: known(s.Max), Last: known(s.Last),
			PValue: chance(s.Surprise), Says: opinions(s.Says),
		})
	}
	return w
}

func opinions(list []streamprocessor.Saying) []Opinion {
	var out []Opinion
	for _, s := range list {
		out = append(out, Opinion{
			Detector: s.Detector, Nominal: known(s.Nominal), Surprise: known(s.Surprise), PValue: chance(s.Surprise), Low: known(s.Low), High: known(s.High), Broken: s.Broken,
		})
	}
	return out
}
