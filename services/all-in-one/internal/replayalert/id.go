package replayalert

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strconv"
	"time"

	"github.com/prometheus/common/model"
	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/proto"

	"github.com/tocsin-io/tocsin/pkg/topic"
	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
)

// Episode names one episode.
type Episode struct {
	ID        string
	Equipment string
	StartedUS int64 // event time
	// Fingerprint of the alert in Alertmanager's API, where nothing else is known.
	Fingerprint string
}

var (
	episodeID   = regexp.MustCompile(`([A-Za-z0-9._:-]{1,128})/([a-z_]+)/(-?[0-9]{1,19})(?:/|[^0-9A-Za-z._:-]|$)`)
	fingerprint = regexp.MustCompile(`^[0-9a-f]{16}$`)
)

// ErrID says that a text names no episode.
var ErrID = errors.New("names no alert")

// ParseEpisode finds the episode in what people have at hand: an alert's id (label alert_id), the id of one of its anomalies or events, a link that
// holds one of them, or the alert's fingerprint in Alertmanager's API.
func ParseEpisode(s string) (Episode, error) {
	if fingerprint.MatchString(s) {
		return Episode{Fingerprint: s}, nil
	}
	plain := s
	for range 2 { // a link may hold it escaped, and be escaped itself
		if u, err := url.QueryUnescape(plain); err == nil {
			plain = u
		}
	}
	m := episodeID.FindStringSubmatch(plain)
	if m == nil {
		return Episode{}, fmt.Errorf("%q %w; give its id as /api/v2/alerts shows it (label alert_id), such as pump-1/behaviour/1772344800000000", s, ErrID)
	}
	us, err := strconv.ParseInt(m[3], 10, 64)
	if err != nil {
		return Episode{}, fmt.Errorf("%q %w: %w", s, ErrID, err)
	}
	return Episode{ID: m[1] + "/" + m[2] + "/" + m[3], Equipment: m[1], StartedUS: us}, nil
}

// byFingerprint finds the newest alert whose labels have that fingerprint, as Alertmanager computes it. An alert that escalates gets another.
func byFingerprint(ctx context.Context, l Log, fingerprint string) (Episode, error) {
	n, err := l.Partitions(ctx, topic.Alerts)
	if err != nil {
		return Episode{}, err
	}
	found, at := "", time.Time{}
	for p := range int32(n) {
		start, end, err := l.Bounds(ctx, topic.Alerts, p)
		if err != nil {
			return Episode{}, err
		}
		if err := l.Read(ctx, topic.Alerts, p, start, end, func(rec *kgo.Record) error {
			var e eventv1.AlertEvent
			if !topic.Is(rec, topic.TypeAlert) || proto.Unmarshal(rec.Value, &e) != nil {
				return nil
			}
			labels := model.LabelSet{}
			for k, v := range e.GetLabels() {
				labels[model.LabelName(k)] = model.LabelValue(v)
			}
			if labels.Fingerprint().String() == fingerprint && !rec.Timestamp.Before(at) {
				found, at = e.GetAlertId(), rec.Timestamp
			}
			return nil
		}); err != nil {
			return Episode{}, err
		}
	}
	if found == "" {
		return Episode{}, fmt.Errorf("%w: no alert of the last %d days has the fingerprint %s; its label alert_id is surer", ErrCannot, int(topic.Retention.Hours()/24), fingerprint)
	}
	return ParseEpisode(found)
}
