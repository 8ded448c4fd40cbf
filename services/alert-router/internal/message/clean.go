package message

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Clean makes one harmless line of text from anywhere: machine and sensor names, labels and annotations may have been chosen by an attacker (whoever may post
// to the API, or names a sensor). What it takes away is what makes text lie in every rendering: control characters (header and log injection, terminal
// escapes), line and paragraph separators, marks that change the direction of writing (a name that reads backwards) and characters without width (a name
// that looks like another). Runs of spaces become one. Bytes that are not UTF-8 become U+FFFD. The result has at most limit characters, an ellipsis included.
//
// It does not escape: each rendering has its own markup and escapes for itself.
func Clean(s string, limit int) string {
	var sb strings.Builder
	n, space := 0, false
	for _, r := range s {
		switch {
		case r == '\t' || r == '\n' || r == '\r' || unicode.IsSpace(r) || r == '\u2028' || r == '\u2029' || r == '\u0085':
			space = n > 0
			continue
		case hidden(r):
			continue
		}
		need := 1
		if space {
			need = 2
		}
		if n+need > limit {
			return shorten(sb.String(), limit)
		}
		if space {
			sb.WriteByte(' ')
		}
		space = false
		sb.WriteRune(r)
		n += need
	}
	return sb.String()
}

// hidden are characters that cannot be seen, or change how others are seen.
func hidden(r rune) bool {
	switch {
	case unicode.IsControl(r), // Cc: CR, LF, NUL, ESC, DEL, C1
		unicode.Is(unicode.Cf, r),      // directions, zero width, tags, soft hyphen, byte order mark
		unicode.Is(unicode.Co, r),      // private use
		r >= '\ufe00' && r <= '\ufe0f', // variation selectors
		r == '\u115f' || r == '\u1160', // Hangul fillers
		r == '\u3164' || r == '\uffa0', // Hangul fillers
		r >= 0xe0000 && r <= 0xe0fff,   // tags and more selectors
		r >= '\ufff9' && r <= '\ufffb', // interlinear annotation
		r == '\u034f' || r == '\u17b4' || // joiners and vowels without a shape
			r == '\u17b5' || r == '\u2800':
		return true
	}
	return false
}

// shorten cuts a line to limit characters, the last one an ellipsis.
func shorten(s string, limit int) string {
	if limit <= 0 {
		return ""
	}
	if utf8.RuneCountInString(s) < limit {
		return s + "…"
	}
	r := []rune(s)
	return strings.TrimRight(string(r[:limit-1]), " ") + "…"
}
