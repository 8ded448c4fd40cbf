package cli

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// alertClient asks alert-router.
type alertClient struct {
	base, token string
	http        *http.Client
}

// maxAnswer bounds one answer.
const maxAnswer = 64 << 20

func (c *alertClient) do(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader = http.NoBody
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return err
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("%w (is alert-router at --to %s?)", err, c.base)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return err
	}
	if resp.StatusCode/100 != 2 {
		var p struct {
			Detail string `json:"detail"`
		}
		if json.Unmarshal(b, &p) == nil && p.Detail != "" {
			return errors.New(p.Detail)
		}
		return fmt.Errorf("%s answers %s", c.base, resp.Status)
	}
	if err := json.Unmarshal(b, out); err != nil {
		return fmt.Errorf("%s does not answer as alert-router does: %w", c.base, err)
	}
	return nil
}

// pagesOf reads a list page by page, up to limit items (0: all).
func pagesOf[T any](ctx context.Context, c *alertClient, path, member string, q url.Values, limit int) ([]T, error) {
	all := []T{}
	for {
		page := 1000
		if limit > 0 {
			page = min(page, limit-len(all))
		}
		q.Set("limit", strconv.Itoa(page))
		var raw map[string]json.RawMessage
		if err := c.do(ctx, http.MethodGet, path+"?"+q.Encode(), nil, &raw); err != nil {
			return nil, err
		}
		var list []T
		if err := json.Unmarshal(raw[member], &list); err != nil {
			return nil, fmt.Errorf("%s does not answer as alert-router does: %w", c.base, err)
		}
		all = append(all, list...)
		var next string
		if raw["next"] != nil {
			if err := json.Unmarshal(raw["next"], &next); err != nil {
				return nil, fmt.Errorf("%s does not answer as alert-router does: %w", c.base, err)
			}
		}
		if next == "" || limit > 0 && len(all) >= limit {
			return all, nil
		}
		q.Set("after", next)
	}
}

type markJSON struct {
	By        string     `json:"by"`
	At        time.Time  `json:"at"`
	Until     *time.Time `json:"until,omitempty"`
	Comment   string     `json:"comment,omitempty"`
	Inherited bool       `json:"inherited,omitempty"`
}

type alertJSON struct {
	AlertID      string     `json:"alert_id"`
	EquipmentID  string     `json:"equipment_id"`
	Cause        string     `json:"cause"`
	GatewayID    string     `json:"gateway_id,omitempty"`
	Severity     string     `json:"severity"`
	State        string     `json:"state"`
	Open         bool       `json:"open"`
	Summary      string     `json:"summary"`
	Score        *float64   `json:"score"`
	Started      time.Time  `json:"started_at"`
	Ended        *time.Time `json:"ended_at,omitempty"`
	Opened       time.Time  `json:"opened_at"`
	Closed       *time.Time `json:"closed_at,omitempty"`
	Acknowledged *markJSON  `json:"acknowledged,omitempty"`
	Shelved      *markJSON  `json:"shelved,omitempty"`
	OutOfService *markJSON  `json:"out_of_service,omitempty"`
	Verdict      *struct {
		Verdict string    `json:"verdict"`
		By      string    `json:"by"`
		At      time.Time `json:"at"`
		Comment string    `json:"comment,omitempty"`
	} `json:"verdict,omitempty"`
	Held          string             `json:"held,omitempty"`
	Incident      string             `json:"incident_id,omitempty"`
	Machines      int                `json:"incident_machines,omitempty"`
	Note          string             `json:"note,omitempty"`
	Labels        map[string]string  `json:"labels,omitempty"`
	Annotations   map[string]string  `json:"annotations,omitempty"`
	Contributions []contributionJSON `json:"contributions,omitempty"`
}

type contributionJSON struct {
	Sensor       string   `json:"sensor"`
	Share        *float64 `json:"share"`
	Observed     *float64 `json:"observed"`
	ExpectedLow  *float64 `json:"expected_low"`
	ExpectedHigh *float64 `json:"expected_high"`
	Detector     string   `json:"detector,omitempty"`
	Statistic    string   `json:"statistic,omitempty"`
}

type transitionJSON struct {
	ID          string     `json:"id"`
	AlertID     string     `json:"alert_id"`
	EquipmentID string     `json:"equipment_id"`
	Cause       string     `json:"cause"`
	Transition  string     `json:"transition"`
	Severity    string     `json:"severity"`
	State       string     `json:"state"`
	At          time.Time  `json:"at"`
	By          string     `json:"by"`
	Comment     string     `json:"comment,omitempty"`
	Until       *time.Time `json:"until,omitempty"`
	Verdict     string     `json:"verdict,omitempty"`
	Summary     string     `json:"summary"`
}

type notificationJSON struct {
	Key         string    `json:"idempotency_key"`
	Receiver    string    `json:"receiver"`
	Integration string    `json:"integration"`
	Status      string    `json:"status"`
	Reason      string    `json:"reason"`
	Outcome     string    `json:"outcome"`
	Attempts    int       `json:"attempts"`
	At          time.Time `json:"at"`
	LatencyMS   int64     `json:"latency_ms,omitempty"`
	Error       string    `json:"error,omitempty"`
	Instance    string    `json:"instance"`
}

type alertStory struct {
	Alert         alertJSON          `json:"alert"`
	Transitions   []transitionJSON   `json:"transitions"`
	Notifications []notificationJSON `json:"notifications"`
}

type figuresJSON struct {
	From         time.Time      `json:"from"`
	To           time.Time      `json:"to"`
	Alerts       map[string]int `json:"alerts_by_severity"`
	States       map[string]int `json:"standing_by_state"`
	Shift        string         `json:"shift"`
	Acknowledged int            `json:"acknowledged"`
	AckMedian    float64        `json:"time_to_acknowledge_median_seconds"`
	AckP90       float64        `json:"time_to_acknowledge_p90_seconds"`
	AckMost      float64        `json:"time_to_acknowledge_max_seconds"`
	Floods       int            `json:"floods"`
	Pages        []struct {
		Receiver string    `json:"receiver"`
		Begin    time.Time `json:"shift_begin"`
		Pages    int       `json:"pages"`
	} `json:"pages"`
	Precision []struct {
		EquipmentID string  `json:"equipment_id"`
		Real        int     `json:"real"`
		False       int     `json:"false"`
		Known       int     `json:"known"`
		Sensor      int     `json:"sensor"`
		Share       float64 `json:"precision"`
	} `json:"precision_by_machine"`
	Stale []struct {
		AlertID string    `json:"alert_id"`
		State   string    `json:"state"`
		Opened  time.Time `json:"opened_at"`
	} `json:"stale"`
	Chattering []struct {
		EquipmentID string `json:"equipment_id"`
		Cause       string `json:"cause"`
		Alerts      int    `json:"alerts"`
	} `json:"chattering"`
}

type onCallJSON struct {
	At     time.Time `json:"at"`
	OnCall []struct {
		Schedule string    `json:"schedule"`
		Receiver string    `json:"receiver"`
		Until    time.Time `json:"until"`
	} `json:"on_call"`
}

func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

func columns(w io.Writer) *tabwriter.Writer { return tabwriter.NewWriter(w, 0, 4, 2, ' ', 0) }

func clockTime(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05") }

// plain keeps what a machine or a person wrote from moving the cursor of who reads it.
func plain(s string, limit int) string {
	s = strings.Map(func(r rune) rune {
		if r < 0x20 || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return ' '
		}
		return r
	}, s)
	if r := []rune(s); limit > 0 && len(r) > limit {
		s = string(r[:limit-1]) + "…"
	}
	return s
}

func printAlerts(w io.Writer, list []alertJSON) {
	if len(list) == 0 {
		fmt.Fprintln(w, "no alerts")
		return
	}
	t := columns(w)
	fmt.Fprintln(t, "OPENED (UTC)\tSEVERITY\tSTATE\tID\tSUMMARY")
	for _, a := range list {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", clockTime(a.Opened), a.Severity, a.State, plain(a.AlertID, 0), plain(a.Summary, 80))
	}
	_ = t.Flush()
}

func printStory(w io.Writer, s alertStory) {
	a := s.Alert
	fmt.Fprintf(w, "%s\n%s, %s, %s\n%s\n", plain(a.AlertID, 0), a.Severity, a.State, plain(a.Cause, 0), plain(a.Summary, 0))
	fmt.Fprintf(w, "since %s (machine's time)", clockTime(a.Started))
	if a.Ended != nil {
		fmt.Fprintf(w, ", until %s", clockTime(*a.Ended))
	}
	fmt.Fprintln(w)
	if a.Held != "" {
		fmt.Fprintf(w, "nobody is told: %s\n", plain(a.Held, 0))
	}
	switch {
	case a.Machines > 0:
		fmt.Fprintf(w, "stands for %d machines that have not come back\n", a.Machines)
	case a.Incident != "" && a.Incident != a.AlertID:
		fmt.Fprintf(w, "part of %s\n", plain(a.Incident, 0))
	}
	for _, x := range []struct {
		what string
		mark *markJSON
	}{{"acknowledged", a.Acknowledged}, {"shelved", a.Shelved}, {"out of service", a.OutOfService}} {
		if m := x.mark; m != nil {
			fmt.Fprintf(w, "%s by %s at %s", x.what, plain(m.By, 0), clockTime(m.At))
			if m.Until != nil {
				fmt.Fprintf(w, " until %s", clockTime(*m.Until))
			}
			fmt.Fprintln(w, because(m.Comment))
		}
	}
	if a.Verdict != nil {
		fmt.Fprintf(w, "found %s by %s%s\n", a.Verdict.Verdict, plain(a.Verdict.By, 0), because(a.Verdict.Comment))
	}
	if len(a.Contributions) > 0 {
		fmt.Fprintln(w)
		t := columns(w)
		fmt.Fprintln(t, "SENSOR\tSHARE\tOBSERVED\tEXPECTED\tDETECTOR")
		for _, c := range a.Contributions[:min(len(a.Contributions), 10)] {
			fmt.Fprintf(t, "%s\t%s\t%s\t%s to %s\t%s\n", plain(c.Sensor, 0), figure(c.Share), figure(c.Observed), figure(c.ExpectedLow), figure(c.ExpectedHigh), c.Detector)
		}
		_ = t.Flush()
	}
	if len(s.Transitions) > 0 {
		fmt.Fprintln(w)
		printTransitions(w, s.Transitions, false)
	}
	if len(s.Notifications) > 0 {
		fmt.Fprintln(w)
		t := columns(w)
		fmt.Fprintln(t, "TOLD (UTC)\tRECEIVER\tSTATUS\tOUTCOME\tATTEMPTS\tAFTER\tWHY")
		for _, n := range s.Notifications {
			after := ""
			if n.LatencyMS > 0 {
				after = (time.Duration(n.LatencyMS) * time.Millisecond).String()
			}
			fmt.Fprintf(t, "%s\t%s/%s\t%s\t%s\t%d\t%s\t%s\n", clockTime(n.At), plain(n.Receiver, 0), n.Integration, n.Status, n.Outcome, n.Attempts, after, plain(cmp.Or(n.Error, n.Reason), 0))
		}
		_ = t.Flush()
	}
}

func because(comment string) string {
	if comment == "" {
		return ""
	}
	return ": " + plain(comment, 0)
}

func figure(v *float64) string {
	if v == nil {
		return "-"
	}
	return strconv.FormatFloat(*v, 'g', 4, 64)
}

func printTransitions(w io.Writer, list []transitionJSON, ids bool) {
	if len(list) == 0 {
		fmt.Fprintln(w, "no transitions")
		return
	}
	t := columns(w)
	head := "AT (UTC)\tTRANSITION\tSTATE\tSEVERITY\tBY"
	if ids {
		head += "\tID"
	}
	fmt.Fprintln(t, head+"\tCOMMENT")
	for _, x := range list {
		what := x.Transition
		if x.Verdict != "" {
			what += " " + x.Verdict
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s", clockTime(x.At), what, x.State, x.Severity, plain(x.By, 40))
		if ids {
			fmt.Fprintf(t, "\t%s", plain(x.AlertID, 0))
		}
		comment := x.Comment
		if x.Until != nil {
			comment = strings.TrimSpace("until " + clockTime(*x.Until) + " " + comment)
		}
		fmt.Fprintf(t, "\t%s\n", plain(comment, 80))
	}
	_ = t.Flush()
}

func printFigures(w io.Writer, f figuresJSON) {
	fmt.Fprintf(w, "%s to %s (UTC)\n\n", clockTime(f.From), clockTime(f.To))
	fmt.Fprintf(w, "opened: %s\nstanding: %s\nfloods (more than 10 alerts in 10 minutes): %d\n", tally(f.Alerts), tally(f.States), f.Floods)
	seconds := func(s float64) time.Duration { return time.Duration(s * float64(time.Second)).Round(time.Second) }
	if f.Acknowledged > 0 {
		fmt.Fprintf(w, "acknowledged: %d, within %s (median), %s (90 %%), %s (all)\n", f.Acknowledged, seconds(f.AckMedian), seconds(f.AckP90), seconds(f.AckMost))
	}
	table := func(title, head string, n int, row func(t io.Writer, i int)) {
		if n == 0 {
			return
		}
		fmt.Fprintf(w, "\n%s\n", title)
		t := columns(w)
		fmt.Fprintln(t, head)
		for i := range n {
			row(t, i)
		}
		_ = t.Flush()
	}
	table("Pages by receiver and shift of "+f.Shift, "SHIFT (UTC)\tRECEIVER\tPAGES", len(f.Pages), func(t io.Writer, i int) {
		fmt.Fprintf(t, "%s\t%s\t%d\n", clockTime(f.Pages[i].Begin), plain(f.Pages[i].Receiver, 0), f.Pages[i].Pages)
	})
	table("Precision by machine, of the alerts that were judged", "MACHINE\tPRECISION\tREAL\tKNOWN\tFALSE\tSENSOR", len(f.Precision), func(t io.Writer, i int) {
		p := f.Precision[i]
		fmt.Fprintf(t, "%s\t%.0f %%\t%d\t%d\t%d\t%d\n", plain(p.EquipmentID, 0), 100*p.Share, p.Real, p.Known, p.False, p.Sensor)
	})
	table("Stale: standing for more than 24 hours", "OPENED (UTC)\tSTATE\tID", len(f.Stale), func(t io.Writer, i int) {
		fmt.Fprintf(t, "%s\t%s\t%s\n", clockTime(f.Stale[i].Opened), f.Stale[i].State, plain(f.Stale[i].AlertID, 0))
	})
	table("Chattering: came three times or more", "MACHINE\tCAUSE\tALERTS", len(f.Chattering), func(t io.Writer, i int) {
		fmt.Fprintf(t, "%s\t%s\t%d\n", plain(f.Chattering[i].EquipmentID, 0), plain(f.Chattering[i].Cause, 0), f.Chattering[i].Alerts)
	})
}

func tally(m map[string]int) string {
	if len(m) == 0 {
		return "nothing"
	}
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		parts = append(parts, fmt.Sprintf("%d %s", m[k], k))
	}
	return strings.Join(parts, ", ")
}
