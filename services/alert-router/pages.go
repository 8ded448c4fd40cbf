package alertrouter

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/pkg/kafka"
	"github.com/tocsin-io/tocsin/pkg/service"
	"github.com/tocsin-io/tocsin/pkg/topic"
	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/alertapi"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/desk"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/egress"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/lifecycle"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/notification"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/push"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/receiver"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/receiver/kafkarecord"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/receivers"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/routing"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/undelivered"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/verdict"
)

// pager makes the receivers of pages, and what they need of the service.
type pager struct {
	cfg      Config
	deps     service.Deps
	external string
	dialer   *egress.Dialer
	live     *http.Client
	book     *push.Book

	mu       sync.Mutex
	keys     *verdict.Keyring  // of the receivers file in force
	letters  receiver.Composer // the same, without links to act by
	pushKeys []alertapi.PushKey
	producer *kgo.Client
	closed   bool
}

// Messages that were given up, and set aside or not.
const (
	lettersKept   = `tocsin_alert_letters_total{outcome="kept"}`
	lettersFailed = `tocsin_alert_letters_total{outcome="failed"}`
)

func newPager(cfg Config, external *url.URL, deps service.Deps) (*pager, error) {
	policy, err := egress.ParsePolicy(cfg.EgressAllow)
	if err != nil {
		return nil, fmt.Errorf("alert_router.egress_allow: %w", err)
	}
	p := &pager{cfg: cfg, deps: deps, external: external.String(), dialer: &egress.Dialer{Policy: policy, Dial: deps.Net().DialContext}}
	if deps.Network != nil {
		p.dialer.Unchecked, p.dialer.Policy = true, egress.Anywhere() // a network that is made up has names of its own, and no inside to protect
	}
	for _, outcome := range []string{lettersKept, lettersFailed} { // so that they are there, as 0, before the first
		deps.Metrics.GetOrCreateCounter(outcome)
	}
	p.live = &http.Client{Transport: &http.Transport{DialContext: deps.Net().DialContext, MaxIdleConnsPerHost: 2, IdleConnTimeout: time.Minute, ResponseHeaderTimeout: time.Second}}
	return p, nil
}

// pages reads the receivers file.
func (p *pager) pages() (routing.Pages, error) {
	f, err := receivers.Load(p.cfg.ReceiversFile)
	if err != nil {
		return nil, err
	}
	keys, err := f.Keyring(p.cfg.DataDir)
	if err != nil {
		return nil, err
	}
	if err := f.Identify(p.cfg.DataDir); err != nil {
		return nil, err
	}
	var push []alertapi.PushKey
	for i := range f.Receivers {
		for j := range f.Receivers[i].WebPush[:min(len(f.Receivers[i].WebPush), 1)] {
			push = append(push, alertapi.PushKey{Receiver: f.Receivers[i].Name, PublicKey: f.Receivers[i].WebPush[j].PublicKey})
		}
	}
	p.mu.Lock()
	p.pushKeys = push
	p.keys, p.letters = keys, f.NewComposer(nil)
	p.mu.Unlock()
	b := &receivers.Builder{
		File: f, Composer: f.NewComposer(&verdict.Links{Keys: keys, Base: p.external, Lifetime: f.Links.Lifetime}), Dialer: p.dialer, Producer: p.kafka, Push: p.book,
	}
	if p.cfg.LiveURL != "" {
		b.Series = p.series
	}
	return built{b, f}, nil
}

type built struct {
	*receivers.Builder
	*receivers.File
}

// kafka is client for kafka_configs.
func (p *pager) kafka() (kafkarecord.Producer, error) { return p.client() }

// pushes are the receivers that browsers can subscribe to.
func (p *pager) pushes() []alertapi.PushKey {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.pushKeys
}

// client is what messages are written to Kafka through, made when first asked for.
func (p *pager) client() (*kgo.Client, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, kgo.ErrClientClosed
	}
	if p.producer == nil {
		base, err := p.deps.Kafka.Options(p.deps.Log)
		if err != nil {
			return nil, err
		}
		if p.producer, err = kgo.NewClient(append(base, kgo.RecordDeliveryTimeout(30*time.Second), kgo.ProducerLinger(0))...); err != nil {
			return nil, err
		}
	}
	return p.producer, nil
}

// dead puts a message that was given up on its topic. It must not block: should Kafka not take it, it is asked again when the message is given up again.
func (p *pager) dead(l routing.Letter, done func(kept bool)) {
	fail := func(err error) {
		p.deps.Metrics.GetOrCreateCounter(lettersFailed).Inc()
		p.deps.Log.Warn("a message that was given up could not be set aside", zap.String("topic", topic.Undelivered), zap.String("key", l.Notification.Key), zap.Error(err))
		done(false)
	}
	p.mu.Lock()
	composer := p.letters
	p.mu.Unlock()
	rec, err := undelivered.Record(l.Dead, l.Integration, l.Index, composer)
	if err != nil {
		fail(err)
		return
	}
	cl, err := p.client()
	if err != nil {
		fail(err)
		return
	}
	cl.TryProduce(context.Background(), rec, func(_ *kgo.Record, err error) {
		if err != nil {
			fail(err)
			return
		}
		p.deps.Metrics.GetOrCreateCounter(lettersKept).Inc()
		done(true)
	})
}

func (p *pager) close() {
	p.mu.Lock()
	p.closed = true
	cl := p.producer
	p.producer = nil
	p.mu.Unlock()
	if cl != nil {
		kafka.CloseWithin(5*time.Second, p.deps.Log, cl.Close)
	}
	p.live.CloseIdleConnections()
}

const (
	seriesWindows = 120
	maxWindows    = 1 << 20 // bytes of an answer
)

// series is what a sensor did lately, as the realtime-api has it; nil when it cannot be had: the page goes without a picture.
func (p *pager) series(ctx context.Context, equipmentID, sensor string) []notification.Point {
	u := fmt.Sprintf("%s/v1/machines/%s/windows?limit=%d&sensor=%s", strings.TrimRight(p.cfg.LiveURL, "/"), url.PathEscape(equipmentID), seriesWindows, url.QueryEscape(sensor))
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u, http.NoBody)
	if err != nil {
		return nil
	}
	if p.cfg.LiveToken != "" {
		req.Header.Set("Authorization", "Bearer "+p.cfg.LiveToken)
	}
	resp, err := p.live.Do(req)
	if err != nil {
		return nil
	}
	defer func() { _ = resp.Body.Close() }()
	var answer struct {
		Windows []struct {
			EndUS   int64 `json:"end_us"`
			Sensors []struct {
				Sensor string   `json:"sensor"`
				Mean   *float64 `json:"mean"`
			} `json:"sensors"`
		} `json:"windows"`
	}
	if resp.StatusCode != http.StatusOK || json.NewDecoder(io.LimitReader(resp.Body, maxWindows)).Decode(&answer) != nil {
		return nil
	}
	var out []notification.Point
	for _, w := range answer.Windows {
		pt := notification.Point{At: time.UnixMicro(w.EndUS), Value: math.NaN()}
		for _, s := range w.Sensors {
			if s.Sensor == sensor && s.Mean != nil {
				pt.Value = *s.Mean
			}
		}
		out = append(out, pt)
	}
	return out
}

// describe is what the desk knows of an alert, for its page.
func (s *Service) describe(alertID string, now time.Time) (notification.Alert, bool) {
	a, ok := s.desk.Alert(alertID)
	if !ok || a.Event == nil {
		return notification.Alert{}, false
	}
	ev := a.Event
	out := notification.Alert{Score: ev.GetScore(), Confidence: ev.GetConfidence(), Started: time.UnixMicro(a.StartedUS), State: string(a.State)}
	if a.EndedUS != 0 {
		out.Ended = time.UnixMicro(a.EndedUS)
	}
	if a.Ack != nil {
		out.AcknowledgedBy = a.Ack.By
	}
	list := slices.Clone(ev.GetContributions())
	slices.SortStableFunc(list, func(x, y *eventv1.Contribution) int {
		switch {
		case x.GetShare() > y.GetShare():
			return -1
		case x.GetShare() < y.GetShare():
			return 1
		}
		return 0
	})
	for _, c := range list {
		out.Evidence = append(out.Evidence, notification.Evidence{
			Sensor: c.GetSensor(), Share: c.GetShare(), Observed: c.GetObserved(), ExpectedLow: c.GetExpectedLow(), ExpectedHigh: c.GetExpectedHigh(),
			Detector: c.GetDetector(), Statistic: c.GetStatistic(),
		})
		if d := c.GetDetector(); d != "" && !slices.Contains(out.Detectors, d) {
			out.Detectors = append(out.Detectors, d)
		}
	}
	out.Path = path(a, now)
	return out, true
}

// maxHop bounds a step: what took longer was history that is replayed, a clock that is wrong, or a message that is told again; nothing that a person could use.
const maxHop = time.Hour

// path is how long it took from the machine to here, step by step as far as each left its time. The clocks are the machine's, the gateway's, the brokers' and
// our own; between two of them a step can be negative.
func path(a *lifecycle.Alert, now time.Time) []notification.Hop {
	ev := a.Event
	if !a.Open() || ev.GetAtMs() == 0 {
		return nil
	}
	measured := ev.GetObservedUs()
	if measured == 0 {
		measured = a.StartedUS // of a router of before
	}
	if measured == 0 {
		return nil
	}
	last := time.UnixMicro(measured)
	var hops []notification.Hop
	step := func(name string, at time.Time) {
		hops = append(hops, notification.Hop{Name: name, At: at, Took: at.Sub(last)})
		last = at
	}
	toKafka := "sensor to Kafka"
	if ms := ev.GetReceivedAtMs(); ms > 0 {
		step("sensor to gateway", time.UnixMilli(ms))
		toKafka = "gateway to Kafka"
	}
	step(toKafka, time.UnixMilli(ev.GetAtMs()))
	if ev.GetAnomalyAtMs() == 0 || a.EventMS == 0 {
		step("Kafka to here, judged and routed", now)
	} else {
		step("Kafka to judge", time.UnixMilli(ev.GetAnomalyAtMs()))
		step("judge to router", time.UnixMilli(a.EventMS))
		step("router to here", now)
	}
	for _, h := range hops {
		if h.Took > maxHop || h.Took < -maxHop {
			return nil
		}
	}
	return hops
}

// book records at the desk what people do by the links of pages.
type book struct{ desk *desk.Desk }

// Describe implements verdict.Book.
func (b book) Describe(ctx context.Context, act verdict.Action, subject string) (string, error) {
	if act == verdict.AcknowledgeAll {
		return b.describeAll(subject)
	}
	a, err := b.find(ctx, subject)
	if err != nil {
		return "", err
	}
	text := a.Key.EquipmentID + ", " + strings.ReplaceAll(a.Key.Cause, "_", " ")
	if s := a.Event.GetSummary(); s != "" {
		text += ": " + s
	}
	return text + " (since " + time.UnixMicro(a.StartedUS).UTC().Format("15:04:05 MST, 2 Jan 2006") + ", " + string(a.State) + ")", nil
}

// maxNamed bounds the alerts that are named of several.
const maxNamed = 5

func (b book) describeAll(set string) (string, error) {
	list := b.all(set)
	if len(list) == 0 {
		return "", verdict.ErrUnknown
	}
	var names []string
	stand := 0
	for _, a := range list {
		if len(names) < maxNamed {
			names = append(names, a.Key.EquipmentID+" "+strings.ReplaceAll(a.Key.Cause, "_", " "))
		}
		if a.Open() {
			stand++
		}
	}
	text := fmt.Sprintf("%d alerts, of which %d stand: %s", len(list), stand, strings.Join(names, ", "))
	if more := len(list) - len(names); more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text, nil
}

// all are the alerts of a set that are in memory: those that stand, or have ended within the hour.
func (b book) all(set string) []*lifecycle.Alert {
	refs := verdict.Refs(set)
	return b.desk.Alerts(func(a *lifecycle.Alert) bool { return refs[verdict.Ref(a.ID)] })
}

// decideAll acknowledges the alerts of a set that nobody has acknowledged. Should it break off, doing it again takes the rest.
func (b book) decideAll(ctx context.Context, d verdict.Decision) (verdict.Outcome, error) {
	list, done := b.all(d.Subject), 0
	if len(list) == 0 {
		return verdict.Outcome{}, verdict.ErrUnknown
	}
	for _, a := range list {
		if a.Ack != nil {
			continue
		}
		_, err := b.desk.Do(ctx, desk.Act{AlertID: a.ID, Transition: eventv1.AlertTransition_ALERT_TRANSITION_ACKNOWLEDGED, By: d.By, Why: d.Note, Key: "link/" + d.ID})
		switch {
		case err == nil:
			done++
		case !desk.Conflict(err) && !errors.Is(err, lifecycle.ErrUnknown):
			return verdict.Outcome{}, err
		}
	}
	if done > 0 {
		return verdict.Outcome{At: d.At}, nil
	}
	for _, a := range list {
		if a.Ack != nil {
			return verdict.Outcome{Repeated: true, At: time.UnixMilli(a.Ack.AtMS)}, nil
		}
	}
	return verdict.Outcome{Repeated: true, At: d.At}, nil
}

func (b book) find(ctx context.Context, subject string) (*lifecycle.Alert, error) {
	a, err := b.desk.Find(ctx, subject)
	if errors.Is(err, lifecycle.ErrUnknown) {
		return nil, verdict.ErrUnknown
	}
	return a, err
}

// Decide implements verdict.Book.
func (b book) Decide(ctx context.Context, d verdict.Decision) (verdict.Outcome, error) {
	if d.Action == verdict.AcknowledgeAll {
		return b.decideAll(ctx, d)
	}
	act := desk.Act{AlertID: d.Subject, By: d.By, Why: d.Note, For: d.For, Key: "link/" + d.ID}
	switch d.Action {
	case verdict.Acknowledge:
		act.Transition = eventv1.AlertTransition_ALERT_TRANSITION_ACKNOWLEDGED
	case verdict.Shelve:
		act.Transition = eventv1.AlertTransition_ALERT_TRANSITION_SHELVED
	default:
		act.Transition = eventv1.AlertTransition_ALERT_TRANSITION_VERDICT
		act.Verdict = map[verdict.Action]eventv1.AlertVerdict{
			verdict.Real: eventv1.AlertVerdict_ALERT_VERDICT_REAL, verdict.False: eventv1.AlertVerdict_ALERT_VERDICT_FALSE,
			verdict.Known: eventv1.AlertVerdict_ALERT_VERDICT_KNOWN, verdict.Sensor: eventv1.AlertVerdict_ALERT_VERDICT_SENSOR,
		}[d.Action]
	}
	a, err := b.find(ctx, d.Subject)
	if err != nil {
		return verdict.Outcome{}, err
	}
	if slices.Contains(a.Acts, desk.EventID(a.ID, act)) {
		return verdict.Outcome{Repeated: true, At: when(a, act.Transition)}, nil
	}
	switch _, err = b.desk.Do(ctx, act); {
	case desk.Conflict(err):
		if a, err = b.find(ctx, d.Subject); err != nil {
			return verdict.Outcome{}, err
		}
		return verdict.Outcome{Repeated: true, At: when(a, act.Transition)}, nil
	case errors.Is(err, lifecycle.ErrUnknown):
		return verdict.Outcome{}, verdict.ErrUnknown
	case err != nil:
		return verdict.Outcome{}, err
	}
	return verdict.Outcome{At: d.At}, nil
}

// when it was decided, as far as that is remembered.
func when(a *lifecycle.Alert, t eventv1.AlertTransition) time.Time {
	switch {
	case t == eventv1.AlertTransition_ALERT_TRANSITION_ACKNOWLEDGED && a.Ack != nil:
		return time.UnixMilli(a.Ack.AtMS)
	case t == eventv1.AlertTransition_ALERT_TRANSITION_VERDICT && a.VerdictMark != nil:
		return time.UnixMilli(a.VerdictMark.AtMS)
	}
	return time.Now()
}

// links serves the links of pages, under the keys in force.
func (s *Service) links() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.pager.mu.Lock()
		keys := s.pager.keys
		s.pager.mu.Unlock()
		h := verdict.Handler{Keys: keys, Book: book{s.desk}, Now: time.Now, Log: s.log.Named("links")}
		h.ServeHTTP(w, r)
	})
}
