package cli

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/user"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

func alertsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "alerts",
		Short: "List alerts by state, acknowledge, shelve and judge them, and see how the alarms do",
		Long: `Alerts asks alert-router for alerts and tells it what you do about them. What is answered holds on every router, and stands in the journal with your name.

  tocsin alerts list                                    what stands, the newest first
  tocsin alerts list --machine press-07 --state all --since 24h
  tocsin alerts show press-07/limit/1767225600000000    one alert, what became of it and who was told
  tocsin alerts ack ID --comment "on my way"            nobody is reminded; it does not page again when it clears and comes back
  tocsin alerts shelve ID --for 8h --comment "bearing is being changed"
  tocsin alerts verdict ID false                        real, false, known or sensor: what the alert was worth
  tocsin alerts figures                                 pages per shift, time to acknowledge, precision by machine, stale and chattering alarms
  tocsin alerts routes test severity=critical cause=limit
  tocsin alerts oncall                                  who is on duty

Alertmanager's amtool works against the same address: silences, routes, alerts.`,
	}
	cmd.AddCommand(alertsListCommand(), alertsShowCommand(), alertsJournalCommand(), alertsFiguresCommand(), alertsRoutesCommand(), alertsOnCallCommand())
	for _, a := range alertActs {
		cmd.AddCommand(alertsActCommand(a))
	}
	return cmd
}

// alertFlags say where alert-router is, who asks, and how to print.
type alertFlags struct {
	to     string
	token  string
	output string
}

func (f *alertFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.to, "to", "http://127.0.0.1:8083", "`URL` of alert-router")
	cmd.Flags().StringVar(&f.token, "token-file", "", "`FILE` that holds your bearer token; without it TOCSIN_TOKEN counts")
	cmd.Flags().StringVar(&f.output, "output", "table", "`FORMAT`: table or json")
}

func (f *alertFlags) client() (*alertClient, error) {
	if f.output != "table" && f.output != "json" {
		return nil, badConfig(fmt.Errorf("--output: %q is neither table nor json", f.output))
	}
	u, err := url.Parse(f.to)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, badConfig(fmt.Errorf("--to: %q is not an http:// or https:// URL", f.to))
	}
	token := os.Getenv("TOCSIN_TOKEN")
	if f.token != "" {
		b, err := os.ReadFile(f.token)
		if err != nil {
			return nil, badConfig(fmt.Errorf("--token-file: %w", err))
		}
		token = strings.TrimSpace(string(b))
	}
	return &alertClient{base: strings.TrimSuffix(f.to, "/"), token: token, http: &http.Client{Timeout: 30 * time.Second}}, nil
}

// alertQuery picks alerts or transitions.
type alertQuery struct {
	machine, cause, gateway, sensor, severity, since, until string
	limit                                                   int
}

func (q *alertQuery) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&q.machine, "machine", "", "only of this `EQUIPMENT_ID`")
	f.StringVar(&q.cause, "cause", "", "only of this `CAUSE`: limit, behaviour, flatline, bad_quality, silence, clock")
	f.StringVar(&q.gateway, "gateway", "", "only of machines behind this `GATEWAY_ID`")
	f.StringVar(&q.sensor, "sensor", "", "only alerts that this `SENSOR` took part in")
	f.StringVar(&q.severity, "severity", "", "only of this `SEVERITY` or a higher one: info, warning, critical")
	f.StringVar(&q.since, "since", "", "only of the last `DURATION`, such as 24h, or since a time such as 2026-01-31T08:00:00Z")
	f.StringVar(&q.until, "until", "", "only until a `TIME`, or so long ago")
	f.IntVar(&q.limit, "limit", 100, "`N` of the newest; 0: all")
}

func (q *alertQuery) values() (url.Values, error) {
	if q.limit < 0 {
		return nil, badConfig(errors.New("--limit: must not be negative"))
	}
	v := url.Values{}
	for k, s := range map[string]string{
		"equipment_id": q.machine, "cause": q.cause, "gateway_id": q.gateway, "sensor": q.sensor, "severity": q.severity, "since": q.since, "until": q.until,
	} {
		if s != "" {
			v.Set(k, s)
		}
	}
	return v, nil
}

func alertsListCommand() *cobra.Command {
	var at alertFlags
	var q alertQuery
	var state string
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List alerts, the newest first",
		Long: `List shows alerts with their states. States are those of ISA-18.2:

  unacknowledged   stands, and nobody has seen it
  acknowledged     stands, and somebody has
  suppressed       stands, and nobody is told by design: its gateway is down, it chatters, ...
  shelved          stands, and somebody has put it aside for a while
  out_of_service   stands, and somebody has taken the alarm out of service
  returned         has cleared, and nobody has acknowledged it
  closed           has cleared, and somebody has

  tocsin alerts list
  tocsin alerts list --state unacknowledged,returned --severity critical
  tocsin alerts list --state all --sensor vibration --since 24h --output json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cl, err := at.client()
			if err != nil {
				return err
			}
			v, err := q.values()
			if err != nil {
				return err
			}
			if state != "all" {
				v.Set("state", state)
			}
			list, err := pagesOf[alertJSON](cmd.Context(), cl, "/v1/alerts", "alerts", v, q.limit)
			if err != nil {
				return err
			}
			if at.output == "json" {
				return printJSON(cmd.OutOrStdout(), map[string]any{"alerts": list})
			}
			printAlerts(cmd.OutOrStdout(), list)
			return nil
		},
	}
	cmd.Flags().StringVar(&state, "state", "open", "only these `STATES`, separated by commas; open: all that stands; all")
	q.add(cmd)
	at.add(cmd)
	return cmd
}

func alertsShowCommand() *cobra.Command {
	var at alertFlags
	cmd := &cobra.Command{
		Use:   "show ID",
		Short: "Show an alert: what is odd, what became of it, who was told",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cl, err := at.client()
			if err != nil {
				return err
			}
			var s alertStory
			path := "/v1/alerts/" + url.PathEscape(args[0])
			if err := cl.do(cmd.Context(), http.MethodGet, path, nil, &s.Alert); err != nil {
				return err
			}
			if err := cl.do(cmd.Context(), http.MethodGet, path+"/transitions?limit=1000", nil, &s); err != nil {
				return err
			}
			if err := cl.do(cmd.Context(), http.MethodGet, path+"/notifications", nil, &s); err != nil {
				return err
			}
			if at.output == "json" {
				return printJSON(cmd.OutOrStdout(), s)
			}
			printStory(cmd.OutOrStdout(), s)
			return nil
		},
	}
	at.add(cmd)
	return cmd
}

func alertsJournalCommand() *cobra.Command {
	var at alertFlags
	var q alertQuery
	var transition string
	cmd := &cobra.Command{
		Use:   "journal",
		Short: "List transitions of all alerts, the newest first: who did what, when and why",
		Long: `Journal lists what became of alerts.

  tocsin alerts journal --since 8h
  tocsin alerts journal --transition shelved,out_of_service --since 168h`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cl, err := at.client()
			if err != nil {
				return err
			}
			v, err := q.values()
			if err != nil {
				return err
			}
			if transition != "" {
				v.Set("transition", transition)
			}
			list, err := pagesOf[transitionJSON](cmd.Context(), cl, "/v1/transitions", "transitions", v, q.limit)
			if err != nil {
				return err
			}
			if at.output == "json" {
				return printJSON(cmd.OutOrStdout(), map[string]any{"transitions": list})
			}
			printTransitions(cmd.OutOrStdout(), list, true)
			return nil
		},
	}
	cmd.Flags().StringVar(&transition, "transition", "", "only these `TRANSITIONS`, separated by commas")
	q.add(cmd)
	at.add(cmd)
	return cmd
}

func alertsFiguresCommand() *cobra.Command {
	var at alertFlags
	var since, until, shift, machine string
	cmd := &cobra.Command{
		Use:   "figures",
		Short: "Pages per receiver and shift, time to acknowledge, precision by machine, stale and chattering alarms",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cl, err := at.client()
			if err != nil {
				return err
			}
			v := url.Values{}
			for k, s := range map[string]string{"since": since, "until": until, "shift": shift, "equipment_id": machine} {
				if s != "" {
					v.Set(k, s)
				}
			}
			var fig figuresJSON
			if err := cl.do(cmd.Context(), http.MethodGet, "/v1/figures?"+v.Encode(), nil, &fig); err != nil {
				return err
			}
			if at.output == "json" {
				return printJSON(cmd.OutOrStdout(), fig)
			}
			printFigures(cmd.OutOrStdout(), fig)
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&since, "since", "", "of the last `DURATION`, or since a time (default 168h)")
	f.StringVar(&until, "until", "", "until a `TIME`, or so long ago (default now)")
	f.StringVar(&shift, "shift", "8h", "`LENGTH` of a shift")
	f.StringVar(&machine, "machine", "", "only of this `EQUIPMENT_ID`")
	at.add(cmd)
	return cmd
}

func alertsRoutesCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "routes", Short: "Ask where alerts go"}
	var at alertFlags
	test := &cobra.Command{
		Use:   "test LABEL=VALUE...",
		Short: "Say which receivers an alert with these labels would go to, by the routing file in force",
		Long: `Test gives the receivers in the order in which they are told. Silences, inhibition and time intervals are not looked at.

  tocsin alerts routes test severity=critical cause=silence gateway_id=gw-7`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cl, err := at.client()
			if err != nil {
				return err
			}
			labels := map[string]string{}
			for _, a := range args {
				k, v, ok := strings.Cut(a, "=")
				if !ok || k == "" {
					return badConfig(fmt.Errorf("%q is not LABEL=VALUE", a))
				}
				labels[k] = v
			}
			var out struct {
				Receivers []string `json:"receivers"`
			}
			if err := cl.do(cmd.Context(), http.MethodPost, "/v1/routes/test", map[string]any{"labels": labels}, &out); err != nil {
				return err
			}
			if at.output == "json" {
				return printJSON(cmd.OutOrStdout(), out)
			}
			for _, r := range out.Receivers {
				fmt.Fprintln(cmd.OutOrStdout(), r)
			}
			return nil
		},
	}
	at.add(test)
	cmd.AddCommand(test)
	return cmd
}

func alertsOnCallCommand() *cobra.Command {
	var at alertFlags
	var when string
	cmd := &cobra.Command{
		Use:   "oncall",
		Short: "Say who is on duty",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cl, err := at.client()
			if err != nil {
				return err
			}
			path := "/v1/oncall"
			if when != "" {
				path += "?" + url.Values{"at": {when}}.Encode()
			}
			var out onCallJSON
			if err := cl.do(cmd.Context(), http.MethodGet, path, nil, &out); err != nil {
				return err
			}
			if at.output == "json" {
				return printJSON(cmd.OutOrStdout(), out)
			}
			if len(out.OnCall) == 0 {
				fmt.Fprintln(cmd.OutOrStdout(), "no schedules: every receiver is always told")
				return nil
			}
			t := columns(cmd.OutOrStdout())
			fmt.Fprintln(t, "SCHEDULE\tRECEIVER\tUNTIL (UTC)")
			for _, d := range out.OnCall {
				fmt.Fprintf(t, "%s\t%s\t%s\n", plain(d.Schedule, 0), plain(d.Receiver, 0), clockTime(d.Until))
			}
			return t.Flush()
		},
	}
	cmd.Flags().StringVar(&when, "at", "", "at a `TIME` such as 2026-12-24T20:00:00Z (default now)")
	at.add(cmd)
	return cmd
}

// alertAct is one of the things that people do about an alert.
type alertAct struct {
	use, path, short, long string
	lasts                  string // help of --for; empty: it has none
	mustLast               bool
}

var alertActs = []alertAct{
	{use: "ack ID...", path: "acknowledge", short: "Acknowledge alerts: nobody is reminded, nothing escalates", long: `Ack says that you have seen the alerts. Should one clear and the same machine and cause come back soon, no graver, it
stays acknowledged; a higher severity pages again.

  tocsin alerts ack press-07/limit/1767225600000000 --comment "on my way"`},
	{use: "shelve ID...", path: "shelve", short: "Shelve the alarms of these alerts (one cause of one machine) for a while", lasts: "how `LONG`, such as 8h", mustLast: true, long: `Shelve keeps a machine's alarm of one cause from paging until a time. Alerts go on being recorded.
The shelf is a silence: amtool shows it and can end it.

  tocsin alerts shelve press-07/limit/1767225600000000 --for 8h --comment "bearing is being changed"`},
	{use: "unshelve ID...", path: "unshelve", short: "End shelves before their time", long: "Unshelve lets the alarms of these alerts page again."},
	{use: "remove ID...", path: "out-of-service", short: "Take the alarms of these alerts out of service", lasts: "how `LONG`; without it until alerts return", long: `Remove takes a machine's alarm of one cause out of service, until it is returned. It needs a --comment that says why.

  tocsin alerts remove press-07/limit/1767225600000000 --comment "line rebuilt, order 4711"`},
	{use: "return ID...", path: "in-service", short: "Put alarms back into service", long: "Return puts the alarms of these alerts back into service."},
	{use: "verdict ID real|false|known|sensor", path: "verdict", short: "Say what an alert was worth", long: `Verdict says what an alert was: real (a fault of the machine), false (nothing was wrong), known (real, but expected) or
sensor (the sensor, not the machine). The last word counts; precision by machine is made of these.

  tocsin alerts verdict press-07/limit/1767225600000000 false --comment "door was open"`},
}

func alertsActCommand(a alertAct) *cobra.Command {
	var at alertFlags
	var by, comment, length string
	judges := a.path == "verdict"
	cmd := &cobra.Command{
		Use: a.use, Short: a.short, Long: a.long, Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cl, err := at.client()
			if err != nil {
				return err
			}
			in := map[string]string{"comment": comment}
			if cl.token == "" || by != "" {
				in["by"] = by
				if by == "" {
					in["by"] = whoami()
				}
			}
			if judges {
				if len(args) != 2 {
					return badConfig(errors.New("give one ID and one of real, false, known, sensor"))
				}
				in["verdict"], args = args[1], args[:1]
			}
			switch {
			case length != "":
				in["duration"] = length
			case a.mustLast:
				return badConfig(errors.New("--for: missing, how long?"))
			}
			var list []alertJSON
			var failed error
			for _, id := range args {
				var now alertJSON
				if err := cl.do(cmd.Context(), http.MethodPost, "/v1/alerts/"+url.PathEscape(id)+"/"+a.path, in, &now); err != nil {
					failed = errors.Join(failed, fmt.Errorf("%s: %w", id, err))
					continue
				}
				list = append(list, now)
			}
			if at.output == "json" {
				return errors.Join(printJSON(cmd.OutOrStdout(), map[string]any{"alerts": list}), failed)
			}
			for _, x := range list {
				fmt.Fprintf(cmd.OutOrStdout(), "%s is %s\n", x.AlertID, x.State)
			}
			return failed
		},
	}
	f := cmd.Flags()
	f.StringVar(&by, "by", "", "your `NAME`, where the token does not say it (default: your login)")
	f.StringVar(&comment, "comment", "", "`WHY`; stands in the journal")
	if a.lasts != "" {
		f.StringVar(&length, "for", "", a.lasts)
	}
	at.add(cmd)
	return cmd
}

func whoami() string {
	if u, err := user.Current(); err == nil && u.Username != "" {
		return u.Username
	}
	return "unknown"
}
