package auth_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/tocsin-io/tocsin/pkg/auth"
	"pgregory.net/rapid"
)

const (
	adas = "0123456789abcdef"
	bos  = "fedcba9876543210"
)

func TestAuthenticate(t *testing.T) {
	for _, open := range []bool{false, true} {
		tokens := auth.NewTokens[string]()
		for token, who := range map[string]string{adas: "ada", bos: "bo"} {
			if err := tokens.Add(token, who); err != nil {
				t.Fatal(err)
			}
		}
		if err := tokens.Add(adas, "cy"); !errors.Is(err, auth.ErrTwice) {
			t.Error(err)
		}
		anybody := ""
		if open {
			anybody = "anybody"
			tokens.AllowAnonymous(anybody)
		}
		for authorization, want := range map[string]string{
			"":                      anybody,
			"Bearer " + adas:        "ada",
			"bearer " + bos:         "bo",
			"BEARER  " + bos + " ":  "bo",
			"Bearer " + adas + "x":  "",
			"Bearer " + adas[:15]:   "",
			"Bearer":                "",
			"Bearer ":               "",
			" ":                     "",
			"Basic " + adas:         "",
			adas:                    "",
			"Bearer\t" + adas:       "",
			"Bearer " + adas + bos:  "",
			"Bearer Bearer " + adas: "",
		} {
			who, err := tokens.Authenticate(authorization)
			if who != want || (err == nil) != (want != "") || err != nil && !errors.Is(err, auth.ErrUnauthenticated) {
				t.Errorf("open %v, %q is %q, %v; want %q", open, authorization, who, err, want)
			}
		}
	}
}

func TestCheckToken(t *testing.T) {
	for token, fine := range map[string]bool{adas: true, adas[1:]: false, "": false, adas + " ": false, "\n" + adas: false, "0123\t456789abcdef": false} {
		if err := auth.CheckToken(token); (err == nil) != fine {
			t.Errorf("%q: %v", token, err)
		}
	}
}

func TestCheckEquipment(t *testing.T) {
	for want, patterns := range map[string][]string{
		"":         {"press-07", "line-a-*", "*", "a:b.c_d*"},
		": empty":  nil,
		"[0]":      {""},
		"[1]: \"*": {"a", "*a"},
		"[2]":      {"a", "b", "c d"},
		"[0]: ":    {strings.Repeat("a", 129)},
		"[0]: \"a": {"a**"},
	} {
		err := auth.CheckEquipment(patterns)
		if want == "" && err != nil || want != "" && (err == nil || !strings.HasPrefix(err.Error(), want)) {
			t.Errorf("%q: %v", patterns, err)
		}
	}
}

// Has says what the words say, in both forms, and costs no memory.
func TestEquipment(t *testing.T) {
	if (auth.Equipment{}).Has("a") || (auth.Equipment{}).All() || !auth.Every().All() || !auth.Every().Has("a") {
		t.Error("nothing, or everything, is not that")
	}
	rapid.Check(t, func(t *rapid.T) {
		patterns := rapid.SliceOfN(rapid.StringMatching(`[ab]{1,3}\*?|\*`), 1, 4).Draw(t, "patterns")
		id := rapid.StringMatching(`[ab]{1,4}`).Draw(t, "id")
		e := auth.NewEquipment(patterns)
		want, all := false, false
		for _, p := range patterns {
			want = want || p == id || strings.HasSuffix(p, "*") && strings.HasPrefix(id, p[:len(p)-1])
			all = all || p == "*"
		}
		if e.Has(id) != want || e.HasBytes([]byte(id)) != want || e.All() != all {
			t.Fatalf("%q of %q: %v, %v; want %v; all %v", id, patterns, e.Has(id), e.HasBytes([]byte(id)), want, e.All())
		}
	})
	e := auth.NewEquipment([]string{"line-a-*", "line-b-*", "a-machine-with-a-name-that-is-long-enough-for-the-heap"})
	raw := []byte("a-machine-with-a-name-that-is-long-enough-for-the-heap-and-longer")
	if n := testing.AllocsPerRun(100, func() { e.HasBytes(raw) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestLoopback(t *testing.T) {
	for addr, want := range map[string]bool{
		"127.0.0.1:80": true, "127.9.0.1:0": true, "[::1]:80": true, "localhost:80": true,
		":80": false, "0.0.0.0:80": false, "10.0.0.1:80": false, "example.com:80": false, "127.0.0.1": false, "": false,
	} {
		if auth.Loopback(addr) != want {
			t.Errorf("%q: %v", addr, !want)
		}
	}
}

func TestHere(t *testing.T) {
	for host, want := range map[string]bool{
		"127.0.0.1": true, "127.0.0.1:8080": true, "127.9.0.1": true, "[::1]": true, "[::1]:80": true, "localhost": true, "LocalHost:8080": true,
		"": false, ":80": false, "example.com": false, "example.com:8080": false, "10.0.0.1": false, "localhost.example.com": false, "127.0.0.1.example.com:80": false,
	} {
		if auth.Here(host) != want {
			t.Errorf("%q: %v", host, !want)
		}
	}
}
