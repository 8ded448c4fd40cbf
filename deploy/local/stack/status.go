package stack

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// State of a component.
type State string

// States.
const (
	Stopped   State = "stopped"   // not started, or stopped on purpose
	Died      State = "died"      // it was started and is gone
	Unhealthy State = "unhealthy" // it runs and its health check fails
	Healthy   State = "healthy"
)

// Status of one component now.
type Status struct {
	Name     string
	State    State
	PID      int
	Addr     string
	Uptime   time.Duration
	Resident int64  // bytes
	Reason   string // why Unhealthy
}

// Status looks at each component; a check takes at most 2 s, all at once.
func (s *Stack) Status(ctx context.Context) ([]Status, error) {
	out := make([]Status, len(s.components))
	err := s.each(s.components, func(c *component) error {
		st := Status{Name: c.name, State: Stopped, Addr: s.Addr(c.name)}
		r, err := s.lookup(c.name)
		if err != nil {
			return err
		}
		switch {
		case r.alive():
			st.State, st.PID, st.Uptime, st.Resident = Healthy, r.PID, time.Since(r.Started), residentBytes(r.PID)
			ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
			defer cancel()
			if err := c.healthy(ctx); err != nil {
				st.State, st.Reason = Unhealthy, err.Error()
			}
		case r.PID != 0:
			st.State = Died
		}
		out[slices.Index(s.components, c)] = st
		return nil
	})
	return out, err
}

// Env is how clients reach the stack: our services get the secrets of it, tests and shells all of it.
func (s *Stack) Env() []string {
	env := []string{
		"TOCSIN_KAFKA_BROKERS=" + strings.Join(s.Brokers(), ","),
		"TOCSIN_LAKE_BUCKET=" + Bucket,
		"AWS_ENDPOINT_URL_S3=http://" + s.Addr("s3"),
		"VICTORIA_METRICS_URL=http://" + s.Addr("victoria-metrics"),
		"TOCSIN_POSTGRES_URL=" + s.PostgresURL(Database),
		"PGHOST=127.0.0.1",
		"PGPORT=" + strconv.Itoa(s.set.Ports["postgres"]),
		"PGUSER=" + Database,
		"PGDATABASE=" + Database,
	}
	for _, name := range serviceNames() {
		env = append(env, "TOCSIN_URL_"+strings.ToUpper(strings.ReplaceAll(name, "-", "_"))+"="+(&url.URL{Scheme: "http", Host: s.Addr(name)}).String())
	}
	return append(env, s.secretEnv()...)
}

func (s *Stack) secretEnv() []string {
	return []string{
		"AWS_REGION=" + S3Region,
		"AWS_ACCESS_KEY_ID=" + s.set.S3AccessKey,
		"AWS_SECRET_ACCESS_KEY=" + s.set.S3SecretKey,
		"PGPASSWORD=" + s.set.PostgresPassword,
	}
}

// Logs writes the last lines of a component's output to w and, if follow is set, what comes after them until ctx ends.
func (s *Stack) Logs(ctx context.Context, w io.Writer, name string, lines int, follow bool) error {
	cs := s.named(name)
	if len(cs) != 1 || cs[0].name != name {
		return s.unknown(name)
	}
	f, err := os.Open(s.LogFile(name))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	last, err := tail(f, 0, lines)
	if err != nil {
		return err
	}
	if _, err := w.Write(last); err != nil || !follow {
		return err
	}
	if _, err := f.Seek(0, io.SeekEnd); err != nil {
		return err
	}
	t := time.NewTicker(4 * pollInterval)
	defer t.Stop()
	for {
		if _, err := io.Copy(w, f); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

// tailFrom is the end of the log after an offset, for an error message.
func (s *Stack) tailFrom(name string, from int64, lines int) string {
	f, err := os.Open(s.LogFile(name))
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	b, err := tail(f, from, lines)
	if err != nil {
		return err.Error()
	}
	if len(b) == 0 {
		return "(it wrote nothing)"
	}
	return string(b)
}

// tail reads the last lines, at most 64 KiB of them, that stand after offset from.
func tail(f *os.File, from int64, lines int) ([]byte, error) {
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	const most = 64 << 10
	from = max(from, st.Size()-most)
	b, err := io.ReadAll(io.NewSectionReader(f, from, st.Size()-from))
	if err != nil {
		return nil, err
	}
	start := len(bytes.TrimRight(b, "\n"))
	for range lines {
		if start = bytes.LastIndexByte(b[:start], '\n'); start < 0 {
			return b, nil
		}
	}
	return b[start+1:], nil
}
