package config_test

import (
	"reflect"
	"testing"
	"time"

	"github.com/tocsin-io/tocsin/pkg/config"
)

type inner struct {
	Budget float64       `mapstructure:"budget"`
	Wait   time.Duration `mapstructure:"wait"`
	hidden int
}

type outer struct {
	Inner  inner          `mapstructure:"inner"`
	Names  []string       `mapstructure:"names"`
	Limits map[string]int `mapstructure:"limits"`
	Models inner          `mapstructure:"models"`
}

func TestDifferences(t *testing.T) {
	a := outer{Inner: inner{1, time.Second, 1}, Names: []string{"a", "b"}, Limits: map[string]int{"x": 1}}
	b := outer{Inner: inner{2, time.Minute, 2}, Names: []string{"a"}, Limits: map[string]int{"x": 1}}
	want := []config.Difference{{"inner.budget", "1", "2"}, {"inner.wait", "1s", "1m0s"}, {"names", "a, b", "a"}}
	if got := config.Differences(a, b); !reflect.DeepEqual(got, want) {
		t.Errorf("%q", got)
	}
	if got := config.Differences(a, a); len(got) != 0 {
		t.Errorf("%q", got)
	}
}

// What people applied stays where the file says what it said; where the file says something new, that holds.
func TestMerge(t *testing.T) {
	base := outer{Inner: inner{Budget: 1, Wait: time.Second}, Names: []string{"a"}, Models: inner{Budget: 1}}
	mine := outer{Inner: inner{Budget: 2, Wait: time.Minute}, Names: []string{"a", "b"}, Models: inner{Budget: 9}}
	to := outer{Inner: inner{Budget: 1, Wait: time.Hour}, Names: []string{"a", "b"}, Limits: map[string]int{"x": 1}, Models: inner{Budget: 1}}
	kept, overruled := config.Merge(base, mine, &to, "models")
	if !reflect.DeepEqual(kept, []config.Difference{{"inner.budget", "1", "2"}}) || !reflect.DeepEqual(overruled, []config.Difference{{"inner.wait", "1m0s", "1h0m0s"}}) {
		t.Errorf("kept %q, overruled %q", kept, overruled)
	}
	if to.Inner.Budget != 2 || to.Inner.Wait != time.Hour || len(to.Names) != 2 || to.Limits["x"] != 1 || to.Models.Budget != 1 {
		t.Errorf("%+v", to)
	}
}
