package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
)

// result of one turn of a worker.
type result struct {
	CPUNS int64            `json:"cpu_ns"`
	Bytes int              `json:"bytes"`
	Rows  int64            `json:"rows"`
	Parts map[string]int64 `json:"parts,omitempty"`
	Equal bool             `json:"equal,omitempty"`
}

// worker is a process that makes one file per line that it is sent.
type worker struct {
	name, file string
	cmd        *exec.Cmd
	in         io.WriteCloser
	out        *bufio.Scanner
	least      result // by CPU; of parts the least of each
}

func begin(name, file string, command ...string) (*worker, error) {
	w := &worker{name: name, file: file, cmd: exec.Command(command[0], command[1:]...)} //nolint:gosec // the Makefile names the commands
	w.cmd.Stderr = os.Stderr
	w.cmd.Env = append(os.Environ(), "GOMAXPROCS=1", "OMP_NUM_THREADS=1")
	var err error
	if w.in, err = w.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := w.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	w.out = bufio.NewScanner(out)
	return w, w.cmd.Start()
}

// ask sends a line and reads the answer.
func (w *worker) ask(line string) (r result, err error) {
	if _, err := fmt.Fprintln(w.in, line); err != nil {
		return r, fmt.Errorf("%s: %w", w.name, err)
	}
	if !w.out.Scan() {
		return r, fmt.Errorf("%s has ended: %w", w.name, errors.Join(w.out.Err(), io.ErrUnexpectedEOF))
	}
	if err := json.Unmarshal(w.out.Bytes(), &r); err != nil {
		return r, fmt.Errorf("%s: %w", w.name, err)
	}
	return r, nil
}

// turn makes one file and keeps the least.
func (w *worker) turn() error {
	r, err := w.ask("go")
	if err != nil {
		return err
	}
	if w.least.Rows == 0 {
		w.least = r
		return nil
	}
	w.least.CPUNS = min(w.least.CPUNS, r.CPUNS)
	for k, v := range r.Parts {
		w.least.Parts[k] = min(w.least.Parts[k], v)
	}
	if r.Bytes != w.least.Bytes {
		return fmt.Errorf("%s made a file of %d bytes and then one of %d", w.name, w.least.Bytes, r.Bytes)
	}
	return nil
}

func (w *worker) end() error {
	_ = w.in.Close() // it ends when there are no more lines
	return w.cmd.Wait()
}
