package objstore

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tocsin-io/tocsin/pkg/objstore/objstoretest"
)

// startGateway runs a real S3 server and returns the configuration to reach it.
func startGateway(t *testing.T) Config {
	t.Helper()
	s := objstoretest.Start(t)
	return Config{URL: "s3://" + s.Bucket + "/some/prefix", Endpoint: s.Endpoint, Region: s.Region, AccessKey: s.AccessKey, SecretKey: s.SecretKey, PathStyle: true, Timeout: 20 * time.Second}
}

func TestS3Conformance(t *testing.T) {
	cfg := startGateway(t)
	n := 0
	conformance(t, func(t *testing.T) Bucket {
		n++
		c := cfg
		c.URL = fmt.Sprintf("s3://lake/p%d", n)
		b, err := Open(t.Context(), c)
		must(t, err)
		return b
	})
}

// fakeS3 answers every request by handle.
func fakeS3(t *testing.T, handle http.HandlerFunc) Bucket {
	t.Helper()
	srv := httptest.NewServer(handle)
	t.Cleanup(srv.Close)
	b, err := Open(t.Context(), Config{URL: "s3://b", Endpoint: srv.URL, Region: "x", AccessKey: "a", SecretKey: "s", PathStyle: true, Timeout: time.Second})
	must(t, err)
	t.Cleanup(func() { _ = b.Close() })
	return b
}

func TestS3SortsErrors(t *testing.T) {
	for status, want := range map[int]string{412: "exists", 409: "conflict", 403: "permission", 429: "throttled", 503: "throttled", 500: "unavailable", 507: "no_space", 404: "not_found", 400: "other"} {
		var tries atomic.Int32
		b := fakeS3(t, func(w http.ResponseWriter, r *http.Request) {
			tries.Add(1)
			if r.Header.Get("If-None-Match") != "*" {
				t.Error("a write without If-None-Match")
			}
			w.WriteHeader(status)
		})
		err := b.PutIfAbsent(t.Context(), "k", []byte("x"), nil)
		if got := Reason(err); got != want {
			t.Errorf("%d: %s, want %s (%v)", status, got, want, err)
		}
		if tries.Load() != 1 {
			t.Errorf("%d: tried %d times, want 1", status, tries.Load())
		}
	}
}

func TestS3Unreachable(t *testing.T) {
	block := make(chan struct{})
	defer close(block)
	slow := fakeS3(t, func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-block:
		case <-r.Context().Done():
		}
	})
	slow.(*S3).timeout = 50 * time.Millisecond
	if err := slow.PutIfAbsent(t.Context(), "k", nil, nil); Reason(err) != "timeout" {
		t.Errorf("%s: %v", Reason(err), err)
	}
	gone, err := Open(t.Context(), Config{URL: "s3://b", Endpoint: "http://127.0.0.1:1", Region: "x", AccessKey: "a", SecretKey: "s", PathStyle: true, Timeout: time.Second})
	must(t, err)
	if _, err := gone.Head(t.Context(), "k"); Reason(err) != "network" {
		t.Errorf("%s: %v", Reason(err), err)
	}
	must(t, gone.Close())
}

// careless is a store that does not know If-None-Match, or forgets metadata.
type careless struct {
	*Dir
	overwrite bool
}

func (c careless) PutIfAbsent(ctx context.Context, key string, data []byte, meta map[string]string) error {
	if !c.overwrite {
		return c.Dir.PutIfAbsent(ctx, key, data, nil)
	}
	if err := c.Delete(ctx, key); err != nil {
		return err
	}
	return c.Dir.PutIfAbsent(ctx, key, data, meta)
}

func TestProbeRefuses(t *testing.T) {
	if err := Probe(t.Context(), careless{openDir(t, t.TempDir()), true}); !errors.Is(err, ErrUnconditional) {
		t.Errorf("a store that overwrites: %v", err)
	}
	if err := Probe(t.Context(), careless{openDir(t, t.TempDir()), false}); !errors.Is(err, ErrMetadata) {
		t.Errorf("a store that forgets metadata: %v", err)
	}
}

func TestConfigValidate(t *testing.T) {
	ok := Config{URL: "s3://b/p", Region: "r", Timeout: time.Second}
	must(t, ok.Validate())
	must(t, DefaultConfig("./.tocsin/lake").Validate())
	for name, bad := range map[string]func(*Config){
		"scheme": func(c *Config) { c.URL = "http://x" }, "no dir": func(c *Config) { c.URL = "file://" }, "no bucket": func(c *Config) { c.URL = "s3://" },
		"prefix": func(c *Config) { c.URL = "s3://b/../x" }, "half a secret": func(c *Config) { c.AccessKey = "a" }, "timeout": func(c *Config) { c.Timeout = 0 },
		"region": func(c *Config) { c.Region = "" },
	} {
		c := ok
		bad(&c)
		if c.Validate() == nil {
			t.Errorf("%s: %+v is accepted", name, c)
		}
	}
}
