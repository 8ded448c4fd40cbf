package objstore

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
)

// Probe checks at start-up that b can be written, read and deleted in, that metadata survives, and that it refuses to
// overwrite. ErrUnconditional or ErrMetadata mean that the store must not be used; any other error that it
// could not be asked. It leaves nothing behind but, after an error, one object of a few bytes under "probe/".
func Probe(ctx context.Context, b Bucket) (err error) {
	key := "probe/" + rand.Text()
	first, second := []byte("first"), []byte("second")
	metadata := map[string]string{"probe": "1"}
	if err := b.PutIfAbsent(ctx, key, first, metadata); err != nil {
		return fmt.Errorf("probe: %w", err)
	}
	defer func() {
		if e := b.Delete(ctx, key); e != nil && err == nil {
			err = fmt.Errorf("probe: %w", e)
		}
	}()
	again := b.PutIfAbsent(ctx, key, second, metadata)
	data, info, err := b.Get(ctx, key, 1024)
	switch {
	case err != nil:
		return fmt.Errorf("probe: %w", err)
	case again == nil || !bytes.Equal(data, first):
		return fmt.Errorf("probe: %w", ErrUnconditional)
	case !errors.Is(again, ErrExists):
		return fmt.Errorf("probe: second write: %w", again)
	case info.Metadata["probe"] != "1":
		return fmt.Errorf("probe: %w", ErrMetadata)
	}
	return nil
}

// ErrMetadata: the store loses the metadata of objects.
var ErrMetadata = errors.New("store does not keep metadata")
