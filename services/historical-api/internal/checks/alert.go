package checks

import (
	"encoding/hex"
	"fmt"
	"hash/fnv"
	"math"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
	"github.com/tocsin-io/tocsin/services/historical-api/internal/checkstore"
	"github.com/tocsin-io/tocsin/services/historical-api/internal/usage"
)

// maxCause is the alert-router's bound.
const maxCause = 64

// cause is "check:<job>:<kind>:<metric>": an alert-router keeps one alert of a machine and cause at a time, so each metric, each kind and each job has its own. A metric that is
// too long or has other characters is given by what can be said of it and a hash.
func (j *Job) cause(kind, metric string) string {
	head := "check:" + j.Name + ":" + kind + ":"
	plain := strings.Map(func(r rune) rune {
		if 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("._:-", r) {
			return r
		}
		return '_'
	}, metric)
	if plain == metric && len(head)+len(metric) <= maxCause {
		return head + metric
	}
	h := fnv.New32a()
	_, _ = h.Write([]byte(metric)) // never fails
	sum := "-" + hex.EncodeToString(h.Sum(nil))
	return head + plain[:min(len(plain), maxCause-len(head)-len(sum))] + sum
}

func identity(entity, cause string, from time.Time) string {
	return entity + "/" + cause + "/" + strconv.FormatInt(from.UnixMicro(), 10)
}

// causeOf is the cause in a finding's id.
func causeOf(id string) string {
	parts := strings.Split(id, "/") // neither an entity nor a cause has a slash
	if len(parts) != 3 {
		return ""
	}
	return parts[1]
}

func startOf(id string) int64 {
	us, _ := strconv.ParseInt(id[strings.LastIndexByte(id, '/')+1:], 10, 64)
	return us
}

// alert makes the record that begins or ends a finding's alert. Its id holds the job, the entity, the metric and the slot that it is of, so it is the same however often it is made.
func alert(f checkstore.Finding, phase eventv1.Phase, slot, now time.Time, why string) (checkstore.Record, error) {
	a := &eventv1.Anomaly{
		AnomalyId: fmt.Sprintf("%s/%d/%s", f.ID, slot.UnixMicro(), map[eventv1.Phase]string{eventv1.Phase_PHASE_STARTED: "started", eventv1.Phase_PHASE_ENDED: "ended"}[phase]),
		EpisodeId: f.ID, EquipmentId: f.Entity, Cause: causeOf(f.ID), Phase: phase, Severity: eventv1.Severity_SEVERITY_CRITICAL,
		Score: min(math.Erf(math.Abs(f.Z)/math.Sqrt2), math.Nextafter(1, 0)), Confidence: confidence(f.Finding),
		StartedUs: startOf(f.ID), ObservedUs: f.To.UnixMicro(), JudgedAtMs: now.UnixMilli(), Summary: f.Summary,
	}
	if phase == eventv1.Phase_PHASE_ENDED {
		a.Summary = why
	} else {
		c := contribution(f)
		a.Contributions = []*eventv1.Contribution{c}
		a.Detectors = []string{c.GetDetector()}
	}
	body, err := proto.MarshalOptions{Deterministic: true}.Marshal(a)
	if err != nil {
		return checkstore.Record{}, fmt.Errorf("alert %s: %w", a.GetAnomalyId(), err)
	}
	return checkstore.Record{Kind: checkstore.AlertRecord, Entity: f.Entity, Name: a.GetAnomalyId(), Body: body}, nil
}

// summary says in one sentence what is unusual.
func (j *Job) summary(key Key, f usage.Finding) string {
	from, to := f.From.In(j.place), f.To.In(j.place)
	if f.Kind == usage.Shape {
		return fmt.Sprintf("%s of %s: the course of %s is %s alike to the usual %s (usually %s), %s times the usual spread away", key.Metric, key.Entity,
			from.Format("Monday 2 January"), number(f.Similarity), from.Weekday(), number(f.Usual), number(f.Z))
	}
	until := to.Format("15:04 MST")
	if to.Sub(from) > 23*time.Hour {
		until = to.Format("Mon 2 Jan 15:04 MST")
	}
	return fmt.Sprintf("%s of %s from %s to %s: %s, usually %s ± %s at these hours of this weekday (z = %s)", key.Metric, key.Entity, from.Format("Mon 2 Jan 15:04"), until,
		number(f.Observed), number(f.Expected), number(f.Deviation), number(f.Z))
}

func number(v float64) string { return strconv.FormatFloat(v, 'g', 4, 64) }
