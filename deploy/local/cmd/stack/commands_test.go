package main

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/tocsin-io/tocsin/deploy/local/stack"
)

func execute(t *testing.T, dir string, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	cmd := root(&out, &out)
	cmd.SetArgs(append([]string{"--dir", dir, "--bin", dir, "--port-offset", "1000"}, args...))
	err := cmd.ExecuteContext(t.Context())
	return out.String(), err
}

func TestCommandsOnAStoppedStack(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct{ args, want string }{
		{"status", "realtime-api       stopped  127.0.0.1:9080"},
		{"env", "export TOCSIN_KAFKA_BROKERS='127.0.0.1:10092'"},
		{"logs kafka-1", ""},
		{"stop services", ""},
		{"down", ""},
		{"down --purge", ""},
	} {
		out, err := execute(t, dir, strings.Fields(c.args)...)
		if err != nil || !strings.Contains(out, c.want) {
			t.Errorf("stack %s: %v\n%s\nwant %q", c.args, err, out, c.want)
		}
	}
}

func TestMistakesAreNamed(t *testing.T) {
	dir := t.TempDir()
	for args, want := range map[string]string{
		"kill -s NOPE kafka":   `no signal is called "NOPE"`,
		"kill -9 zookeeper":    `no component is called "zookeeper"`,
		"kill -9 s3":           "process already finished",
		"start":                "requires at least 1 arg",
		"up --only zookeeper":  `no component is called "zookeeper"`,
		"up --brokers 2":       "1 or 3",
		"logs kafka":           `no component is called "kafka"`,
		"start ingest-gateway": "make build",
	} {
		_, err := execute(t, dir, strings.Fields(args)...)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("stack %s: %v, want %q", args, err, want)
		}
	}
	_, err := execute(t, dir, "start", "ingest-gateway")
	var missing *stack.MissingError
	if !errors.As(err, &missing) {
		t.Errorf("%v is no MissingError", err)
	}
}
