package history

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"google.golang.org/protobuf/proto"

	"github.com/tocsin-io/tocsin/pkg/topic"
	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
)

func contains(t *testing.T, s string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(s, w) {
			t.Errorf("%q is not in %s", w, s)
		}
	}
}

// past is a run's remains, to be corrupted.
type past struct {
	w    *World
	m    *memory
	lake *bucket
}

// data are the positions of a topic's records that are no ticks, of the partition that holds most of them.
func (p *past) data(name string) (id int32, at []int) {
	for i := range p.m.topics[name] {
		var here []int
		for j, r := range p.m.topics[name][i] {
			if !topic.IsTick(r) {
				here = append(here, j)
			}
		}
		if len(here) > len(at) || len(here) == len(at) && i < id {
			id, at = i, here
		}
	}
	return id, at
}

// edit replaces the records of the fullest partition. Offsets are numbered anew when their number changes.
func (p *past) edit(name string, change func(rs []*kgo.Record, data []int) []*kgo.Record) {
	id, at := p.data(name)
	rs := make([]*kgo.Record, len(p.m.topics[name][id]))
	for i, r := range p.m.topics[name][id] {
		c := *r
		c.Value, c.Headers = slices.Clone(r.Value), slices.Clone(r.Headers)
		rs[i] = &c
	}
	p.m.topics[name][id] = change(rs, at)
}

func drop(name string) func(*past) {
	return func(p *past) {
		p.edit(name, func(rs []*kgo.Record, d []int) []*kgo.Record { return slices.Delete(rs, d[len(d)/2], d[len(d)/2]+1) })
	}
}

// double makes a second copy stand behind the last record.
func double(name string) func(*past) {
	return func(p *past) {
		p.edit(name, func(rs []*kgo.Record, d []int) []*kgo.Record {
			c := *rs[d[len(d)/2]]
			return p.append(name, rs, &c)
		})
	}
}

func (p *past) append(name string, rs []*kgo.Record, more ...*kgo.Record) []*kgo.Record {
	for _, r := range more {
		in := p.m.ends[name][r.Partition]
		r.Offset = in.to
		in.to++
		p.m.ends[name][r.Partition] = in
		rs = append(rs, r)
	}
	return rs
}

// swap exchanges the contents of two neighbours.
func swap(name string) func(*past) {
	return func(p *past) {
		p.edit(name, func(rs []*kgo.Record, d []int) []*kgo.Record {
			a, b := rs[d[len(d)/2]], rs[d[len(d)/2-1]]
			*a, *b = *b, *a
			a.Offset, b.Offset = b.Offset, a.Offset
			return rs
		})
	}
}

func change(name string) func(*past) {
	return func(p *past) {
		p.edit(name, func(rs []*kgo.Record, d []int) []*kgo.Record {
			v := rs[d[len(d)/2]].Value
			v[len(v)-1] ^= 1
			return rs
		})
	}
}

func invent(name string) func(*past) {
	return func(p *past) {
		p.edit(name, func(rs []*kgo.Record, d []int) []*kgo.Record {
			c := *rs[d[len(d)/2]]
			for i := range c.Headers {
				if c.Headers[i].Key == topic.HeaderID {
					c.Headers[i].Value = []byte("made up")
				}
			}
			c.Headers = slices.Clone(c.Headers)
			return p.append(name, rs, &c)
		})
	}
}

// rename gives the frame of a reading another sequence by swapping the reading's frame for one that was never sent.
func neverSent(p *past) {
	p.edit(topic.Frames, func(rs []*kgo.Record, _ []int) []*kgo.Record {
		r, _ := frameRecord(0, 5000)
		r.Partition = rs[0].Partition
		return p.append(topic.Frames, rs, r)
	})
}

func (p *past) file(table string) string {
	keys := p.lake.keys("tocsin/" + table + "/")
	return keys[len(keys)/2]
}

func TestEveryCorruptionIsNamed(t *testing.T) {
	w, lake := aRun(t)
	m := take(t, &w)
	w.Notifications, w.Schemas = tell(m), unknown
	whole, err := check(t.Context(), &w, m)
	if err != nil {
		t.Fatal(err)
	}
	if !whole.OK() {
		t.Fatalf("a run without faults: %s", whole)
	}
	t.Log(whole)
	for _, k := range []string{
		"frames_sent", "frames_acked", "frames_in_log", "frames_repeated", "machines", "alerts", "notifications", "forwarded_ticks", "lake_files", "lake_rows",
		topic.Readings, topic.Windows, topic.Anomalies, topic.Alerts, topic.Coverage, topic.DLQ(topic.Frames), topic.State,
	} {
		if whole.Counts[k] == 0 {
			t.Errorf("the run has no %s: this test shows less than it should", k)
		}
	}
	for _, rs := range m.topics[topic.Alerts] {
		for _, r := range rs {
			var ev eventv1.AlertEvent
			if topic.IsTick(r) || proto.Unmarshal(r.Value, &ev) != nil || ev.GetCause() != "limit" {
				continue
			}
			// Each step of the way from the sensor to the alert is told, by what it happened at.
			took := time.Duration(ev.GetReceivedAtMs()*1000-ev.GetObservedUs()) * time.Microsecond
			if took <= 0 || took > time.Minute || ev.GetAtMs() <= 0 || ev.GetAnomalyAtMs() < ev.GetAtMs() || r.Timestamp.UnixMilli() < ev.GetAnomalyAtMs() {
				t.Errorf("%s: from sensor to gateway %s, judged at %d, written at %d, alert at %d", ev.GetEventId(), took, ev.GetAtMs(), ev.GetAnomalyAtMs(), r.Timestamp.UnixMilli())
			}
		}
	}
	cases := []struct {
		name  string
		do    func(*past)
		kinds []string // each must be found, and none beside them
		where string   // of one finding at least
		may   []string // kinds that may follow from it
	}{
		{"a reading is missing", drop(topic.Readings), []string{Lost}, topic.Readings, []string{Wrong}},
		{"a reading stands twice", double(topic.Readings), []string{Duplicated}, topic.Readings, []string{Lost}},
		{"two readings are swapped", swap(topic.Readings), []string{Reordered}, topic.Readings, []string{Wrong}},
		{"a reading says otherwise", change(topic.Readings), []string{Wrong}, topic.Readings, nil},
		{"a reading is invented", func(p *past) {
			p.edit(topic.Readings, func(rs []*kgo.Record, d []int) []*kgo.Record {
				r, _ := frameRecord(0, 7000)
				c := *rs[d[0]]
				c.Value = append(append([]byte{1<<3 | 2}, byte(len(r.Value))), r.Value...)
				return p.append(topic.Readings, rs, &c)
			})
		}, []string{Invented}, topic.Readings, []string{Lost, Reordered}},
		{"an aborted transaction is visible", func(p *past) {
			p.edit(topic.Windows, func(rs []*kgo.Record, d []int) []*kgo.Record {
				var again []*kgo.Record
				for _, i := range d[2:6] {
					c := *rs[i]
					again = append(again, &c)
				}
				return p.append(topic.Windows, rs, again...)
			})
		}, []string{Duplicated}, topic.Windows, []string{Lost}},
		{"a window is missing", drop(topic.Windows), []string{Lost}, topic.Windows, []string{Wrong}},
		{"two windows are swapped", swap(topic.Windows), []string{Reordered}, topic.Windows, []string{Wrong}},
		{"a window says otherwise", change(topic.Windows), []string{Wrong}, topic.Windows, nil},
		{"a window is invented", invent(topic.Windows), []string{Invented}, topic.Windows, []string{Lost}},
		{"an anomaly is missing", drop(topic.Anomalies), []string{Lost}, topic.Anomalies, []string{Wrong, Invented}},
		{"an anomaly stands twice", double(topic.Anomalies), []string{Duplicated}, topic.Anomalies, []string{Lost}},
		{"a machine's newest coverage is missing", func(p *past) {
			p.edit(topic.Coverage, func(rs []*kgo.Record, d []int) []*kgo.Record { return slices.Delete(rs, d[len(d)-1], d[len(d)-1]+1) })
		}, []string{Lost}, topic.Coverage, nil},
		{"a machine's coverage has been compacted", func(p *past) {
			p.edit(topic.Coverage, func(rs []*kgo.Record, d []int) []*kgo.Record {
				newer := map[string]bool{}
				for i := len(d) - 1; i >= 0; i-- {
					if key := string(rs[d[i]].Key); newer[key] {
						rs = slices.Delete(rs, d[i], d[i]+1)
					} else {
						newer[key] = true
					}
				}
				return rs
			})
		}, nil, "", nil},
		{"a machine's coverage says otherwise", change(topic.Coverage), []string{Wrong}, topic.Coverage, nil},
		{"an alert event is missing", drop(topic.Alerts), []string{Lost}, topic.Alerts, []string{Wrong, Unnotified}},
		{"an alert event stands twice", double(topic.Alerts), []string{Duplicated}, topic.Alerts, []string{Lost, Wrong}},
		{"an alert event says otherwise", change(topic.Alerts), []string{Wrong}, topic.Alerts, nil},
		{"an alert event is invented", invent(topic.Alerts), []string{Invented}, topic.Alerts, []string{Lost}},
		{"a dead letter is missing", drop(topic.DLQ(topic.Frames)), []string{Lost}, topic.DLQ(topic.Frames), nil},
		{"a dead letter stands twice", double(topic.DLQ(topic.Frames)), []string{Duplicated}, topic.DLQ(topic.Frames), nil},
		{"a forwarded tick is missing", func(p *past) {
			id, _ := p.data(topic.Windows)
			rs := p.m.topics[topic.Windows][id]
			p.m.topics[topic.Windows][id] = slices.Delete(slices.Clone(rs), first(rs), first(rs)+1)
		}, []string{Lost}, topic.Windows, nil},
		{"a frame was never sent", neverSent, []string{Invented}, topic.Frames, []string{Lost}},
		{"an acknowledged frame is not in the log", func(p *past) {
			w := *p.w
			w.Ledger = NewLedger()
			for k, s := range p.w.Ledger.streams {
				for _, q := range s.sequences {
					w.Ledger.Sent(FrameRef{k.gateway, k.equipment, q})
				}
			}
			ref := FrameRef{"gw-1", "pump-1", frames + 1}
			w.Ledger.Sent(ref)
			w.Ledger.Acked(ref)
			p.w = &w
		}, []string{Lost}, "ledger", nil},
		{"a snapshot is an older one", func(p *past) {
			p.stale(func(r *kgo.Record) bool { return strings.HasPrefix(string(r.Key), "m/") })
		}, []string{State}, topic.State, nil},
		{"the state is an older one", func(p *past) { p.stale(func(r *kgo.Record) bool { return string(r.Key) == "meta" }) }, []string{State}, topic.State, nil},
		{"there is no state", func(p *past) {
			id, _ := p.data(topic.State)
			p.m.topics[topic.State][id] = nil
		}, []string{State}, topic.State, nil},
		{"a file is missing", func(p *past) { _ = p.lake.Delete(t.Context(), p.file("readings")) }, []string{Lost}, "lake", nil},
		{"the last file is missing", func(p *past) {
			keys := p.lake.keys("tocsin/anomalies/")
			_ = p.lake.Delete(t.Context(), keys[len(keys)-1])
		}, []string{Lost}, "lake", nil},
		{"a file overlaps", func(p *past) { p.shift("readings") }, []string{Duplicated}, "lake", []string{Wrong}},
		{"a file holds other rows", func(p *past) {
			keys := p.lake.keys("tocsin/windows/")
			o := p.lake.objects[keys[0]]
			o.data = p.lake.objects[keys[1]].data
			p.lake.objects[keys[0]] = o
		}, []string{Wrong}, "lake", nil},
		{"a file is of another log", func(p *past) {
			p.edit(topic.Windows, func(rs []*kgo.Record, d []int) []*kgo.Record {
				rs[d[0]].Timestamp = rs[d[0]].Timestamp.Add(time.Millisecond)
				return rs
			})
		}, []string{Wrong}, "lake", nil},
		{"a file is strange", func(p *past) {
			p.lake.objects["tocsin/windows/date=2026-01-01/strange.parquet"] = object{data: []byte("x")}
		}, []string{Invented}, "lake", nil},
		{"an alert was not notified", func(p *past) {
			p.notifications(func(n []Notification) []Notification {
				return slices.DeleteFunc(n, func(x Notification) bool { return !x.Resolved && x.AlertID == n[0].AlertID })
			})
		}, []string{Unnotified}, "notifications", nil},
		{"an end was not notified", func(p *past) {
			p.notifications(func(n []Notification) []Notification {
				return slices.DeleteFunc(n, func(x Notification) bool { return x.Resolved })
			})
		}, []string{Unnotified}, "notifications", nil},
		{"a notification is of no alert", func(p *past) {
			p.notifications(func(n []Notification) []Notification { return append(n, Notification{AlertID: "made up"}) })
		}, []string{Invented}, "notifications", nil},
		{"somebody was told before the event stood", func(p *past) {
			p.notifications(func(n []Notification) []Notification {
				early := n[0]
				early.At = early.At.Add(-time.Millisecond)
				return append(n, early)
			})
		}, []string{Invented}, "notifications", nil},
		{"somebody was told of the end before it stood", func(p *past) {
			p.notifications(func(n []Notification) []Notification {
				i := slices.IndexFunc(n, func(x Notification) bool { return x.Resolved })
				early := n[i]
				early.At = early.At.Add(-time.Millisecond)
				return append(n, early)
			})
		}, []string{Invented}, "notifications", nil},
		{"the pager's clock is behind as far as it may be", func(p *past) {
			p.notifications(func(n []Notification) []Notification {
				for i := range n {
					n[i].At = n[i].At.Add(-time.Second)
				}
				return n
			})
			p.w.ClockTolerance = time.Second
		}, nil, "", nil},
		{"a notification came twice", func(p *past) {
			p.notifications(func(n []Notification) []Notification { return append(n, n[0]) })
		}, nil, "", nil},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			world := w
			p := &past{w: &world, m: m.clone(), lake: lake.clone()}
			c.do(p)
			p.w.Lake = p.lake
			if !strings.HasPrefix(c.where, "lake") {
				p.w.Lake = nil // reading files takes most of the time
			}
			rep, err := check(t.Context(), p.w, p.m)
			if err != nil {
				t.Fatal(err)
			}
			for _, k := range c.kinds {
				if rep.Found[k] == 0 {
					t.Errorf("nothing %s was found: %s", k, rep)
				}
			}
			for k := range maps.Keys(rep.Found) {
				if !slices.Contains(c.kinds, k) && !slices.Contains(c.may, k) {
					t.Errorf("%s was found too: %s", k, rep)
				}
			}
			if c.where != "" && !slices.ContainsFunc(rep.Findings, func(f Finding) bool { return f.Kind == c.kinds[0] && strings.HasPrefix(f.Where, c.where) }) {
				t.Errorf("%s is not found in %s: %s", c.kinds[0], c.where, rep)
			}
		})
	}
}

func first(rs []*kgo.Record) int { return slices.IndexFunc(rs, topic.IsTick) }

func (p *past) notifications(edit func([]Notification) []Notification) {
	w := *p.w
	w.Notifications = edit(slices.Clone(w.Notifications))
	p.w = &w
}

// stale takes away the newest record of the kind of which there is an older one.
func (p *past) stale(of func(*kgo.Record) bool) {
	id, _ := p.data(topic.State)
	rs := slices.Clone(p.m.topics[topic.State][id])
	for i := len(rs) - 1; i >= 0; i-- {
		older := func(r *kgo.Record) bool { return string(r.Key) == string(rs[i].Key) }
		if of(rs[i]) && slices.ContainsFunc(rs[:i], older) {
			p.m.topics[topic.State][id] = slices.Delete(rs, i, i+1)
			return
		}
	}
	panic("nothing to make stale")
}

// shift makes a file begin earlier than the one before it ends.
func (p *past) shift(table string) {
	for _, key := range p.lake.keys("tocsin/" + table + "/") {
		o := p.lake.objects[key]
		at := o.metadata["first-offset"]
		var first int64
		_, _ = fmt.Sscan(at, &first)
		if first < 5 {
			continue
		}
		moved := strings.Replace(key, fmt.Sprintf("-%019d.", first), fmt.Sprintf("-%019d.", first-3), 1)
		o.metadata = maps.Clone(o.metadata)
		o.metadata["first-offset"] = fmt.Sprint(first - 3)
		p.lake.objects[moved] = o
		delete(p.lake.objects, key)
		return
	}
	panic("no file to shift")
}
