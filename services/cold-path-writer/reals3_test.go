package coldpathwriter

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/tocsin-io/tocsin/pkg/kafka"
	"github.com/tocsin-io/tocsin/pkg/kafka/kafkatest"
	"github.com/tocsin-io/tocsin/pkg/objstore"
	"github.com/tocsin-io/tocsin/pkg/objstore/objstoretest"
	"github.com/tocsin-io/tocsin/pkg/service"
)

func realS3(t *testing.T) objstore.Config {
	t.Helper()
	s := objstoretest.Start(t)
	return objstore.Config{URL: "s3://" + s.Bucket + "/plant", Endpoint: s.Endpoint, Region: s.Region, AccessKey: s.AccessKey, SecretKey: s.SecretKey, PathStyle: true, Timeout: 10 * time.Second}
}

func TestRealS3(t *testing.T) {
	cfg := testConfig(t.TempDir())
	cfg.Lake = realS3(t)
	k := kafkatest.Start(t, 2)
	src := newSource(t, k)
	b, err := objstore.Open(t.Context(), cfg.Lake)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = b.Close() }()
	// Answers get lost: each file is put, and found to be there.
	lossy := &faulty{Bucket: b, before: func(string) error { return nil }, after: func(string) error { return errDown }}
	src.readings(0, 40)
	src.readings(1, 40)
	w := start(t, cfg, k, lossy)
	var r AuditReport
	eventually(t, "20 files", func() bool {
		r, err = Audit(t.Context(), b, AuditOptions{Tables: []string{"readings"}})
		return err == nil && r.Tables[0].Files == 20
	})
	if !r.OK() || r.Tables[0].Rows != 800 {
		t.Errorf("%+v", r)
	}
	eventually(t, "20 files found", func() bool { return counter(w, `tocsin_lake_files_found_total{table="readings"}`) == 20 })
	w.stop(t)
}

// overwriting is a store that does not know If-None-Match.
type overwriting struct{ objstore.Bucket }

func (o overwriting) PutIfAbsent(ctx context.Context, key string, data []byte, metadata map[string]string) error {
	if err := o.Delete(ctx, key); err != nil {
		return err
	}
	return o.Bucket.PutIfAbsent(ctx, key, data, metadata)
}

// TestStoreThatOverwritesIsRefused: the writer ends at once and says why; nothing is kept in such a store.
func TestStoreThatOverwritesIsRefused(t *testing.T) {
	dir := t.TempDir()
	b, err := objstore.OpenDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	deps := service.Nop()
	deps.Kafka = kafka.DefaultConfig() // it does not come so far
	svc, err := NewOver(testConfig(dir), deps, overwriting{b})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	if err := svc.Run(ctx); !errors.Is(err, objstore.ErrUnconditional) || ctx.Err() != nil {
		t.Errorf("%v, want that it would overwrite", err)
	}
	if b, err = objstore.OpenDir(dir); err != nil { // the service has closed its own
		t.Fatal(err)
	}
	defer func() { _ = b.Close() }()
	for o, err := range b.List(ctx, "") {
		t.Error(o.Key, err)
	}
}
