package message

import (
	"math"
	"strconv"
	"strings"
	"time"
)

// Number writes four significant digits, without an exponent where people do not need one: 92.43, 0.0123, 12 350, 1.2e-09. NaN is "no value".
func Number(v float64) string {
	a := math.Abs(v)
	switch {
	case math.IsNaN(v):
		return "no value"
	case math.IsInf(v, 0):
		return "beyond measure"
	case a != 0 && (a < 1e-4 || a >= 1e9):
		return strconv.FormatFloat(v, 'g', 4, 64)
	case a >= 1e3:
		return strconv.FormatFloat(v, 'f', 0, 64)
	}
	r, err := strconv.ParseFloat(strconv.FormatFloat(v, 'g', 4, 64), 64)
	if err != nil {
		return strconv.FormatFloat(v, 'g', 4, 64)
	}
	return strconv.FormatFloat(r, 'f', -1, 64)
}

// Quantity is a number with its unit.
func Quantity(v float64, unit string) string {
	if unit == "" || math.IsNaN(v) || math.IsInf(v, 0) {
		return Number(v)
	}
	return Number(v) + " " + unit
}

// Duration in at most two units, for people: "850 ms", "1.2 s", "4 min 12 s", "2 h 5 min", "3 d 4 h". A negative one keeps its sign.
func Duration(d time.Duration) string {
	if d < 0 {
		return "-" + Duration(-d)
	}
	two := func(big time.Duration, bigName string, small time.Duration, smallName string) string {
		s := strconv.FormatInt(int64(d/big), 10) + " " + bigName
		if rest := int64(d % big / small); rest > 0 {
			s += " " + strconv.FormatInt(rest, 10) + " " + smallName
		}
		return s
	}
	switch {
	case d < time.Millisecond:
		return strconv.FormatInt(d.Microseconds(), 10) + " µs"
	case d < time.Second:
		return strconv.FormatInt(d.Milliseconds(), 10) + " ms"
	case d < 10*time.Second:
		return strings.TrimSuffix(strconv.FormatFloat(math.Floor(d.Seconds()*10)/10, 'f', 1, 64), ".0") + " s"
	case d < time.Minute:
		return strconv.FormatInt(int64(d/time.Second), 10) + " s"
	case d < time.Hour:
		return two(time.Minute, "min", time.Second, "s")
	case d < 24*time.Hour:
		return two(time.Hour, "h", time.Minute, "min")
	}
	return two(24*time.Hour, "d", time.Hour, "h")
}

// chance puts a p-value in words: how often a window of a machine that runs as usual looks as odd as this one. Scores are calibrated (score = 1 - p), which is
// what makes the sentence true.
func chance(p float64) string {
	switch {
	case math.IsNaN(p) || p >= 0.5:
		return "looks like usual running"
	case p < 1e-9:
		return "usual running looks like this less than once in 1,000,000,000 windows"
	}
	return "usual running looks like this about once in " + thousands(round(1/p)) + " windows"
}

// round keeps two significant digits.
func round(v float64) int64 {
	scale := math.Pow(10, math.Max(0, math.Floor(math.Log10(v))-1))
	return int64(math.Round(v/scale) * scale)
}

func thousands(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func trust(confidence float64) string {
	word := "low"
	switch {
	case confidence >= 0.9:
		word = "high"
	case confidence >= 0.6:
		word = "fair"
	}
	return "confidence " + Number(math.Round(confidence*100)) + " % (" + word + ")"
}

// causes in words, after the machine's name: what is the matter with it.
var causes = [...]struct{ cause, is, again, are string }{
	{"limit", "is outside its limits", "is inside its limits again", "are outside their limits"},
	{"behaviour", "does not behave as usual", "behaves as usual again", "do not behave as usual"},
	{"flatline", "has a sensor that is stuck", "has no stuck sensor any more", "have sensors that are stuck"},
	{"bad_quality", "sends values that cannot be used", "sends values that can be used again", "send values that cannot be used"},
	{"silence", "sends no data any more", "sends data again", "send no data any more"},
	{"clock", "gets its data with a wrong clock", "gets its data with the right clock again", "get their data with a wrong clock"},
	{"blind", "cannot be judged", "can be judged again", "cannot be judged"},
}

// causeOfMany is what is the matter with several machines of one cause.
func causeOfMany(cause string) string {
	for _, c := range causes {
		if c.cause == cause {
			return c.are
		}
	}
	return ""
}

func causeWords(cause string, over bool) string {
	for _, c := range causes {
		switch {
		case c.cause != cause:
		case over:
			return c.again
		default:
			return c.is
		}
	}
	return ""
}

// statistical causes were found by calibrated detectors, so a chance can be given for them; the others are rules that were broken or not.
func statistical(cause string) bool { return cause == "behaviour" }

// departure says how far a value is from its band: "23.9 °C above, 3.2 times the band's width".
func departure(observed, low, high float64, unit string) string {
	var by float64
	var side string
	switch {
	case math.IsNaN(observed):
		return ""
	case observed > high:
		by, side = observed-high, "above"
	case observed < low:
		by, side = low-observed, "below"
	case math.IsNaN(low) || math.IsNaN(high):
		return ""
	default:
		return "inside the band, but off its usual course"
	}
	s := Quantity(by, unit) + " " + side
	if width := high - low; width > 0 && !math.IsInf(width, 0) {
		if times := by / width; times >= 0.1 {
			s += ", " + Number(math.Round(times*10)/10) + " times the band's width"
		}
	}
	return s
}

// band in words: "61 to 68.5 °C", "at most 80 °C".
func band(low, high float64, unit string) string {
	switch {
	case math.IsNaN(low) && math.IsNaN(high):
		return ""
	case math.IsNaN(low):
		return "at most " + Quantity(high, unit)
	case math.IsNaN(high):
		return "at least " + Quantity(low, unit)
	}
	return Number(low) + " to " + Quantity(high, unit)
}
