package drift

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// say is what is found of a variable, for people.
func (x *Variable) say(score bool) string {
	name := x.Name
	if score {
		name = "the score"
	}
	switch x.State {
	case Stable:
		return name + " is as in training"
	case TooFew:
		if len(x.Course) < leastBatches {
			return fmt.Sprintf("%s: counted in %d of the %d stretches of time that are needed", name, len(x.Course), leastBatches)
		}
		return fmt.Sprintf("%s: its windows are worth %.0f independent ones, too few to tell a change from chance", name, x.Worth)
	}
	if x.Shift == nil {
		at := 0.0
		for i, share := range x.Trained {
			if share == 1 {
				at = x.Now[i]
			}
		}
		return fmt.Sprintf("%s was always %s in training, and is in %.0f %% of the windows", name, number(x.Mean), 100*at)
	}
	var what []string
	if by := math.Abs(*x.Shift); by >= 0.1 {
		way := "up"
		if *x.Shift < 0 {
			way = "down"
		}
		what = append(what, fmt.Sprintf("has moved %s by %.1f sd since training", way, by))
	}
	switch {
	case *x.Spread >= 1.25:
		what = append(what, fmt.Sprintf("varies %.1f times as much as in training", *x.Spread))
	case *x.Spread <= 0.8:
		what = append(what, fmt.Sprintf("varies %.2f times as much as in training", *x.Spread))
	}
	if len(what) == 0 {
		what = append(what, "is spread otherwise than in training")
	}
	out := name + " " + strings.Join(what, " and ")
	if score {
		return out + ": rows look " + map[bool]string{true: "more", false: "less"}[*x.Shift > 0] + " unusual to the model"
	}
	return out
}

func number(v float64) string { return strconv.FormatFloat(v, 'g', 6, 64) }

// say is what is found of a model, for people.
func (v *Verdict) say() string {
	switch v.State {
	case NoReference:
		return "no reference: the model was trained by a build that did not keep how its training rows were spread; the next version will have one"
	case NoWindows:
		return "no stream-processor asked this version in that time"
	}
	over := fmt.Sprintf("%s windows in %s", grouped(v.Windows), spanOf(v.To.Sub(v.From)))
	watched := ""
	if v.Watched < v.Features {
		watched = fmt.Sprintf("; %d of its %d features are watched, and the score", v.Watched, v.Features)
	}
	few := 0
	for i := range v.Variables {
		if v.Variables[i].State == TooFew {
			few++
		}
	}
	switch v.State {
	case TooFew:
		return "too few: " + v.Score.Says + "; " + over + watched
	case Stable:
		out := "as in training"
		if few > 0 {
			out += fmt.Sprintf(", but for %d features that cannot be told yet", few)
		}
		return out + "; " + over + watched
	}
	var parts []string
	left := 0
	for i := range v.Variables {
		switch x := &v.Variables[i]; {
		case !x.changed():
		case len(parts) < 3:
			parts = append(parts, x.Says)
		default:
			left++
		}
	}
	if left > 0 {
		parts = append(parts, fmt.Sprintf("and %d more features", left))
	}
	if v.Score.changed() {
		parts = append(parts, v.Score.Says)
	}
	return strings.Join(parts, "; ") + "; " + over + watched
}

// grouped writes 12300 as 12,300.
func grouped(n uint64) string {
	s := strconv.FormatUint(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func spanOf(d time.Duration) string {
	switch {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%.0f days", d.Hours()/24)
	case d >= 2*time.Hour:
		return fmt.Sprintf("%.0f hours", d.Hours())
	}
	return fmt.Sprintf("%.0f minutes", d.Minutes())
}

const maxCommand = 4 << 10

// RetrainCommand is how the next version of a model is trained from the lake, by the time that was judged; the new version becomes the shadow. The features of a model that is too wide for a command line are left for whoever types it.
func RetrainCommand(ref, algorithm string, features []string, parameters json.RawMessage, from, to time.Time) string {
	name, _, _ := strings.Cut(ref, "@")
	sensors := quoted(strings.Join(features, ","))
	if len(sensors) > maxCommand {
		sensors = "..."
	}
	out := fmt.Sprintf("tocsin models train %s --algorithm %s --from %s --to %s --sensors %s", name, algorithm, from.UTC().Format(time.RFC3339), to.UTC().Format(time.RFC3339), sensors)
	if len(parameters) > 0 && len(parameters) < maxCommand {
		out += " --parameters " + quoted(string(parameters))
	}
	return out
}

// quoted is s as one word of a shell.
func quoted(s string) string {
	if s != "" && strings.IndexFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_-.,/:@", r))
	}) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
