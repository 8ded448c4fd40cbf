package config_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tocsin-io/tocsin/pkg/config"
)

type server struct {
	Listen  string        `mapstructure:"listen" doc:"Where."`
	Timeout time.Duration `mapstructure:"timeout" doc:"How long."`
}

type token struct {
	Secret string   `mapstructure:"secret" secret:"true"`
	May    []string `mapstructure:"may"`
}

type section struct {
	HTTP   server           `mapstructure:"http"`
	Names  []string         `mapstructure:"names"`
	Count  int              `mapstructure:"count"`
	Ratio  float64          `mapstructure:"ratio"`
	On     bool             `mapstructure:"on"`
	Tokens []token          `mapstructure:"tokens"`
	ByName map[string]token `mapstructure:"by_name"`
}

func (s *section) Validate() error {
	if s.Count < 0 {
		return errors.New("count: must not be negative")
	}
	return nil
}

func load(t *testing.T, yaml string) (section, error) {
	t.Helper()
	s := section{HTTP: server{Listen: "127.0.0.1:1", Timeout: time.Second}, Count: 7}
	file := filepath.Join(t.TempDir(), "tocsin.yaml")
	if err := os.WriteFile(file, []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	err := config.Load(file, config.Section{Name: "ingest_gateway", Value: &s})
	return s, err
}

func TestValuesComeFromDefaultFileAndEnvironmentInThatOrder(t *testing.T) {
	t.Setenv("TOCSIN_INGEST_GATEWAY_HTTP_TIMEOUT", "3s")
	t.Setenv("TOCSIN_INGEST_GATEWAY_NAMES", "x, y")
	t.Setenv("SECRET_OF_A", "s3cret")
	s, err := load(t, `
kafka: {brokers: [a:1]}
ingest_gateway:
  http: {timeout: 2s}
  ratio: 0.5
  on: true
  tokens:
    - {secret: "${SECRET_OF_A}", may: ["pump-*"]}
  by_name:
    Gw.One: {secret: "$${literal}"}
`)
	if err != nil {
		t.Fatal(err)
	}
	if s.HTTP.Listen != "127.0.0.1:1" || s.Count != 7 {
		t.Errorf("defaults lost: %+v", s)
	}
	if s.HTTP.Timeout != 3*time.Second || len(s.Names) != 2 || s.Names[1] != "y" {
		t.Errorf("the environment must win: %+v", s)
	}
	if s.Ratio != 0.5 || !s.On || s.Tokens[0].Secret != "s3cret" || s.Tokens[0].May[0] != "pump-*" {
		t.Errorf("file: %+v", s)
	}
	if got, ok := s.ByName["Gw.One"]; !ok || got.Secret != "${literal}" {
		t.Errorf("keys of maps keep their case and dots: %+v", s.ByName)
	}
}

func TestEveryMistakeIsNamedWithItsLine(t *testing.T) {
	for name, c := range map[string]struct{ yaml, want string }{
		"unknown key":      {"ingest_gateway:\n  htpp: {}\n", `tocsin.yaml:2: ingest_gateway.htpp: unknown key; did you mean "http"?`},
		"unknown section":  {"ingest_gatewy: {}\n", `tocsin.yaml:1: ingest_gatewy: unknown section; did you mean "ingest_gateway"?`},
		"nested unknown":   {"ingest_gateway:\n  http:\n    listen: a:1\n    listne: b\n", `tocsin.yaml:4: ingest_gateway.http.listne`},
		"wrong kind":       {"ingest_gateway:\n  count: many\n", `tocsin.yaml:2: ingest_gateway.count: "many" is not a whole number`},
		"bad duration":     {"ingest_gateway:\n  http: {timeout: soon}\n", `"soon" is not a duration such as 5s or 2m30s`},
		"twice":            {"ingest_gateway:\n  count: 1\n  count: 2\n", `ingest_gateway.count: given twice`},
		"in a list":        {"ingest_gateway:\n  tokens:\n    - {secrte: x}\n", `tocsin.yaml:3: ingest_gateway.tokens[0].secrte`},
		"unset reference":  {"ingest_gateway:\n  names: ['${NOT_SET_ANYWHERE}']\n", `tocsin.yaml:2: ingest_gateway.names[0]: environment variable NOT_SET_ANYWHERE is not set`},
		"refused by rule":  {"ingest_gateway:\n\n  count: -1\n", `tocsin.yaml:3: ingest_gateway.count: must not be negative`},
		"list for mapping": {"ingest_gateway: [1]\n", `tocsin.yaml:1: ingest_gateway: must be a mapping`},
		"not YAML":         {"a: [", `tocsin.yaml`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := load(t, c.yaml)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v\nwant it to contain %s", err, c.want)
			}
		})
	}
}

func TestAllMistakesAreReportedAtOnce(t *testing.T) {
	_, err := load(t, "ingest_gateway:\n  a: 1\n  b: 2\n  count: x\n")
	for _, want := range []string{"ingest_gateway.a", "ingest_gateway.b", "ingest_gateway.count"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s is not in %v", want, err)
		}
	}
}

func TestMistakesAndForbiddenValuesAreReportedTogether(t *testing.T) {
	k := section{}
	file := filepath.Join(t.TempDir(), "tocsin.yaml")
	if err := os.WriteFile(file, []byte("ingest_gateway: {nope: 1}\nkafka:\n  count: -1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	err := config.Load(file, config.Section{Name: "ingest_gateway", Value: new(section)}, config.Section{Name: "kafka", Value: &k})
	for _, want := range []string{"ingest_gateway.nope", "tocsin.yaml:3: kafka.count: must not be negative"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s is not in %v", want, err)
		}
	}
}

func TestForbiddenValueFromTheEnvironmentNamesTheVariable(t *testing.T) {
	t.Setenv("TOCSIN_INGEST_GATEWAY_COUNT", "-3")
	_, err := load(t, "")
	if err == nil || !strings.Contains(err.Error(), "environment TOCSIN_INGEST_GATEWAY_COUNT: must not be negative") {
		t.Errorf("got %v", err)
	}
}

func TestBadEnvironmentIsNamed(t *testing.T) {
	t.Setenv("TOCSIN_INGEST_GATEWAY_COUNT", "x")
	_, err := load(t, "")
	if err == nil || !strings.Contains(err.Error(), "environment TOCSIN_INGEST_GATEWAY_COUNT") {
		t.Errorf("got %v", err)
	}
}

func FuzzLoad(f *testing.F) {
	f.Add("ingest_gateway: {count: 1}")
	f.Add("a: &x [*x]")
	f.Add("ingest_gateway: &a {http: *a}")
	f.Fuzz(func(t *testing.T, yaml string) {
		_, _ = load(t, yaml) // must neither panic nor hang
	})
}

// The file of another process is read with what that one knows; nothing of this one's stands in for it.
func TestLoadWith(t *testing.T) {
	t.Setenv("SECRET_OF_A", "mine")
	path := filepath.Join(t.TempDir(), "tocsin.yaml")
	if err := os.WriteFile(path, []byte("ingest_gateway:\n  tokens: [{secret: \"${SECRET_OF_A}\"}]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for theirs, ok := range map[string]bool{"theirs": true, "": false} {
		var s section
		err := config.LoadWith(func(name string) (string, bool) { return theirs, ok && name == "SECRET_OF_A" }, path, config.Section{Name: "ingest_gateway", Value: &s})
		if ok && (err != nil || s.Tokens[0].Secret != theirs) {
			t.Errorf("%+v, %v", s, err)
		}
		if !ok && (err == nil || !strings.Contains(err.Error(), "SECRET_OF_A is not set")) {
			t.Error(err)
		}
	}
}
