package stack

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
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
	if err := s.changeSettings(); err != nil {
		return fmt.Errorf("stack: %w", err)
	}
	return nil
}

// changeSettings makes the folder's settings what the options ask. Ports may change while nothing runs, the number of
// brokers while there is no broker's data.
func (s *Stack) changeSettings() error {
	changed := s.set
	if s.opts.PortOffset != 0 && s.opts.PortOffset != s.set.Offset {
		if name, err := s.running(); err != nil {
			return err
		} else if name != "" {
			return fmt.Errorf("%s runs with port offset %d, not %d: bring the stack down first", name, s.set.Offset, s.opts.PortOffset)
		}
		ports, err := choosePorts(s.opts.PortOffset)
		if err != nil {
			return err
		}
		changed.Offset, changed.Ports = s.opts.PortOffset, ports
	}
	if s.opts.Brokers != 0 && s.opts.Brokers != s.set.Brokers {
		if _, err := os.Stat(s.dataDir(brokerName(1))); !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%s holds the data of %d broker(s), not %d: run `stack down --purge` first",
				s.opts.Dir, s.set.Brokers, s.opts.Brokers)
		}
		changed.Brokers = s.opts.Brokers
	}
	added, err := s.addPorts(&changed)
	if err != nil {
		return err
	}
	if changed.Offset == s.set.Offset && changed.Brokers == s.set.Brokers && !added {
		return nil
	}
	s.set = changed
	b, err := json.MarshalIndent(s.set, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(s.settingsFile(), append(b, '\n'), 0o600)
}

// addPorts gives the options' extra ports numbers, if they have none.
func (s *Stack) addPorts(to *settings) (added bool, err error) {
	taken := map[int]bool{}
	for _, p := range to.Ports {
		taken[p] = true
	}
	ports := maps.Clone(to.Ports)
	for _, name := range append(s.opts.extraPorts(max(to.Brokers, 1)), icebergCommitter) { // which folders of before it do not know
		if _, ok := ports[name]; ok {
			continue
		}
		p, err := freePort(taken)
		if err != nil {
			return false, err
		}
		taken[p], ports[name], added = true, p, true
	}
	to.Ports = ports
	return added, nil
}

// running names a component that runs, or "".
func (s *Stack) running() (string, error) {
	found, err := filepath.Glob(filepath.Join(s.opts.Dir, "run", "*.json"))
	if err != nil {
		return "", err
	}
	for _, path := range found {
		name := strings.TrimSuffix(filepath.Base(path), ".json")
		r, err := s.lookup(name)
		if err != nil {
			return "", err
		}
		if r.alive() {
			return name, nil
		}
	}
	return "", nil
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
	if err := os.MkdirAll(s.opts.Dir, 0o755); err != nil {
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
