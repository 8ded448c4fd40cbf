package cli

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode/utf8"

	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/tocsin-io/tocsin/pkg/dlq"
	"github.com/tocsin-io/tocsin/pkg/topic"
	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
)

// dlqReport is what dlq list tells.
type dlqReport struct {
	Total   int         `json:"total"`
	Waiting int         `json:"waiting"`
	Groups  []dlqGroup  `json:"groups"`
	Letters []dlqLetter `json:"letters"`
}

// dlqGroup is letters alike.
type dlqGroup struct {
	Letters  int    `json:"letters"`
	Waiting  int    `json:"waiting"`
	Topic    string `json:"topic"`
	Consumer string `json:"consumer"`
	Reason   string `json:"reason"`
}

type dlqLetter struct {
	ID        string     `json:"id"`
	Topic     string     `json:"topic"`
	Partition int32      `json:"partition"`
	Offset    int64      `json:"offset"`
	Consumer  string     `json:"consumer"`
	Reason    string     `json:"reason"`
	Attempt   int        `json:"attempt"`
	Origin    string     `json:"origin,omitempty"`
	Cut       string     `json:"cut,omitempty"`
	Bytes     int        `json:"bytes"`
	Repeats   int        `json:"repeats,omitempty"`
	RefusedAt time.Time  `json:"refused_at"`
	RecordAt  *time.Time `json:"record_at,omitempty"`
	RetriedAt *time.Time `json:"retried_at,omitempty"`
}

// detail is what differs between reasons alike: numbers, and what is quoted.
var detail = regexp.MustCompile(`"(?:[^"\\]|\\.)*"|[0-9]+(?:[.,:][0-9]+)*`)

// alike is a reason without its details.
func alike(reason string) string { return detail.ReplaceAllString(reason, "…") }

func newDLQReport(ls []dlq.Letter, limit, skip int) dlqReport {
	r := dlqReport{Total: len(ls), Groups: []dlqGroup{}, Letters: []dlqLetter{}}
	type key struct{ topic, consumer, reason string }
	at := map[key]int{}
	short := map[string]string{} // many letters have the same reason
	for i := range ls {
		l := &ls[i]
		reason, ok := short[l.Reason]
		if !ok {
			reason = alike(l.Reason)
			short[l.Reason] = reason
		}
		k := key{l.Topic, l.Consumer, reason}
		g, ok := at[k]
		if !ok {
			g = len(r.Groups)
			at[k] = g
			r.Groups = append(r.Groups, dlqGroup{Topic: l.Topic, Consumer: l.Consumer, Reason: reason})
		}
		r.Groups[g].Letters++
		if l.Waiting() {
			r.Groups[g].Waiting++
			r.Waiting++
		}
	}
	slices.SortStableFunc(r.Groups, func(a, b dlqGroup) int { return b.Letters - a.Letters })
	end := max(0, len(ls)-skip)
	start := 0
	if limit > 0 {
		start = max(0, end-limit)
	}
	for _, l := range ls[start:end] {
		r.Letters = append(r.Letters, letterOf(l))
	}
	return r
}

func letterOf(l dlq.Letter) dlqLetter {
	out := dlqLetter{
		ID: l.ID(), Topic: l.Topic, Partition: l.Partition, Offset: l.Offset, Consumer: l.Consumer, Reason: l.Reason, Attempt: l.Attempt,
		Origin: l.Origin, Cut: l.Cut, Bytes: l.Bytes, Repeats: l.Repeats, RefusedAt: l.At.UTC(),
	}
	if l.TimestampMS != 0 {
		t := time.UnixMilli(l.TimestampMS).UTC()
		out.RecordAt = &t
	}
	if !l.Waiting() {
		t := l.Retried.UTC()
		out.RetriedAt = &t
	}
	return out
}

func (r dlqReport) json(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(r)
}

func (r dlqReport) table(w io.Writer) {
	if r.Total == 0 {
		fmt.Fprintln(w, "no dead letters")
		return
	}
	const mostGroups = 30
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "LETTERS\tWAITING\tTOPIC\tREFUSED BY\tREASON")
	for i, g := range r.Groups {
		if i == mostGroups {
			fmt.Fprintf(t, "\t\t\t\tand %d more reasons\n", len(r.Groups)-mostGroups)
			break
		}
		fmt.Fprintf(t, "%d\t%d\t%s\t%s\t%s\n", g.Letters, g.Waiting, g.Topic, named(g.Consumer), oneLine(g.Reason, 120))
	}
	_ = t.Flush() // nothing to do about a terminal that is gone
	fmt.Fprintf(w, "\n%d of %d letters, the newest last:\n", len(r.Letters), r.Total)
	fmt.Fprintln(t, "ID\tREFUSED AT\tREFUSED BY\tTRY\tBYTES\tSTATE\tREASON")
	for _, l := range r.Letters {
		state := "waiting"
		if l.RetriedAt != nil {
			state = "given back " + l.RetriedAt.Format(time.DateTime)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%d\t%s\t%s\n", l.ID, l.RefusedAt.Format(time.DateTime), named(l.Consumer), l.Attempt, l.Bytes, state, oneLine(l.Reason, 80))
	}
	_ = t.Flush()
}

func named(consumer string) string {
	if consumer == "" {
		return "?"
	}
	return consumer
}

// oneLine is s fit for a terminal's line.
func oneLine(s string, most int) string {
	if !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return !strconv.IsPrint(r) }) {
		s = strconv.Quote(s)
	}
	if rs := []rune(s); len(rs) > most {
		s = string(rs[:most-1]) + "…"
	}
	return s
}

// showLetter tells all that is known of a letter.
func showLetter(w io.Writer, l dlq.Letter, rec *kgo.Record) {
	line := func(what, is string) { fmt.Fprintf(w, "%-12s %s\n", what, is) }
	line("letter", l.ID())
	line("refused by", named(l.Consumer))
	line("reason", oneLine(l.Reason, 2048))
	line("refused at", l.At.UTC().Format(time.RFC3339Nano))
	if l.TimestampMS != 0 {
		line("record of", time.UnixMilli(l.TimestampMS).UTC().Format(time.RFC3339Nano))
	}
	attempt := strconv.Itoa(l.Attempt)
	if l.Origin != "" {
		attempt += ", first refused as " + l.Origin
	}
	line("attempt", attempt)
	if l.Repeats > 0 {
		line("repeats", fmt.Sprintf("%d (written again after a restart; counts once)", l.Repeats))
	}
	state := "waiting"
	if !l.Waiting() {
		state = "given back " + l.Retried.UTC().Format(time.RFC3339)
	}
	line("state", state)
	line("stands at", fmt.Sprintf("%s/%d/%d", l.Box, l.BoxPartition, l.BoxOffset))
	if l.Cut != "" {
		line("cut", "the original was too large: "+l.Cut)
	}
	line("key", oneLine(string(rec.Key), 512))
	for _, h := range rec.Headers {
		if !strings.HasPrefix(h.Key, "dlq_") {
			line("header", oneLine(h.Key, 256)+" = "+oneLine(string(h.Value), 512))
		}
	}
	showValue(w, l, rec)
}

const mostHex = 4 << 10

func showValue(w io.Writer, l dlq.Letter, rec *kgo.Record) {
	name, text, err := decodeValue(l, rec)
	if err == nil {
		fmt.Fprintf(w, "%-12s %d bytes, %s:\n%s\n", "value", len(rec.Value), name, text)
		return
	}
	fmt.Fprintf(w, "%-12s %d bytes (%s)\n%s", "value", len(rec.Value), oneLine(err.Error(), 256), hex.Dump(rec.Value[:min(len(rec.Value), mostHex)]))
	if len(rec.Value) > mostHex {
		fmt.Fprintf(w, "... %d bytes more: --raw writes them all\n", len(rec.Value)-mostHex)
	}
}

// decodeValue gives the value as JSON, by its ce_type or what its topic holds.
func decodeValue(l dlq.Letter, rec *kgo.Record) (name, text string, err error) {
	name = topic.Type(rec)
	if name == "" {
		name = map[string]string{
			topic.Frames: topic.TypeFrame, topic.Readings: topic.TypeReading, topic.Windows: topic.TypeWindow,
			topic.Anomalies: topic.TypeAnomaly, topic.Alerts: topic.TypeAlert, topic.Findings: topic.TypeFinding,
		}[l.Topic]
	}
	var m proto.Message
	switch name {
	case topic.TypeFrame:
		m = &eventv1.SensorFrame{}
	case topic.TypeSchema:
		m = &eventv1.FrameSchema{}
	case topic.TypeReading:
		m = &eventv1.Reading{}
	case topic.TypeWindow:
		m = &eventv1.Window{}
	case topic.TypeAnomaly:
		m = &eventv1.Anomaly{}
	case topic.TypeAlert:
		m = &eventv1.AlertEvent{}
	case topic.TypeFinding:
		m = &eventv1.Finding{}
	default:
		return name, "", fmt.Errorf("of unknown type %q", name)
	}
	if err := proto.Unmarshal(rec.Value, m); err != nil {
		return name, "", fmt.Errorf("not a %s: %w", name, err)
	}
	if n := len(m.ProtoReflect().GetUnknown()); n > 0 && n == len(rec.Value) {
		return name, "", fmt.Errorf("not a %s: no field is known", name)
	}
	b, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m)
	if err != nil {
		return name, "", fmt.Errorf("as JSON: %w", err)
	}
	// protojson's spacing is random on purpose; output must not be.
	var v json.RawMessage = b
	out, err := json.MarshalIndent(v, "", "  ")
	return name, string(out), err
}
