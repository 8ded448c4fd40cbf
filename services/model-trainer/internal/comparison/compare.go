package comparison

import (
	"cmp"
	"math"
	"slices"
	"strings"
	"time"

	"gonum.org/v1/gonum/stat/distuv"

	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
)

// Pair is how a champion and a shadow did over a time.
type Pair struct {
	Champion Side `json:"champion"`
	Shadow   Side `json:"shadow"`
	// Windows that both had an opinion of, and the machine time in them.
	Windows       uint64  `json:"windows"`
	MachineMonths float64 `json:"machine_months"`
	// Unusual counts those windows by who found them unusual (p < 0.01).
	Unusual struct {
		Neither      uint64 `json:"neither"`
		Both         uint64 `json:"both"`
		ChampionOnly uint64 `json:"champion_only"`
		ShadowOnly   uint64 `json:"shadow_only"`
	} `json:"unusual"`
	// Agreement is the share of windows that both call the same, Kappa the same less what chance alone would give (Cohen 1960); null: undefined.
	Agreement *float64 `json:"agreement"`
	Kappa     *float64 `json:"kappa"`
	// PagesOfBoth are pages of the champion that the shadow would have given too; LeadSeconds is by how much the shadow was the earlier, as their median.
	PagesOfBoth int      `json:"pages_of_both"`
	LeadSeconds *float64 `json:"lead_seconds"`
	// PagesOmitted: so often a machine is missing in the pages, because at that minute there were too many.
	PagesOmitted uint64 `json:"pages_omitted,omitempty"`
	// Verdicts of people on alerts of behaviour, and who of the two would have paged for them.
	Verdicts Verdicts `json:"verdicts"`
	Advice
}

// Side is one model of a pair.
type Side struct {
	Model string `json:"model"` // name@version, or "all detectors"
	// Pages that it alone would have given at the budget, what that is per machine and month, and the 95 % interval of that (exact Poisson; Garwood 1936).
	Pages                int      `json:"pages"`
	PagesPerMachineMonth *float64 `json:"pages_per_machine_month"`
	Low                  *float64 `json:"low"`
	High                 *float64 `json:"high"`
	// Precision is the share of its pages with a verdict that were not false; null: none has one.
	Precision *float64 `json:"precision"`
	Judged    int      `json:"pages_with_verdict"`
	ScoreTook string   `json:"score_took,omitempty"` // for one window, measured in the stream-processor
	// Only are its pages that the other would not have given, the newest first, at most 50.
	Only      []Page `json:"only"`
	OnlyCount int    `json:"only_count"`
}

// Page is one that a model would have given.
type Page struct {
	EquipmentID string    `json:"equipment_id"`
	From        time.Time `json:"from"`
	To          time.Time `json:"to"`
	Surprise    float64   `json:"surprise"` // -ln(p), the highest
	Verdict     string    `json:"verdict,omitempty"`
	Link        string    `json:"link,omitempty"`
}

// Verdicts counts alerts by what they were found to be.
type Verdicts struct {
	Real          int `json:"real"` // or known, or the sensor
	RealChampion  int `json:"real_found_by_champion"`
	RealShadow    int `json:"real_found_by_shadow"`
	False         int `json:"false"`
	FalseChampion int `json:"false_paged_by_champion"`
	FalseShadow   int `json:"false_paged_by_shadow"`
	// Alerts that tell the two apart: one would have paged, the other not, and that was right or wrong.
	ChampionRight int `json:"only_champion_right"`
	ShadowRight   int `json:"only_shadow_right"`
}

const (
	allDetectors = "all detectors"
	mostOnly     = 50
	monthUS      = 30 * 24 * 3600 * 1e6
)

// page is a Page in the making.
type page struct {
	machine string
	span
	verdict eventv1.AlertVerdict
}

// Compare says how each pair of models with that name (empty: any) did in [from, to), those with most windows first, and up to when anything was counted.
func (b *Book) Compare(name string, from, to time.Time, link func(equipmentID string) string) (pairs []Pair, until time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for k, r := range b.pairs {
		if name != "" && !strings.HasPrefix(k.champion, name+"@") && !strings.HasPrefix(k.shadow, name+"@") {
			continue
		}
		if p, ok := b.pair(k, r, from, to, link); ok {
			pairs = append(pairs, p)
		}
	}
	slices.SortFunc(pairs, func(a, b Pair) int {
		return cmp.Or(cmp.Compare(b.Windows, a.Windows), cmp.Compare(a.Champion.Model, b.Champion.Model), cmp.Compare(a.Shadow.Model, b.Shadow.Model))
	})
	return pairs, b.until
}

func (b *Book) pair(k pair, r *record, from, to time.Time, link func(string) string) (p Pair, ok bool) {
	within := func(minute int64) bool {
		return minute*minuteMS >= from.UnixMilli() && minute*minuteMS < to.UnixMilli()
	}
	u := &p.Unusual
	us := 0.0
	for _, m := range r.moments {
		if within(m.minute) {
			u.Neither += m.neither
			u.Both += m.both
			u.ChampionOnly += m.champion
			u.ShadowOnly += m.shadow
			us += m.machineUS
			p.PagesOmitted += m.omitted
		}
	}
	p.Windows = u.Neither + u.Both + u.ChampionOnly + u.ShadowOnly
	if p.Windows == 0 {
		return p, false
	}
	p.MachineMonths = us / monthUS
	p.agree()
	var pages [2][]page
	for side := range pages {
		pages[side] = join(r.stretches, side, within)
	}
	verdicts := b.byMachine(from, to)
	for side := range pages {
		for i := range pages[side] {
			g := &pages[side][i]
			for _, v := range verdicts[g.machine] {
				if g.meets(v.span()) {
					g.verdict = v.is
				}
			}
		}
	}
	p.Verdicts = weigh(verdicts, pages)
	p.Champion = p.side(k.champion, pages[0], pages[1], r.took.Champion, link)
	p.Shadow = p.side(k.shadow, pages[1], pages[0], r.took.Shadow, link)
	var leads []float64
	for _, g := range pages[0] {
		for _, o := range pages[1] {
			if o.machine == g.machine && g.meets(o.span) {
				p.PagesOfBoth++
				leads = append(leads, float64(g.first-o.first)/1e6)
				break
			}
		}
	}
	if len(leads) > 0 {
		slices.Sort(leads)
		p.LeadSeconds = &leads[len(leads)/2]
	}
	p.Advice = advise(&p)
	return p, true
}

func (p *Pair) agree() {
	u, n := &p.Unusual, float64(p.Windows)
	agreed := float64(u.Neither+u.Both) / n
	p.Agreement = &agreed
	byChampion, byShadow := float64(u.Both+u.ChampionOnly)/n, float64(u.Both+u.ShadowOnly)/n
	if chance := byChampion*byShadow + (1-byChampion)*(1-byShadow); chance < 1 {
		kappa := (agreed - chance) / (1 - chance)
		p.Kappa = &kappa
	}
}

// join makes pages of the stretches of one side.
func join(from []stretch, side int, within func(int64) bool) []page {
	var out []page
	for _, s := range from {
		if within(s.minute) && s.by[side].last != 0 {
			out = append(out, page{machine: s.machine, span: s.by[side]})
		}
	}
	slices.SortFunc(out, func(a, b page) int { return cmp.Or(cmp.Compare(a.machine, b.machine), cmp.Compare(a.first, b.first)) })
	n := 0
	for _, g := range out {
		if n > 0 && out[n-1].machine == g.machine && out[n-1].meets(g.span) {
			last := &out[n-1]
			last.last, last.peak = max(last.last, g.last), max(last.peak, g.peak)
			continue
		}
		out[n] = g
		n++
	}
	return out[:n]
}

// meets tells whether two spans are of the same time, or less than pageGap apart.
func (s span) meets(o span) bool {
	gap := pageGap.Microseconds()
	return s.first <= o.last+gap && o.first <= s.last+gap
}

func (v *verdict) span() span {
	if v.ended == 0 {
		return span{first: v.started, last: math.MaxInt64 / 2}
	}
	return span{first: v.started, last: v.ended}
}

// byMachine are the verdicts on alerts that models may have called.
func (b *Book) byMachine(from, to time.Time) map[string][]*verdict {
	out := map[string][]*verdict{}
	for _, v := range b.verdicts {
		if v.cause == "behaviour" && v.is != eventv1.AlertVerdict_ALERT_VERDICT_UNSPECIFIED && v.started >= from.UnixMicro() && v.started < to.UnixMicro() {
			out[v.machine] = append(out[v.machine], v)
		}
	}
	for _, list := range out {
		slices.SortFunc(list, func(a, b *verdict) int { return cmp.Compare(a.started, b.started) })
	}
	return out
}

func weigh(verdicts map[string][]*verdict, pages [2][]page) (out Verdicts) {
	found := func(side int, v *verdict) int {
		if slices.ContainsFunc(pages[side], func(g page) bool { return g.machine == v.machine && g.meets(v.span()) }) {
			return 1
		}
		return 0
	}
	for _, list := range verdicts {
		for _, v := range list {
			champion, shadow := found(0, v), found(1, v)
			isReal := v.is != eventv1.AlertVerdict_ALERT_VERDICT_FALSE
			switch {
			case champion == shadow:
			case isReal == (shadow == 1):
				out.ShadowRight++
			default:
				out.ChampionRight++
			}
			if !isReal {
				out.False++
				out.FalseChampion += champion
				out.FalseShadow += shadow
				continue
			}
			out.Real++
			out.RealChampion += champion
			out.RealShadow += shadow
		}
	}
	return out
}

func (p *Pair) side(model string, own, other []page, took time.Duration, link func(string) string) Side {
	s := Side{Model: cmp.Or(model, allDetectors), Pages: len(own), Only: []Page{}}
	if took > 0 {
		s.ScoreTook = took.String()
	}
	if p.MachineMonths > 0 {
		rate := func(n float64) *float64 { n /= p.MachineMonths; return &n }
		low, high := poisson(len(own))
		s.PagesPerMachineMonth, s.Low, s.High = rate(float64(len(own))), rate(low), rate(high)
	}
	right := 0
	for _, g := range own {
		if g.verdict != eventv1.AlertVerdict_ALERT_VERDICT_UNSPECIFIED {
			s.Judged++
			if g.verdict != eventv1.AlertVerdict_ALERT_VERDICT_FALSE {
				right++
			}
		}
		if slices.ContainsFunc(other, func(o page) bool { return o.machine == g.machine && g.meets(o.span) }) {
			continue
		}
		s.Only = append(s.Only, g.told(link))
	}
	if s.Judged > 0 {
		precision := float64(right) / float64(s.Judged)
		s.Precision = &precision
	}
	s.OnlyCount = len(s.Only)
	slices.SortFunc(s.Only, func(a, b Page) int { return cmp.Or(b.From.Compare(a.From), cmp.Compare(a.EquipmentID, b.EquipmentID)) })
	s.Only = s.Only[:min(mostOnly, len(s.Only))]
	return s
}

func (g *page) told(link func(string) string) Page {
	p := Page{EquipmentID: g.machine, From: time.UnixMicro(g.first).UTC(), To: time.UnixMicro(g.last).UTC(), Surprise: g.peak, Link: link(g.machine)}
	if g.verdict != eventv1.AlertVerdict_ALERT_VERDICT_UNSPECIFIED {
		p.Verdict = strings.ToLower(strings.TrimPrefix(g.verdict.String(), "ALERT_VERDICT_"))
	}
	return p
}

// poisson is the exact 95 % interval of an expectation of which n events were seen.
func poisson(n int) (low, high float64) {
	const tail = 0.025
	if n > 0 {
		low = distuv.Gamma{Alpha: float64(n), Beta: 1}.Quantile(tail)
	}
	return low, distuv.Gamma{Alpha: float64(n) + 1, Beta: 1}.Quantile(1 - tail)
}
