package chaos_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/zap/zaptest"

	"github.com/tocsin-io/tocsin/deploy/local/stack"
	"github.com/tocsin-io/tocsin/deploy/local/stack/stacktest"
	"github.com/tocsin-io/tocsin/deploy/proof/chaos"
)

// Each kind of fault at least once on the real stack, and the whole history checked. The full run is `make chaos`.
func TestRealChaosSlice(t *testing.T) {
	if testing.Short() {
		const why = "NOT PROVEN HERE, because of -short: the slice takes minutes"
		if os.Getenv(stacktest.RequireEnv) == "1" {
			t.Fatal(why)
		}
		t.Skip(why)
	}
	repo, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	board, err := chaos.Run(t.Context(), chaos.Options{Repo: repo, Plan: chaos.Slice(), Progress: progress{t}, Log: zaptest.NewLogger(t)})
	var missing *stack.MissingError
	if errors.As(err, &missing) {
		stacktest.Need(t, err)
	}
	if board != nil {
		var table bytes.Buffer
		if err := board.WriteTable(&table); err != nil {
			t.Error(err)
		}
		t.Log(table.String())
	}
	if err != nil {
		t.Fatal(err)
	}
	if !board.Pass() {
		t.Error("a promise was broken: see the table")
	}
}

type progress struct{ t *testing.T }

func (p progress) Write(b []byte) (int, error) {
	p.t.Log(strings.TrimRight(string(b), "\n"))
	return len(b), nil
}
