package stack

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// component is one process of the stack.
type component struct {
	name   string
	groups []string
	needs  []string // components or groups that must be up first
	ports  []string // port names that it binds
	// optional: left out where it is missing, unless it is asked for by its name.
	optional bool

	missing func() error                               // nil, or a *MissingError
	prepare func(ctx context.Context) (command, error) // writes files, formats stores; idempotent
	healthy func(ctx context.Context) error
	after   func(ctx context.Context) error // nil, or makes what users need in it; idempotent

	stopSignal  syscall.Signal
	stopTimeout time.Duration
	stranded    func() bool // nil, or whether an orderly stop can no longer end, for what it waits for is gone
}

func (c *component) in(group string) bool { return slices.Contains(c.groups, group) }

// topology lists the components in start order.
func (s *Stack) topology() []*component {
	var cs []*component
	for i := range s.set.Brokers {
		cs = append(cs, s.kafkaBroker(i+1))
	}
	cs = append(cs, s.victoriaMetrics(), s.vmalert(), s.s3(), s.postgres())
	cs = append(cs, s.services()...)
	for _, c := range cs {
		if c.stopSignal == 0 {
			c.stopSignal = syscall.SIGTERM
		}
		if c.stopTimeout == 0 {
			c.stopTimeout = 20 * time.Second
		}
	}
	return cs
}

// dataDir is where the component keeps its data.
func (s *Stack) dataDir(name string) string {
	if dir := s.opts.DataDirs[name]; dir != "" {
		return dir
	}
	return filepath.Join(s.opts.Dir, "data", name)
}

// confFile is a generated configuration file.
func (s *Stack) confFile(name string) string { return filepath.Join(s.opts.Dir, "conf", name) }

// httpHealth is a check that wants 200 from path of the named port.
func (s *Stack) httpHealth(port, path string) func(context.Context) error {
	return func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.Addr(port)+path, http.NoBody)
		if err != nil {
			return err
		}
		// A client of its own: no idle connection keeps a stopping server waiting.
		client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			return nil
		}
		body, _ := io.ReadAll(io.LimitReader(resp.Body, 500))
		return fmt.Errorf("GET %s: %s: %s", req.URL, resp.Status, strings.Join(strings.Fields(string(body)), " "))
	}
}

// findProgram looks in folders first, then in PATH.
func findProgram(name string, folders ...string) (string, bool) {
	for _, dir := range folders {
		path := filepath.Join(dir, name)
		if st, err := os.Stat(path); err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0 {
			return path, true
		}
	}
	path, err := exec.LookPath(name)
	return path, err == nil
}
