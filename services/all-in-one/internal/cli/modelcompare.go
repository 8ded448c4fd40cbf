package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
)

// sideAnswer is one model of a comparison.
type sideAnswer struct {
	Model     string   `json:"model"`
	Pages     int      `json:"pages"`
	Rate      *float64 `json:"pages_per_machine_month"`
	Low       *float64 `json:"low"`
	High      *float64 `json:"high"`
	Precision *float64 `json:"precision"`
	Judged    int      `json:"pages_with_verdict"`
	ScoreTook string   `json:"score_took"`
	OnlyCount int      `json:"only_count"`
	Only      []struct {
		EquipmentID string    `json:"equipment_id"`
		From        time.Time `json:"from"`
		To          time.Time `json:"to"`
		Surprise    float64   `json:"surprise"`
		Verdict     string    `json:"verdict"`
		Link        string    `json:"link"`
	} `json:"only"`
}

type pairAnswer struct {
	Champion sideAnswer `json:"champion"`
	Shadow   sideAnswer `json:"shadow"`
	Windows  uint64     `json:"windows"`
	Months   float64    `json:"machine_months"`
	Unusual  struct {
		Neither      uint64 `json:"neither"`
		Both         uint64 `json:"both"`
		ChampionOnly uint64 `json:"champion_only"`
		ShadowOnly   uint64 `json:"shadow_only"`
	} `json:"unusual"`
	Agreement  *float64 `json:"agreement"`
	Kappa      *float64 `json:"kappa"`
	Both       int      `json:"pages_of_both"`
	Lead       *float64 `json:"lead_seconds"`
	Advice     string   `json:"advice"`
	Confidence float64  `json:"confidence"`
	Why        string   `json:"why"`
}

func (t *trainer) compare() *cobra.Command {
	return t.overStream("compare [NAME]", "Say how shadows did beside champions in the stream, and what to do", `Compare shows of each champion and shadow that judged the same windows: how often they agreed, what pages each alone would have given at the budget per machine and
month, where only one of them spoke, and what people said of those alerts (tocsin alerts verdict). A page is windows whose calibrated surprise reaches what pages at
the budget, ten minutes from the next. Verdicts exist only where the whole judge paged. Stream-processors count a window when it closes, and write once a minute.`, "/v1/comparison", "what is compared is not older than that", func(out io.Writer, raw json.RawMessage) error {
		var answer struct{ Pairs []pairAnswer }
		if err := json.Unmarshal(raw, &answer); err != nil {
			return err
		}
		if len(answer.Pairs) == 0 {
			fmt.Fprintln(out, "no shadow judged beside a champion in that time: tocsin models shadow --help")
			return nil
		}
		for i := range answer.Pairs {
			if err := answer.Pairs[i].write(out); err != nil {
				return err
			}
		}
		return nil
	})
}

// write writes a pair for people.
func (p *pairAnswer) write(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "\tCHAMPION\tSHADOW\n\t%s\t%s\n", p.Champion.Model, p.Shadow.Model)
	row := func(what string, of func(*sideAnswer) string) {
		fmt.Fprintf(w, "%s\t%s\t%s\n", what, of(&p.Champion), of(&p.Shadow))
	}
	row("pages alone", func(s *sideAnswer) string { return fmt.Sprint(s.Pages) })
	row("per machine and month", func(s *sideAnswer) string {
		if s.Rate == nil || s.Low == nil || s.High == nil {
			return "-"
		}
		return fmt.Sprintf("%.2f (%.2f to %.2f)", *s.Rate, *s.Low, *s.High)
	})
	row("precision by verdicts", func(s *sideAnswer) string {
		if s.Precision == nil {
			return "no verdicts"
		}
		return fmt.Sprintf("%.2f of %d", *s.Precision, s.Judged)
	})
	row("one window scored in", func(s *sideAnswer) string {
		if s.ScoreTook == "" {
			return "-"
		}
		return s.ScoreTook
	})
	row("pages of it alone", func(s *sideAnswer) string { return fmt.Sprint(s.OnlyCount) })
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(out, "%d windows in %.3g machine-months; unusual to neither %d, both %d, the champion only %d, the shadow only %d", p.Windows, p.Months,
		p.Unusual.Neither, p.Unusual.Both, p.Unusual.ChampionOnly, p.Unusual.ShadowOnly)
	if p.Agreement != nil {
		fmt.Fprintf(out, "; they agree in %.2f %%", 100**p.Agreement)
	}
	if p.Kappa != nil {
		fmt.Fprintf(out, " (kappa %.2f)", *p.Kappa)
	}
	fmt.Fprintf(out, "\n%d pages of both", p.Both)
	if p.Lead != nil {
		fmt.Fprintf(out, ", the shadow earlier by %.0f s (median)", *p.Lead)
	}
	fmt.Fprintln(out)
	const shown = 10
	for _, s := range []struct {
		who string
		*sideAnswer
	}{{"champion", &p.Champion}, {"shadow", &p.Shadow}} {
		for i, g := range s.Only {
			if i == shown {
				fmt.Fprintf(out, "  ... and %d more of the %s (--json)\n", s.OnlyCount-shown, s.who)
				break
			}
			fmt.Fprintf(out, "  only the %s: %s, %s to %s %s %s\n", s.who, g.EquipmentID, g.From.Format(time.DateTime), g.To.Format(time.TimeOnly), g.Verdict, g.Link)
		}
	}
	_, err := fmt.Fprintf(out, "%s", p.advice())
	return err
}

func (p *pairAnswer) advice() string {
	what := map[string]string{
		"promote": "Promote the shadow", "keep": "Keep the champion", "look": "Look at what they differ in", "wait": "Wait for more",
	}[p.Advice]
	if what == "" {
		what = p.Advice
	}
	if p.Confidence > 0 {
		what += fmt.Sprintf(" (confidence %.2f)", p.Confidence)
	}
	return what + ": " + p.Why + ".\n\n"
}
