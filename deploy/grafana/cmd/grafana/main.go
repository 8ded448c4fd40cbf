// Grafana writes the dashboards and the rules as files below a folder, and removes dashboards that are no more.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/tocsin-io/tocsin/deploy/grafana"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: grafana FOLDER")
		os.Exit(2)
	}
	if err := write(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "grafana:", err)
		os.Exit(1)
	}
}

func write(folder string) error {
	files, err := grafana.Files()
	if err != nil {
		return err
	}
	dashboards := filepath.Join(folder, filepath.Dir(grafana.DashboardFiles))
	old, err := filepath.Glob(filepath.Join(folder, grafana.DashboardFiles))
	if err != nil {
		return err
	}
	for _, f := range old {
		if err := os.Remove(f); err != nil {
			return err
		}
	}
	for _, dir := range []string{dashboards, filepath.Join(folder, filepath.Dir(grafana.RuleFile))} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	for name, b := range files {
		if err := os.WriteFile(filepath.Join(folder, name), b, 0o644); err != nil {
			return err
		}
	}
	return nil
}
