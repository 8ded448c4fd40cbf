package launch

import (
	"runtime/debug"
	"testing"
)

func TestMemoryLimit(t *testing.T) {
	for s, want := range map[string]int64{
		"0": 0, "17000000": 17_000_000, "1500MB": 1_500_000_000, "2GiB": 2 << 30, "0.5 GiB": 1 << 29, "64MiB": 64 << 20, "20000kB": 20_000_000, "1TiB": 1 << 40, "0B": 0,
	} {
		if got, err := parseBytes(s); err != nil || got != want {
			t.Errorf("%q: %d, %v, want %d", s, got, err, want)
		}
	}
	for _, s := range []string{"", "GiB", "-1", "1 PiB", "2Gi", "1e99", "NaN", "Inf", "1MB", "lots", "2 GiB of it"} {
		if err := (Runtime{MemoryLimit: s}).Validate(); err == nil {
			t.Errorf("%q was taken", s)
		}
	}
	before := debug.SetMemoryLimit(-1)
	defer debug.SetMemoryLimit(before)
	Runtime{MemoryLimit: "0"}.Apply()
	if got := debug.SetMemoryLimit(-1); got != before {
		t.Errorf("no limit was asked for, it is %d now", got)
	}
	Runtime{MemoryLimit: "3GiB"}.Apply()
	if got := debug.SetMemoryLimit(-1); got != 3<<30 {
		t.Errorf("limit %d", got)
	}
}
