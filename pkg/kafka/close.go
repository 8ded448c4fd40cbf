package kafka

import (
	"time"

	"go.uber.org/zap"
)

// CloseWithin calls end, a client's way to close, and waits for it, for no longer than limit: with Kafka gone the client would wait for answers that nobody
// needs any more.
func CloseWithin(limit time.Duration, log *zap.Logger, end func()) {
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		end()
	}()
	select {
	case <-closed:
	case <-time.After(limit):
		log.Warn("the Kafka client does not close")
	}
}
