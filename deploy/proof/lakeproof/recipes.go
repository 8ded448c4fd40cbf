package lakeproof

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// exampleDir is the --data-dir of the recipes in docs/LAKE.md.
const exampleDir = "/var/lib/tocsin"

// recipe begins with its name and is an indented block of Python.
var recipe = regexp.MustCompile(`(?m)^<!-- recipe: (.+) -->\n\n((?:    .*\n|\n)+)`)

// recipesOf reads the page's recipes by name.
func recipesOf(page string) map[string]string {
	out := map[string]string{}
	for _, m := range recipe.FindAllStringSubmatch(page, -1) {
		var b strings.Builder
		for line := range strings.Lines(m[2]) {
			b.WriteString(strings.TrimPrefix(line, "    "))
		}
		out[m[1]] = b.String()
	}
	return out
}

// recipes runs what docs/LAKE.md tells analysts to do; each prints the number of readings last.
func (p *proof) recipes(ctx context.Context) error {
	page, err := os.ReadFile(filepath.Join(p.cfg.Repo, "docs", "LAKE.md"))
	if err != nil {
		return err
	}
	all := recipesOf(string(page))
	if len(all) == 0 {
		return errors.New("docs/LAKE.md has no recipes")
	}
	p.say("recipes of docs/LAKE.md")
	bin := filepath.Join(p.cfg.Repo, "bin") + string(filepath.Separator)
	for name, code := range all {
		code = strings.ReplaceAll(code, exampleDir, p.dir)
		code = strings.ReplaceAll(code, `["tocsin", `, `["`+bin+`tocsin", `)
		code = strings.ReplaceAll(code, "/opt/jars/", filepath.Dir(p.cfg.Jars[0])+"/")
		file := filepath.Join(p.dir, "recipe.py")
		if err := os.WriteFile(file, []byte(code), 0o600); err != nil {
			return err
		}
		out, err := p.python(ctx, file)
		p.report.brokenIf(err != nil, "recipe %s: %v", name, err)
		if err == nil {
			p.report.Recipes[name] = lastLine(out)
			want := fmt.Sprint(p.cfg.Sizes.Readings() + newerRows)
			p.report.brokenIf(lastLine(out) != want, "recipe %s finds %s readings, want %s", name, lastLine(out), want)
		}
		p.say("  %s: %s", name, lastLine(out))
	}
	return nil
}
