package wire

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"unicode/utf8"
)

func FuzzString(f *testing.F) {
	for _, s := range []string{"", "plain", "<img src=x onerror=alert(1)>", "a\x00b\x1f\"\\\n\t\r", "\xff\xfe", "\u2028\u2029é🔔", "\ufffd"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := AppendString(nil, s)
		var back string
		if err := json.Unmarshal(got, &back); err != nil {
			t.Fatalf("%q: %s: %v", s, got, err)
		}
		want := string([]rune(s)) // each bad byte becomes U+FFFD
		if back != want || !utf8.Valid(got) || strings.ContainsAny(string(got), "<>&\u2028\u2029") {
			t.Fatalf("%q became %s", s, got)
		}
	})
}

func FuzzFloat(f *testing.F) {
	for _, v := range []float64{0, math.Copysign(0, -1), 1e21, 1e-9, math.MaxFloat64, math.SmallestNonzeroFloat64, math.NaN(), math.Inf(-1), 0.1} {
		f.Add(v)
	}
	f.Fuzz(func(t *testing.T, v float64) {
		for _, bits := range []int{32, 64} {
			w := v
			if bits == 32 {
				w = float64(float32(v))
			}
			var back *float64
			if err := json.Unmarshal(AppendFloat(nil, w, bits), &back); err != nil {
				t.Fatal(err)
			}
			finite := !math.IsNaN(w) && !math.IsInf(w, 0)
			if finite != (back != nil) {
				t.Fatalf("%v became %v", w, back)
			}
			if finite && bits == 64 && *back != w || finite && bits == 32 && float32(*back) != float32(w) {
				t.Fatalf("%v became %v", w, *back)
			}
		}
	})
}
