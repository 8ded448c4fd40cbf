package comparison

import (
	"fmt"

	"gonum.org/v1/gonum/stat/distuv"
)

// Advice is what should be done with the shadow, in plain words.
type Advice struct {
	// Advice: "promote", "keep" the champion, "look" at what they differ in, or "wait" for more.
	Advice string `json:"advice"`
	// Confidence in [0, 1] that the two differ as the advice has it; 0 where it says to wait.
	Confidence float64 `json:"confidence"`
	Why        string  `json:"why"`
}

const (
	enoughWindows = 1_000
	sure          = 0.95
	likely        = 0.80
)

// advise weighs verdicts first: they alone say who was right. Where the two do not differ in them, pages are compared, which says who is louder and not who is right.
func advise(p *Pair) Advice {
	if p.Windows < enoughWindows {
		return Advice{Advice: "wait", Why: fmt.Sprintf("both judged %d windows; from %d on this says something", p.Windows, enoughWindows)}
	}
	v := &p.Verdicts
	better, worse := v.ShadowRight, v.ChampionRight
	words := fmt.Sprintf("of %d alerts called real the champion found %d and the shadow %d; for %d called false the champion would page %d times and the shadow %d",
		v.Real, v.RealChampion, v.RealShadow, v.False, v.FalseChampion, v.FalseShadow)
	if better+worse > 0 {
		switch c := surer(better, worse); {
		case better > worse && c >= likely && v.RealShadow >= v.RealChampion:
			return Advice{"promote", c, words}
		case worse > better && c >= likely:
			return Advice{"keep", c, words}
		case better > worse && v.RealShadow < v.RealChampion:
			return Advice{"look", c, words + ": the shadow is quieter and misses faults that the champion finds"}
		default:
			return Advice{Advice: "wait", Why: words + ": too few to tell"}
		}
	}
	if v.Real+v.False > 0 {
		words = "no verdict on an alert tells the two apart (" + words + ")"
	} else {
		words = "nobody has said yet what alerts were worth (tocsin alerts verdict)"
	}
	quieter, louder := p.Champion.Pages-p.Shadow.Pages, p.Shadow.Pages-p.Champion.Pages
	pages := fmt.Sprintf("; alone the champion would have paged %d times and the shadow %d", p.Champion.Pages, p.Shadow.Pages)
	switch c := surer(max(p.Champion.Pages, p.Shadow.Pages), min(p.Champion.Pages, p.Shadow.Pages)); {
	case c >= sure && louder > 0:
		return Advice{"keep", c, words + pages}
	case c >= sure && quieter > 0:
		return Advice{"look", c, words + pages + ": if what only the champion pages for is nothing, promote"}
	}
	return Advice{Advice: "wait", Why: words + pages + ": that is no difference"}
}

// surer is how unlikely it would be for a coin to fall so unevenly (sign test, one-sided): 1 less the chance of more or as many heads.
func surer(more, fewer int) float64 {
	n := more + fewer
	if more <= fewer || n == 0 {
		if fewer > more {
			return surer(fewer, more)
		}
		return 0
	}
	return distuv.Binomial{N: float64(n), P: 0.5}.CDF(float64(more - 1))
}
