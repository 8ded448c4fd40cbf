package trialreport

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Duration for people: two figures at most, a sign where it is before.
func Duration(d time.Duration) string {
	if d < 0 {
		return Duration(-d) + " before"
	}
	switch {
	case d < 10*time.Second:
		return trimmed(d.Seconds(), 1) + " s"
	case d < 2*time.Minute:
		return trimmed(d.Seconds(), 0) + " s"
	case d < 2*time.Hour:
		return trimmed(d.Minutes(), 0) + " min"
	case d < 48*time.Hour:
		return trimmed(d.Hours(), 1) + " h"
	}
	return trimmed(d.Hours()/24, 1) + " days"
}

func trimmed(x float64, digits int) string {
	return strings.TrimSuffix(strconv.FormatFloat(x, 'f', digits, 64), ".0")
}

// Figure is a rate with two or three figures.
func Figure(x float64) string {
	switch {
	case x == 0:
		return "0"
	case x >= 100:
		return strconv.FormatFloat(math.Round(x), 'f', 0, 64)
	case x >= 10:
		return trimmed(x, 1)
	}
	return strconv.FormatFloat(x, 'g', 2, 64)
}

// value is a measured value with four figures.
func value(x float64) string { return strconv.FormatFloat(x, 'g', 4, 64) }

// count is a number of things; the second word is for many, else an s is added.
func count(n int, words ...string) string {
	many := words[0] + "s"
	if len(words) > 1 {
		many = words[1]
	}
	return thousands(n) + " " + plural(n, words[0], many)
}

func plural(n int, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}

func thousands(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05") }

// percent of a share.
func percent(x float64) string { return fmt.Sprintf("%.0f %%", 100*x) }
