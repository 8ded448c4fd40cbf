package config_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/tocsin-io/tocsin/pkg/config"
)

type overlaid struct {
	Budget float64  `mapstructure:"budget"`
	Names  []string `mapstructure:"names"`
	Inner  struct {
		Text string `mapstructure:"text"`
	} `mapstructure:"inner"`
}

func (o overlaid) Validate() error {
	if o.Budget < 0 {
		return errors.New("budget: negative")
	}
	return nil
}

func TestOverlay(t *testing.T) {
	t.Setenv("SECRET", "swordfish")
	t.Setenv("TOCSIN_IT_BUDGET", "9")
	v := overlaid{Budget: 1, Names: []string{"a"}}
	kept := v
	if err := config.Overlay([]byte(`{"names": ["b", "c"], "inner": {"text": "${SECRET}"}}`), "it", &v); err != nil {
		t.Fatal(err)
	}
	if v.Budget != 1 || strings.Join(v.Names, "") != "bc" || v.Inner.Text != "${SECRET}" || strings.Join(kept.Names, "") != "a" {
		t.Errorf("%+v, before %+v", v, kept)
	}
	for text, want := range map[string]string{
		`budgte: 1`: "it.budgte: unknown key", `budget: -1`: "it.budget: negative", `budget: [1]`: "it.budget", `[1]`: "it: must be a mapping", `{`: "it: ", `budget: ${SECRET}`: "it.budget",
	} {
		if err := config.Overlay([]byte(text), "it", &overlaid{}); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "swordfish") {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
	if err := config.Overlay(nil, "it", &v); err != nil {
		t.Errorf("nothing: %v", err)
	}
}
