package trial

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// Runner judges files with the tocsin binary. The zero value of each field but Binary is fine. Safe for concurrent use.
type Runner struct {
	Binary string
	Config string // given to backtest as --config; empty: the shipped default
	Keep   string // folder where the scores stay, as <name with _ for />; empty: they are removed
}

// Run judges one file in a process of its own. It fails when the binary does, or when there is not one verdict for each row.
func (r *Runner) Run(ctx context.Context, t *Trial) (*Verdicts, error) {
	output, done, err := r.output(t)
	if err != nil {
		return nil, err
	}
	defer done()
	args := []string{"backtest", "--input", t.Input, "--output", output}
	if r.Config != "" {
		args = append(args, "--config", r.Config)
	}
	if t.Train != "" {
		args = append(args, "--train", t.Train)
	}
	if t.TrainRows > 0 {
		args = append(args, "--train-rows", strconv.Itoa(t.TrainRows))
	}
	if len(t.Ignore) > 0 {
		args = append(args, "--ignore-columns", strings.Join(t.Ignore, ","))
	}
	cmd := exec.CommandContext(ctx, r.Binary, args...) //nolint:gosec // the binary that was asked for, over files that were asked for
	// Files run side by side, one processor each.
	cmd.Env = append(os.Environ(), "GOMAXPROCS=1")
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%s: %s %s: %w\n%s", t.Name, r.Binary, strings.Join(args, " "), err, bytes.TrimSpace(said.Bytes()))
	}
	f, err := os.Open(output)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", t.Name, err)
	}
	defer f.Close()
	v, err := Read(f)
	if err != nil {
		return nil, fmt.Errorf("%s: scores: %w", t.Name, err)
	}
	if len(v.Scores) != t.Rows() {
		return nil, fmt.Errorf("%s: %d verdicts for %d rows", t.Name, len(v.Scores), t.Rows())
	}
	return v, nil
}

func (r *Runner) output(t *Trial) (path string, done func(), err error) {
	if r.Keep != "" {
		return filepath.Join(r.Keep, strings.ReplaceAll(t.Name, "/", "_")), func() {}, os.MkdirAll(r.Keep, 0o755)
	}
	dir, err := os.MkdirTemp("", "tocsin-accuracy-")
	if err != nil {
		return "", nil, err
	}
	return filepath.Join(dir, "scores.csv"), func() { _ = os.RemoveAll(dir) }, nil
}

// Read takes the file that backtest writes.
func Read(r io.Reader) (*Verdicts, error) {
	in := csv.NewReader(r)
	in.ReuseRecord = true
	header, err := in.Read()
	if err != nil {
		return nil, err
	}
	at := map[string]int{}
	for i, h := range header {
		at[h] = i
	}
	for _, h := range []string{"score", "flag", "contributions"} {
		if _, ok := at[h]; !ok {
			return nil, fmt.Errorf("no column %q", h)
		}
	}
	score, flag, shares := at["score"], at["flag"], at["contributions"]
	v := &Verdicts{Shares: []string{}}
	for {
		rec, err := in.Read()
		if errors.Is(err, io.EOF) {
			return v, nil
		}
		if err != nil {
			return nil, err
		}
		s, err := strconv.ParseFloat(rec[score], 64)
		if err != nil || !(s >= 0 && s <= 1) { // NaN is neither
			line, _ := in.FieldPos(score)
			return nil, fmt.Errorf("line %d: score %q is not in [0,1]", line, rec[score])
		}
		v.Scores = append(v.Scores, s)
		v.Flags = append(v.Flags, rec[flag] == "1")
		v.Shares = append(v.Shares, strings.Clone(rec[shares]))
	}
}
