package incident

import (
	"errors"
	"fmt"
	"math"
	"unicode/utf8"

	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
)

// Limits of an anomaly, so that one record cannot make a label, a mail subject or a page without bounds.
const (
	maxID            = 128
	maxEpisodeID     = 512
	maxCause         = 64
	maxContributions = 25_000
)

// Validate names the first field that makes the anomaly unusable. Such a record belongs in the dead letters.
func Validate(a *eventv1.Anomaly) error {
	switch {
	case !validID(a.GetEquipmentId(), maxID):
		return errors.New("equipment_id: not of the form [A-Za-z0-9._:-]{1,128}")
	case a.GetGatewayId() != "" && !validID(a.GetGatewayId(), maxID):
		return errors.New("gateway_id: not of the form [A-Za-z0-9._:-]{1,128}")
	case !printable(a.GetEpisodeId(), maxEpisodeID):
		return fmt.Errorf("episode_id: empty, longer than %d bytes, or with control characters", maxEpisodeID)
	case a.GetAnomalyId() == "":
		return errors.New("anomaly_id: missing")
	case !validID(a.GetCause(), maxCause):
		return fmt.Errorf("cause: not of the form [A-Za-z0-9._:-]{1,%d}", maxCause)
	case a.GetPhase() < eventv1.Phase_PHASE_STARTED || a.GetPhase() > eventv1.Phase_PHASE_ENDED:
		return fmt.Errorf("phase: %d is not started, ongoing or ended", a.GetPhase())
	case a.GetSeverity() < eventv1.Severity_SEVERITY_UNSPECIFIED || a.GetSeverity() > eventv1.Severity_SEVERITY_CRITICAL:
		return fmt.Errorf("severity: %d is unknown", a.GetSeverity())
	case math.IsNaN(a.GetScore()) || math.IsInf(a.GetScore(), 0):
		return errors.New("score: not a finite number")
	case len(a.GetContributions()) > maxContributions:
		return fmt.Errorf("contributions: %d, more than %d", len(a.GetContributions()), maxContributions)
	}
	return nil
}

func validID(s string, limit int) bool {
	if s == "" || len(s) > limit {
		return false
	}
	for i := range len(s) {
		c := s[i]
		ok := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' ||
			c == '.' || c == '_' || c == ':' || c == '-'
		if !ok {
			return false
		}
	}
	return true
}

func printable(s string, limit int) bool {
	if s == "" || len(s) > limit || !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		if r < 0x20 || r == 0x7f {
			return false
		}
	}
	return true
}
