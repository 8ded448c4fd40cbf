package commit

import (
	"errors"
	"time"
)

// DefaultBackoff waits 100 ms to 10 s.
func DefaultBackoff() Backoff { return Backoff{Min: 100 * time.Millisecond, Max: 10 * time.Second} }

// Validate names the first field that is wrong.
func (b Backoff) Validate() error {
	switch {
	case b.Min <= 0:
		return errors.New("min: must be positive")
	case b.Max < b.Min:
		return errors.New("max: must not be less than min")
	}
	return nil
}
