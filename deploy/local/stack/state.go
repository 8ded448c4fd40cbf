package stack

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// settings are what a folder must keep from one program to the next. Kept in stack.json, readable by the owner only.
type settings struct {
	Offset           int            `json:"port_offset"`
	Ports            map[string]int `json:"ports"`
	Brokers          int            `json:"brokers"`
	ClusterID        string         `json:"kafka_cluster_id"`
	S3AccessKey      string         `json:"s3_access_key"`
	S3SecretKey      string         `json:"s3_secret_key"`
	PostgresPassword string         `json:"postgres_password"`
}

func (s *Stack) settingsFile() string { return filepath.Join(s.opts.Dir, "stack.json") }

// loadSettings reads the folder's settings, making the folder if it is new. Two programs that make one folder at once:
// the first wins and the second takes what the first wrote.
func (s *Stack) loadSettings() error {
	err := s.readSettings()
	if errors.Is(err, fs.ErrNotExist) {
		if err := s.newSettings(); err != nil {
			return err
		}
		err = s.readSettings()
	}
	if err != nil {
		return fmt.Errorf("stack: %w", err)
	}
	if s.opts.Brokers != 0 && s.opts.Brokers != s.set.Brokers {
		return fmt.Errorf("stack: %s was made with %d broker(s), not %d: run `stack down --purge` first",
			s.opts.Dir, s.set.Brokers, s.opts.Brokers)
	}
	if s.opts.PortOffset != 0 && s.opts.PortOffset != s.set.Offset {
		return fmt.Errorf("stack: %s was made with port offset %d, not %d: run `stack down --purge` first",
			s.opts.Dir, s.set.Offset, s.opts.PortOffset)
	}
	return nil
}

func (s *Stack) readSettings() error {
	b, err := os.ReadFile(s.settingsFile())
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, &s.set); err != nil {
		return fmt.Errorf("%s: %w", s.settingsFile(), err)
	}
	return nil
}

func (s *Stack) newSettings() error {
	ports, err := choosePorts(s.opts.PortOffset)
	if err != nil {
		return err
	}
	b, err := json.MarshalIndent(settings{
		Offset:  s.opts.PortOffset,
		Ports:   ports,
		Brokers: max(s.opts.Brokers, 1),
		// Kafka wants 16 bytes in unpadded base64url. Fixed, so that a data folder fits its stack.
		ClusterID:        base64.RawURLEncoding.EncodeToString([]byte("tocsin-local-stk")),
		S3AccessKey:      "tocsin",
		S3SecretKey:      rand.Text(),
		PostgresPassword: rand.Text(),
	}, "", "  ")
	if err != nil {
		return fmt.Errorf("stack: %w", err)
	}
	if err := os.MkdirAll(s.opts.Dir, 0o755); err != nil { //nolint:gosec // PostgreSQL's user must be able to pass
		return fmt.Errorf("stack: %w", err)
	}
	tmp, err := os.CreateTemp(s.opts.Dir, ".stack.json.*") // mode 0600
	if err != nil {
		return fmt.Errorf("stack: %w", err)
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(append(b, '\n'))
	if err := errors.Join(err, tmp.Close()); err != nil {
		return fmt.Errorf("stack: %w", err)
	}
	// Link, unlike rename, does not replace.
	if err := os.Link(tmp.Name(), s.settingsFile()); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("stack: %w", err)
	}
	return nil
}
