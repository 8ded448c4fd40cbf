package kafka

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kgo"
)

// ProduceSync writes records and waits until Kafka has them, or ctx ends: then it is not known whether they stand, or will.
//
// It is there instead of the client's own because of how that one (franz-go 1.22) treats a context that ends by its deadline while
// no producer id can be had: it asks for one again and again, without a pause, for as long as Kafka is away. So records never carry the caller's
// context. A client for this should have kgo.RecordDeliveryTimeout, or what was given up on may still be written much later.
func ProduceSync(ctx context.Context, cl *kgo.Client, records ...*kgo.Record) error {
	var first kgo.FirstErrPromise
	for _, r := range records {
		cl.TryProduce(context.Background(), r, first.Promise())
	}
	done := make(chan error, 1)
	go func() { done <- first.Err() }() // ends when the client is closed at the latest
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("no answer from Kafka: %w", context.Cause(ctx))
	}
}
