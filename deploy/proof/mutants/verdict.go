package mutants

import (
	"regexp"
	"strings"
)

// Kinds of verdicts, by what speaks: the checker over everything that a run left behind, the service itself, the simulation's watch over
// progress, or a test's own comparison.
const (
	ByHistory = "history" // the history checker found a broken promise
	ByStop    = "stop"    // a service noticed and stopped
	ByStall   = "stall"   // the simulation came to no end, and said so
	ByTest    = "test"    // a test of the package failed
	ByPanic   = "panic"
	// Survived: everything passed.
	Survived = "survived"
	// Unclear: it failed, but nothing said why, or it had to be killed. It does not count as caught.
	Unclear = "unclear"
)

// Caught tells whether a verdict of this kind counts.
func Caught(kind string) bool {
	switch kind {
	case ByHistory, ByStop, ByStall, ByTest, ByPanic:
		return true
	}
	return false
}

// message is how the testing package prints t.Error: indented, file and line, text.
var message = regexp.MustCompile(`^\s+\S+\.go:\d+: (.+)$`)

// verdict reads what a test binary printed: what said that something is wrong, and its words.
func verdict(output string, passed bool) (kind, finding string) {
	if passed {
		return Survived, ""
	}
	lines := strings.Split(output, "\n")
	for _, k := range []struct{ kind, mark string }{
		{ByHistory, "history: "}, {ByStop, "service stopped: "}, {ByStall, "stall: "},
	} {
		for _, line := range lines {
			if i := strings.Index(line, k.mark); i >= 0 {
				return k.kind, cut(line[i:])
			}
		}
	}
	for _, line := range lines {
		if after, ok := strings.CutPrefix(line, "panic: "); ok {
			if strings.HasPrefix(after, "test timed out") {
				return Unclear, "timed out"
			}
			return ByPanic, cut(line)
		}
	}
	failed := ""
	for _, line := range lines {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "--- FAIL: "); ok {
			failed, _, _ = strings.Cut(name, " ")
			continue
		}
		if m := message.FindStringSubmatch(line); failed != "" && m != nil {
			return ByTest, failed + ": " + cut(m[1])
		}
	}
	if failed != "" {
		return ByTest, failed
	}
	return Unclear, cut(lastLine(lines))
}

func lastLine(lines []string) string {
	for i := len(lines) - 1; i >= 0; i-- {
		if s := strings.TrimSpace(lines[i]); s != "" {
			return s
		}
	}
	return "no output"
}

// cut keeps a finding to what fits a table.
func cut(s string) string {
	const most = 240
	s = strings.TrimSpace(s)
	if r := []rune(s); len(r) > most {
		return string(r[:most]) + "..."
	}
	return s
}
