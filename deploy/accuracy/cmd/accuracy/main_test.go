package main

import (
	"errors"
	"flag"
	"strings"
	"testing"
)

func TestWithoutDataItSaysWhatToDo(t *testing.T) {
	t.Setenv("TOCSIN_DATA", "")
	err := run(t.Context(), nil)
	if !errors.Is(err, errUsage) || !strings.Contains(err.Error(), "set TOCSIN_DATA") || !strings.Contains(err.Error(), "combined_windows.json") {
		t.Error(err)
	}
}

func TestUsage(t *testing.T) {
	t.Setenv("TOCSIN_DATA", t.TempDir())
	for _, args := range [][]string{{"-nothing"}, {"skab"}} {
		if err := run(t.Context(), args); !errors.Is(err, errUsage) {
			t.Errorf("%v: %v", args, err)
		}
	}
	if err := run(t.Context(), []string{"-h"}); !errors.Is(err, flag.ErrHelp) {
		t.Error(err)
	}
	if err := run(t.Context(), []string{"-tocsin", "/nowhere/tocsin"}); err == nil || !strings.Contains(err.Error(), "make build") {
		t.Error(err)
	}
	if err := run(t.Context(), []string{"-compare", "/nowhere.json"}); err == nil || !strings.Contains(err.Error(), "/nowhere.json") {
		t.Error(err)
	}
}
