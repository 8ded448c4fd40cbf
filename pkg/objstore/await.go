package objstore

import (
	"context"
	"errors"
	"time"
)

// Await calls look, such as a Probe, every so often until the store answers: a service that starts before its store must not end for that. waiting is told why it waits, when it
// begins and when the reason changes; for readiness and the log. It returns nil, ErrUnconditional or ErrMetadata (the store must not be used), or ctx's error.
func Await(ctx context.Context, every time.Duration, look func(context.Context) error, waiting func(error)) error {
	for said := ""; ; {
		err := look(ctx)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, ErrUnconditional), errors.Is(err, ErrMetadata):
			return err
		}
		if why := err.Error(); why != said {
			said = why
			waiting(err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(every):
		}
	}
}
