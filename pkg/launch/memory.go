package launch

import (
	"errors"
	"fmt"
	"math"
	"runtime/debug"
	"strconv"
	"strings"
)

// Runtime is what concerns the process as a whole.
type Runtime struct {
	MemoryLimit string `mapstructure:"memory_limit" doc:"Soft limit of the process's memory, such as 1500MB or 2GiB: near it the garbage collector works harder. Set it to some 80 % of what the process may use. 0: none, or what GOMEMLIMIT says."`
}

// Validate names the first field that is wrong.
func (r Runtime) Validate() error {
	if _, err := parseBytes(r.MemoryLimit); err != nil {
		return fmt.Errorf("memory_limit: %w", err)
	}
	return nil
}

// Apply sets what holds for the whole process. r must be valid.
func (r Runtime) Apply() {
	if n, err := parseBytes(r.MemoryLimit); err == nil && n > 0 {
		debug.SetMemoryLimit(n)
	}
}

// parseBytes reads a number of bytes with or without a unit, of 1000 (kB, MB, GB, TB) or 1024 (KiB, MiB, GiB, TiB).
func parseBytes(s string) (int64, error) {
	bad := fmt.Errorf("%q is not a number of bytes such as 1500MB or 2GiB", s)
	digits := strings.TrimRight(s, "kKMGTiB ")
	unit := strings.TrimSpace(s[len(digits):])
	n, err := strconv.ParseFloat(digits, 64)
	if err != nil || n < 0 || n != n {
		return 0, bad
	}
	factor, ok := map[string]float64{
		"": 1, "B": 1, "kB": 1e3, "KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40,
	}[unit]
	if !ok {
		return 0, bad
	}
	if n *= factor; n >= math.MaxInt64 {
		return 0, bad
	}
	if n > 0 && n < 16<<20 {
		return 0, errors.New("a process needs more than 16 MiB")
	}
	return int64(n), nil
}
