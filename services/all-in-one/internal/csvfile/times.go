package csvfile

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// layouts are tried in this order; where day and month could both come first, the one that keeps time from running
// backwards wins.
var layouts = []string{
	time.RFC3339Nano, "2006-01-02 15:04:05.999999999", "2006-01-02T15:04:05.999999999", "2006-01-02 15:04:05Z07:00",
	"2006-01-02 15:04", "2006-01-02T15:04", "2006-01-02", "2006/01/02 15:04:05", "2006/01/02 15:04",
	"02/01/2006 15:04:05", "01/02/2006 15:04:05", "02/01/2006 15:04", "01/02/2006 15:04", "02/01/06 15", "01/02/06 15",
	"02/01/06 15:04", "01/02/06 15:04", "02.01.2006 15:04:05", "02.01.2006 15:04", "20060102 150405", time.ANSIC, time.RFC1123, time.RFC1123Z,
}

// named tells whether a header promises time, so that plain numbers below it may be Unix times.
func named(header string) bool {
	switch strings.ToLower(header) {
	case "time", "timestamp", "ts", "datetime", "date", "epoch", "unix_time", "time_us", "time_ms":
		return true
	}
	return false
}

// timeFormat is a parser that fits all the values, or nil. Numbers count as Unix times only when asked for.
func timeFormat(values []string, numbers bool) func(string) (time.Time, error) {
	if len(values) == 0 {
		return nil
	}
	var fits func(string) (time.Time, error)
	for _, l := range layouts {
		parse := func(s string) (time.Time, error) { return time.ParseInLocation(l, s, time.UTC) }
		ok, ordered := try(parse, values)
		if ok && ordered {
			return parse
		}
		if ok && fits == nil {
			fits = parse
		}
	}
	if fits == nil && numbers {
		if ok, _ := try(unix, values); ok {
			return unix
		}
	}
	return fits
}

func try(parse func(string) (time.Time, error), values []string) (ok, ordered bool) {
	ordered = true
	var last time.Time
	for i, v := range values {
		at, err := parse(v)
		if err != nil {
			return false, false
		}
		if i > 0 && at.Before(last) {
			ordered = false
		}
		last = at
	}
	return true, ordered
}

// unix reads seconds, milliseconds, microseconds or nanoseconds since 1970, told apart by their size.
func unix(s string) (time.Time, error) {
	v, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return time.Time{}, err
	}
	switch {
	case v != v || v < -1e19 || v > 1e19:
		return time.Time{}, fmt.Errorf("%q is not a time", s)
	case v > 1e17 || v < -1e17:
		return time.Unix(0, int64(v)).UTC(), nil
	case v > 1e14 || v < -1e14:
		return time.UnixMicro(int64(v)).UTC(), nil
	case v > 1e11 || v < -1e11:
		return time.UnixMilli(int64(v)).UTC(), nil
	}
	return time.UnixMicro(int64(v * 1e6)).UTC(), nil
}
