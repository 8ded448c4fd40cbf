package routing

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/prometheus/alertmanager/alert"
	"github.com/prometheus/alertmanager/nflog"
	"github.com/prometheus/alertmanager/nflog/nflogpb"
	"github.com/prometheus/alertmanager/notify"
	"github.com/prometheus/alertmanager/silence"
	"github.com/prometheus/alertmanager/silence/silencepb"
	"github.com/prometheus/common/model"
	"google.golang.org/protobuf/encoding/protodelim"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// Gate knows what stands between an alert and people beside what the routing file says. It is asked about each alert at each flush of its group.
type Gate interface {
	// Stands says why nobody is to be told of an alert, "" when people are; and whether somebody has acknowledged it.
	Stands(alertID string) (quiet string, acknowledged bool)
}

// Duty says whether a receiver is told now of an alert that stands since a time.
type Duty interface {
	Tells(receiver string, since, now time.Time, acknowledged bool) bool
	// Receivers are all that it has a say about.
	Receivers() []string
}

const labelAlertID = "alert_id"

// gated puts the gate before a receiver's stages. What is quiet is left out, and told once it is quiet no longer, and so is what fires while the receiver is off duty; an end passes: who was told
// of an alert is told of its end, also when the alert has become part of another's page meanwhile. Where everything that fires is acknowledged nobody is reminded of it; news of the group is told as ever.
func (e *Engine) gated(receiver string, integrations []notify.Integration, next notify.Stage) notify.Stage {
	g, duty := e.opts.Gate, e.opts.Duty
	if g == nil {
		return next
	}
	to := make([]*nflogpb.Receiver, len(integrations))
	for i := range integrations {
		to[i] = &nflogpb.Receiver{GroupName: receiver, Integration: integrations[i].Name(), Idx: uint32(integrations[i].Index())}
	}
	return notify.StageFunc(func(ctx context.Context, l *slog.Logger, alerts ...*alert.Alert) (context.Context, []*alert.Alert, error) {
		var told map[uint64]bool // asked for once something quiet has ended
		pass := make([]*alert.Alert, 0, len(alerts))
		seen, firing, now := true, false, time.Now()
		for _, a := range alerts {
			quiet, acked := "", false
			if id := string(a.Labels[labelAlertID]); id != "" {
				quiet, acked = g.Stands(id)
			}
			if quiet != "" {
				if !a.Resolved() {
					continue
				}
				if told == nil {
					told = e.toldOf(ctx, to)
				}
				if h := hashOf(a.Labels); !told[h] && !told[inDoubt(h)] {
					continue
				}
			}
			if !a.Resolved() {
				if duty != nil && !duty.Tells(receiver, a.StartsAt, now, acked) {
					continue
				}
				firing, seen = true, seen && acked
			}
			pass = append(pass, a)
		}
		e.quiet.Add(len(alerts) - len(pass))
		if len(pass) == 0 {
			return ctx, nil, nil
		}
		if firing && seen {
			ctx = notify.WithRepeatInterval(ctx, forever)
		}
		return next.Exec(ctx, l, pass...)
	})
}

// toldOf are the alerts of the group that one of the integrations takes for firing.
func (e *Engine) toldOf(ctx context.Context, to []*nflogpb.Receiver) map[uint64]bool {
	told := map[uint64]bool{}
	group, ok := notify.GroupKey(ctx)
	if !ok {
		return told
	}
	for _, r := range to {
		entries, err := e.nflog.Query(nflog.QGroupKey(group), nflog.QReceiver(r))
		if err != nil {
			continue // nobody was told
		}
		for _, entry := range entries {
			for _, h := range entry.GetFiringAlerts() {
				told[h] = true
			}
		}
	}
	return told
}

// Annotate adds annotations to an alert that stands; they are seen through the API and in what is told next. Nobody is told because of them. An empty one is taken away.
func (e *Engine) Annotate(ctx context.Context, labels map[string]string, notes []Note) error {
	e.mu.RLock()
	defer e.mu.RUnlock()
	e.putting.Lock()
	defer e.putting.Unlock()
	known, err := e.alerts.Get(fingerprint(labels))
	if err != nil || known.Resolved() {
		return nil //nolint:nilerr // not ours: another instance's, or ended
	}
	if !slices.ContainsFunc(notes, func(n Note) bool { return string(known.Annotations[model.LabelName(n.Name)]) != n.Text }) {
		return nil
	}
	next := *known
	next.Annotations = known.Annotations.Clone()
	if next.Annotations == nil {
		next.Annotations = model.LabelSet{}
	}
	for _, n := range notes {
		if n.Text == "" {
			delete(next.Annotations, model.LabelName(n.Name))
		} else {
			next.Annotations[model.LabelName(n.Name)] = model.LabelValue(n.Text)
		}
	}
	next.UpdatedAt = time.Now()
	if err := e.alerts.Put(ctx, &next); err != nil {
		return fmt.Errorf("annotate alert: %w", err)
	}
	return nil
}

// Shelf is a silence that stands for a decision taken elsewhere: each instance has the same one under the same id.
type Shelf struct {
	// Name of the decision; the silence's id is made from it.
	Name     string
	Matchers map[string]string
	By, Why  string
	From     time.Time
	Until    time.Time // zero: open-ended
}

// LiftShelf ends the shelf of that name before its time. A name that is not known is none of ours.
func (e *Engine) LiftShelf(ctx context.Context, name string, at time.Time) error {
	sil, err := e.silences.QueryOne(ctx, silence.QIDs(ShelfID(name)))
	if errors.Is(err, silence.ErrNotFound) || err == nil && !sil.GetEndsAt().AsTime().After(at) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look up shelf: %w", err)
	}
	sil = proto.CloneOf(sil)
	sil.EndsAt, sil.UpdatedAt = timestamppb.New(at), timestamppb.New(later(at, sil.GetUpdatedAt().AsTime().Add(time.Millisecond)))
	if sil.GetStartsAt().AsTime().After(at) {
		sil.StartsAt = sil.EndsAt
	}
	return e.merge(sil)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// merge puts a silence in force as if another instance had told of it.
func (e *Engine) merge(sil *silencepb.Silence) error {
	var b bytes.Buffer
	if _, err := protodelim.MarshalTo(&b, &silencepb.MeshSilence{Silence: sil, ExpiresAt: timestamppb.New(sil.GetEndsAt().AsTime().Add(e.opts.Retention))}); err != nil {
		return err
	}
	return e.silences.Merge(b.Bytes())
}

// ShelfID is the id of the silence of that name: a UUID, as people and amtool expect one.
func ShelfID(name string) string {
	sum := sha256.Sum256([]byte("tocsin shelf\x00" + name))
	h := hex.EncodeToString(sum[:16])
	return fmt.Sprintf("%s-%s-%s-%s-%s", h[:8], h[8:12], h[12:16], h[16:20], h[20:])
}

// Shelve puts silences in force, or ends them. What is known already changes nothing.
func (e *Engine) Shelve(shelves ...Shelf) error {
	var errs error
	for _, s := range shelves {
		until := s.Until
		if until.IsZero() {
			until = s.From.Add(forever)
		}
		sil := &silencepb.Silence{
			Id: ShelfID(s.Name), StartsAt: timestamppb.New(s.From), EndsAt: timestamppb.New(until), UpdatedAt: timestamppb.New(s.From), CreatedBy: s.By, Comment: s.Why,
		}
		for k, v := range s.Matchers {
			sil.Matchers = append(sil.Matchers, &silencepb.Matcher{Type: silencepb.Matcher_EQUAL, Name: k, Pattern: v})
		}
		sil.MatcherSets = []*silencepb.MatcherSet{{Matchers: sil.Matchers}}
		errs = errors.Join(errs, e.merge(sil))
	}
	return errs
}
