package streamprocessor_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/proto"

	"github.com/tocsin-io/tocsin/pkg/frame"
	"github.com/tocsin-io/tocsin/pkg/kafka"
	"github.com/tocsin-io/tocsin/pkg/kafka/kafkatest"
	"github.com/tocsin-io/tocsin/pkg/service"
	"github.com/tocsin-io/tocsin/pkg/topic"
	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
	streamprocessor "github.com/tocsin-io/tocsin/services/stream-processor"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/detection"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/revise"
)

// served runs a processor and gives its address.
func served(t *testing.T, k kafka.Config, c streamprocessor.Config) (url string, stop func() error) {
	t.Helper()
	deps := service.Nop()
	deps.Kafka = k
	s, err := streamprocessor.New(c, deps)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	stopped := false
	stop = func() error {
		if stopped {
			return nil
		}
		stopped = true
		cancel()
		return <-done
	}
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
		http.DefaultClient.CloseIdleConnections()
	})
	return "http://" + s.Addr(), stop
}

type answer struct {
	revise.View
	Status             int `json:"-"`
	Title, Detail, Now string
	Field              string
	Revisions          []revise.Revision
}

func ask(t *testing.T, method, url, token string, body any) answer {
	t.Helper()
	var r io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		r = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, url, r)
	if err != nil {
		t.Fatal(err)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	var a answer
	if err := json.Unmarshal(text, &a); err != nil {
		t.Fatalf("%s %s: %s: %s", method, url, res.Status, text)
	}
	a.Status = res.StatusCode
	return a
}

// settled waits until a configuration was published.
func settled(t *testing.T, url, token string) answer {
	t.Helper()
	for until := time.Now().Add(patience); ; {
		a := ask(t, http.MethodGet, url+"/v1/detection", token, nil)
		if a.Status == http.StatusOK {
			return a
		}
		if time.Now().After(until) {
			t.Fatalf("%+v", a)
		}
		<-time.After(10 * time.Millisecond)
	}
}

type object = map[string]any

func TestSettingsAreAppliedByThoseWhoMay(t *testing.T) {
	const ada, bo, cy = "adas-own-token-16", "bos-own-token-016", "cys-own-token-016"
	k := kafkatest.Start(t, 2)
	c := config("a")
	c.Auth.People = []revise.Person{
		{Name: "ada", Token: ada, Rights: "change", Equipment: []string{"*"}},
		{Name: "bo", Token: bo, Rights: "correct", Equipment: []string{"pump-*"}},
		{Name: "cy", Token: cy, Rights: "read", Equipment: []string{"*"}},
	}
	url, stop := served(t, k, c)
	began := settled(t, url, ada)
	if began.ID != "0.0" || began.Rights != "change" || began.Name != "ada" || len(began.Applied) != 0 {
		t.Fatalf("%+v", began)
	}
	proposed := func(detection string) object {
		return object{"base": "0.0", "detection": json.RawMessage(detection), "why": "too many pages", "trial": "T7"}
	}
	post := func(token, path string, body any) answer { return ask(t, http.MethodPost, url+path, token, body) }
	const changes, corrections = "/v1/detection/changes", "/v1/detection/corrections"
	for what, x := range map[string]struct {
		got    answer
		status int
		field  string
	}{
		"nobody":            {post("", changes, proposed(`{"calibrate": {"budget": 2}}`)), 401, ""},
		"who may correct":   {post(bo, changes, proposed(`{"calibrate": {"budget": 2}}`)), 403, ""},
		"who may read":      {post(cy, corrections, object{"machine": "pump-1", "kind": "new_normal", "from": "2026-03-01T06:00:00Z", "why": "w"}), 403, ""},
		"not his machine":   {post(bo, corrections, object{"machine": "press-1", "kind": "new_normal", "from": "2026-03-01T06:00:00Z", "why": "w"}), 403, ""},
		"misspelled":        {post(ada, changes, proposed(`{"calibrate": {"budgte": 2}}`)), 400, "detection.calibrate.budgte"},
		"out of bounds":     {post(ada, changes, proposed(`{"calibrate": {"budget": -1}}`)), 400, "detection.calibrate.budget"},
		"models":            {post(ada, changes, proposed(`{"detect": {"models": {"champions": [{"name": "a", "version": "0123456789ab"}]}}}`)), 400, "detection.detect.models"},
		"corrections there": {post(ada, changes, proposed(`{"corrections": [{"machine": "a", "kind": "new_normal", "from": "2026-03-01T06:00:00Z"}]}`)), 400, "detection.corrections"},
		"no reason":         {post(ada, changes, object{"base": "0.0", "detection": object{}}), 400, "why"},
		"nothing":           {post(ada, changes, object{"base": "0.0", "why": "w"}), 400, "detection"},
		"no change":         {post(ada, changes, proposed(`{}`)), 422, ""},
		"no base":           {post(ada, changes, object{"base": "x", "why": "w", "detection": object{}}), 400, "base"},
		"unknown key":       {post(ada, changes, object{"bsae": "x"}), 400, "body"},
		"another base":      {post(ada, changes, object{"base": "0.1", "why": "w", "detection": object{}}), 409, ""},
		"unknown revision":  {post(ada, changes, object{"base": "0.0", "why": "w", "back_to": "7.7"}), 404, "back_to"},
		"no time":           {post(bo, corrections, object{"machine": "pump-1", "kind": "new_normal", "from": "noon", "why": "w"}), 400, "from"},
		"a pattern":         {post(ada, corrections, object{"machine": "*", "kind": "new_normal", "from": "2026-03-01T06:00:00Z", "why": "w"}), 400, "machine"},
	} {
		if x.got.Status != x.status || x.got.Field != x.field {
			t.Errorf("%s: %+v", what, x.got)
		}
	}
	a := post(ada, changes, proposed(`{"calibrate": {"budget": 2}}`))
	if a.Status != http.StatusCreated || a.ID != "0.1" || a.By != "ada" || a.Why != "too many pages" || a.Trial != "T7" || len(a.Applied) != 1 || a.Applied[0] != (revise.Key{Key: "calibrate.budget", Was: "1", Is: "2"}) {
		t.Fatalf("%+v", a)
	}
	// Somebody else tried against what held before.
	if b := post(ada, changes, proposed(`{"calibrate": {"budget": 3}}`)); b.Status != http.StatusConflict || b.Now != "0.1" {
		t.Errorf("%+v", b)
	}
	word := object{"machine": "pump-1", "kind": "new_normal", "from": "2026-03-01T06:00:00Z", "why": "new impeller"}
	if b := post(bo, corrections, word); b.Status != http.StatusCreated || b.ID != "0.2" || b.Kind != detection.KindCorrection || b.Rights != "correct" {
		t.Errorf("%+v", b)
	}
	if b := post(bo, corrections, word); b.Status != http.StatusOK || b.ID != "0.2" {
		t.Errorf("said twice: %+v", b)
	}
	// Going back takes settings back, not what was said of a machine.
	if b := post(ada, changes, object{"base": "0.2", "back_to": "0.0", "why": "missed a bearing"}); b.Status != http.StatusCreated || b.ID != "0.3" || b.BackTo != "0.0" || len(b.Applied) != 1 || b.Applied[0].Key != "corrections" {
		t.Errorf("%+v", b)
	}
	h := ask(t, http.MethodGet, url+"/v1/detection/revisions?limit=3", cy, nil)
	if len(h.Revisions) != 3 || h.Revisions[0].ID != "0.3" || h.Revisions[1].By != "bo" || !strings.Contains(h.Revisions[1].Changes[0].Is, "pump-1") || h.Revisions[2].Trial != "T7" {
		t.Errorf("%+v", h.Revisions)
	}
	// A restart finds all of it.
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	url, _ = served(t, k, c)
	if again := settled(t, url, cy); again.ID != "0.3" || again.Rights != "read" || len(ask(t, http.MethodGet, url+"/v1/detection/revisions", cy, nil).Revisions) != 4 {
		t.Errorf("%+v", again)
	}
}

// Nobody is let in on an open listener, and on loopback only under this machine's own names.
func TestNobodyChangesSettingsUnasked(t *testing.T) {
	k := kafkatest.Start(t, 1)
	c := config("a")
	c.HTTP.Listen = "0.0.0.0:0"
	url, _ := served(t, k, c)
	url = "http://127.0.0.1" + url[strings.LastIndex(url, ":"):]
	if a := ask(t, http.MethodGet, url+"/v1/detection", "", nil); a.Status != http.StatusUnauthorized {
		t.Errorf("%+v", a)
	}
	here, _ := served(t, kafkatest.Start(t, 1), config("b"))
	settled(t, here, "")
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, here+"/v1/detection", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = "evil.example:80"
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if res.StatusCode != http.StatusForbidden {
		t.Error(res.Status)
	}
	if a := ask(t, http.MethodPost, here+"/v1/detection/changes", "", object{"base": "0.0", "detection": object{"calibrate": object{"budget": 2}}, "why": "w"}); a.Status != http.StatusBadRequest || a.Field != "by" {
		t.Errorf("%+v", a)
	}
}

// levels produces frames of one machine whose values lie about a level, one a window.
type levels struct {
	t  *testing.T
	cl *kgo.Client
	r  *rand.Rand
	n  int
}

func (l *levels) at() time.Time { return base.Add(time.Duration(l.n) * 5 * time.Second) }

func (l *levels) send(windows int, level float64) {
	l.t.Helper()
	var rs []*kgo.Record
	for range windows {
		f := frame.New("pump-1", "gw", uint64(l.n+1), l.at(), []string{"pressure", "flow"}, []float32{float32(level + l.r.NormFloat64()), float32(20 + l.r.NormFloat64())})
		rs = append(rs, &kgo.Record{Topic: topic.Frames, Key: []byte("pump-1"), Value: f.AppendTo(nil), Headers: []kgo.RecordHeader{
			{Key: topic.HeaderType, Value: []byte(topic.TypeFrame)}, {Key: topic.HeaderID, Value: f.AppendID(nil)},
		}})
		l.n++
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := l.cl.ProduceSync(ctx, rs...).FirstErr(); err != nil {
		l.t.Fatal(err)
	}
}

// episodes counts what began and ended of behaviour.
func episodes(t *testing.T, rs []*kgo.Record) (began, ended int) {
	t.Helper()
	for _, r := range data(rs) {
		var a eventv1.Anomaly
		if err := proto.Unmarshal(r.Value, &a); err != nil {
			t.Fatal(err)
		}
		switch {
		case a.Cause != "behaviour":
		case a.Phase == eventv1.Phase_PHASE_STARTED:
			began++
		case a.Phase == eventv1.Phase_PHASE_ENDED:
			ended++
		}
	}
	return began, ended
}

// A lasting change of level keeps its episode open. People say that it is normal: the episode ends, the new level is learned, and what was normal before is not any more. The whole of it is
// what one judge that never stopped says of the log, and a restart neither forgets the word nor begins anew.
func TestANewNormalEndsTheAlertAndIsLearned(t *testing.T) {
	k := kafkatest.Start(t, 1)
	c := config("a")
	c.Detection.Calibrate.Budget = 0.1 // none by chance
	c.Snapshot.MaxRecords = 500
	url, stop := served(t, k, c)
	l := &levels{t: t, cl: kafkatest.Client(t, k), r: rand.New(rand.NewPCG(7, 7))}
	until := func(began, ended int) {
		t.Helper()
		kafkatest.ConsumeUntil(t, k, topic.Anomalies, patience, func(rs []*kgo.Record) bool { b, e := episodes(t, rs); return b == began && e == ended })
	}
	l.send(3000, 50)
	from := l.at()
	l.send(300, 70)
	readings(t, k, l.n)
	if b, e := episodes(t, kafkatest.ReadAll(t, k, topic.Anomalies)); b != 1 || e != 0 {
		t.Fatalf("%d episodes began, %d ended: not what was to be shown", b, e)
	}
	a := ask(t, http.MethodPost, url+"/v1/detection/corrections", "", object{"machine": "pump-1", "kind": "new_normal", "from": from, "by": "ada", "why": "new impeller"})
	if a.Status != http.StatusCreated || a.ID != "0.1" {
		t.Fatalf("%+v", a)
	}
	for until := time.Now().Add(patience); ask(t, http.MethodGet, url+"/v1/detection", "", nil).Following != 1; {
		if time.Now().After(until) {
			t.Fatal("the partition does not follow")
		}
		<-time.After(10 * time.Millisecond)
	}
	l.send(20, 70)
	until(1, 1)
	l.send(1500, 70)
	readings(t, k, l.n)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	_, stop = served(t, k, c)
	l.send(1500, 70)
	readings(t, k, l.n)
	if b, e := episodes(t, kafkatest.ReadAll(t, k, topic.Anomalies)); b != 1 || e != 1 {
		t.Fatalf("%d episodes began, %d ended: the new level is not normal", b, e)
	}
	l.send(60, 50)
	until(2, 1)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	judgedAsOne(t, k, c)
}
