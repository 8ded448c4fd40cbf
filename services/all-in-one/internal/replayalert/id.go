package replayalert

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strconv"
)

// Episode names one episode.
type Episode struct {
	ID        string
	Equipment string
	StartedUS int64 // event time
}

var (
	episodeID   = regexp.MustCompile(`([A-Za-z0-9._:-]{1,128})/([a-z_]+)/(-?[0-9]{1,19})(?:/|[^0-9A-Za-z._:-]|$)`)
	fingerprint = regexp.MustCompile(`^[0-9a-f]{16}$`)
)

// ErrID says that a text names no episode.
var ErrID = errors.New("names no alert")

// ParseEpisode finds the episode in what people have at hand: an alert's id (label alert_id), the id of one of its anomalies or events, or a link that
// holds one of them.
func ParseEpisode(s string) (Episode, error) {
	if fingerprint.MatchString(s) {
		return Episode{}, fmt.Errorf("%q is an Alertmanager fingerprint and %w by itself; give the alert's label alert_id, such as pump-1/behaviour/1772344800000000", s, ErrID)
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
