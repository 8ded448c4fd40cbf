// Package message composes what a page says, once, and writes it in the forms that go everywhere: plain text, HTML, a short message, a picture. The receivers
// put the same Page into their services' own forms.
//
// All text in a Page has gone through Clean: one line each, no control characters, bounded. A rendering only has to escape its own markup. The package is pure: it does
// no I/O and reads no clock. Everything here may be called concurrently.
package message

import (
	"time"

	"github.com/tocsin-io/tocsin/services/alert-router/internal/notification"
)

// Limits of a Page. What is left out is counted in it.
const (
	maxDetailed = 5  // alerts told in full
	maxListed   = 20 // alerts told in a line each, those in full included
	maxSensors  = 5  // of one alert
	maxFacts    = 8  // of one alert
	maxHops     = 8

	maxTitle = 160
	maxText  = 600
	maxName  = 80
	maxValue = 200
	maxURL   = 2000
)

// Page is one notification for one recipient, in words.
type Page struct {
	// Key and GroupKey are the notification's: of this message, and of all that is said of the group.
	Key, GroupKey string
	Receiver      string
	Status        notification.Status
	Reason        notification.Reason
	// Severity is "info", "warning" or "critical".
	Severity string
	// Title is one line, without status and severity: "press-07: bearing_temp 92.4 °C, expected 61 to 68.5 °C".
	Title string
	// Headline is the Title with what it is before it: "CRITICAL press-07: ...", "RESOLVED press-07: ...".
	Headline string
	// Again is why people are told once more, or empty: "Nobody has acknowledged it in time."
	Again string
	// Alerts are those told in full, Listed those told in a line each (the former included), More how many are only counted.
	Alerts []Alert
	Listed []Line
	More   int
	Firing int // of all alerts of the group
	Total  int
	// Machines the incident is about.
	Machines int
	At       time.Time
	Sent     string
	Links    Links
}

// Single tells whether the page is about one alert.
func (p *Page) Single() bool { return p.Total == 1 }

// Over tells whether everything that the page is about has ended.
func (p *Page) Over() bool { return p.Status == notification.Resolved }

// Lead is the alert that the page is mostly about; there is always one.
func (p *Page) Lead() *Alert { return &p.Alerts[0] }

// Alert is one alert in words.
type Alert struct {
	ID, Key   string
	Machine   string
	Cause     string
	Severity  string
	Status    notification.Status
	StartsAt  time.Time
	EndsAt    time.Time
	Score     float64
	Confident float64

	// What is odd, one sentence: "press-07 does not behave as usual."
	What string
	// Odd is the first sensor in words and numbers; empty without evidence: "bearing_temp is 92.4 °C; expected 61 to 68.5 °C (23.9 °C above, 3.2 times the band's width)."
	Odd string
	// Summary is the judge's own sentence.
	Summary string
	Sensors []Sensor
	// MoreSensors are only counted.
	MoreSensors int
	// Since is when it began in the machine's own time and how long that is ago: "14:03:22 UTC, 21 Nov 2026 (26 s ago)"; of what is over: how long it lasted.
	Since string
	// Sure is how far it can be trusted.
	Sure string
	// Facts are what else is known: gateway, acknowledged by whom, annotations that this package does not know.
	Facts []Fact
	// Path is how long each step took from the machine to here: "sensor 1.2 s", ...
	Path  []Step
	Took  string // of all steps
	Links Links

	began time.Time
}

// Over tells whether the alert has ended.
func (a *Alert) Over() bool { return a.Status == notification.Resolved }

// Line is one alert in a line.
type Line struct {
	Machine, Text, Severity string
	Over                    bool
}

// Sensor is what one sensor did.
type Sensor struct {
	Name string
	// Observed and Expected in words with units; Expected is empty when nothing is known.
	Observed, Expected string
	// Departure from what is expected, in words; may be empty.
	Departure string
	// Share of the whole anomaly, "62 %"; empty when it is alone.
	Share    string
	Detector string

	Value, Low, High float64 // NaN where unknown
	Unit             string
	Series           []notification.Point
}

// Fact is a name and a value.
type Fact struct{ Name, Value string }

// Step is one step of the way from the sensor to here.
type Step struct {
	Name string
	Took string
	For  time.Duration
}

// Links of a page or an alert; an empty one is not shown. All are http or https.
type Links struct {
	Chart, Runbook, Acknowledge, Shelve, Silence string
	// AcknowledgeAll takes every alert of a page of several at once.
	AcknowledgeAll string
	Verdicts       []Verdict
}

// Verdict is a link that says in one tap what an alert was.
type Verdict struct {
	// Name is "real", "false", "known" or "sensor".
	Name string
	// Label is what the button says.
	Label string
	URL   string
}
