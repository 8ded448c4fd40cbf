package load

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tocsin-io/tocsin/pkg/dlq"
	"github.com/tocsin-io/tocsin/pkg/topic"
)

// PoisonConfig sizes the scenario of poison pills.
type PoisonConfig struct {
	Records  int `json:"records"`         // into telemetry.frames.v1, poison included
	Share    int `json:"poison_one_in"`   // one record in so many is poison
	Huge     int `json:"huge"`            // poison records of megabytes
	Machines int `json:"machines"`        // good frames are spread over them
	Sensors  int `json:"sensors"`         // of each frame
	Gateway  int `json:"gateway_of_each"` // bad frames of each kind sent through the gateway
	// Retry: after the missing schema is registered, `tocsin dlq retry` is run.
	Retry    bool          `json:"retry"`
	Patience time.Duration `json:"-"` // for each wait
}

// DefaultPoison is the size that is promised.
func DefaultPoison() PoisonConfig {
	return PoisonConfig{Records: 1_000_000, Share: 100, Huge: 20, Machines: 2000, Sensors: 10, Gateway: 50, Retry: true, Patience: 10 * time.Minute}
}

// PoisonMeasured is what came out.
type PoisonMeasured struct {
	Good          int            `json:"good_frames"`
	Poison        int            `json:"poison_records"`
	Kinds         map[string]int `json:"poison_by_kind"`
	Letters       int            `json:"dead_letters"`
	Missing       int            `json:"poison_without_letter"`
	Twice         int            `json:"poison_with_two_letters"`
	Invented      int            `json:"letters_of_good_records"`
	WrongReason   int            `json:"letters_with_another_reason"`
	WrongBytes    int            `json:"letters_with_other_bytes"`
	Cut           int            `json:"letters_cut"` // of records too large for a letter
	JudgedOnce    int            `json:"good_judged_once"`
	Lost          int            `json:"good_lost"`
	Doubled       int            `json:"good_doubled"`
	Restarts      int            `json:"restarts"`
	LakeRows      int64          `json:"lake_rows"`
	LakeWanted    int64          `json:"lake_rows_wanted"`
	LakeLost      int            `json:"lake_frames_incomplete"`
	LakeDoubled   int            `json:"lake_frames_doubled"`
	Seconds       float64        `json:"judging_seconds"`
	FramesPerS    float64        `json:"frames_per_second"`
	ProduceSecond float64        `json:"produce_seconds"`
	Refused       map[string]int `json:"gateway_refused_with_field"`
	NotRefused    int            `json:"gateway_answers_wrong"`
	GatewayLeaked int            `json:"gateway_bad_frames_in_kafka"`

	Retried         bool `json:"retried"`
	MendedOnce      int  `json:"mended_judged_once"`
	MendedWanted    int  `json:"mended_wanted"`
	MendedDoubled   int  `json:"mended_doubled"`
	NewLetters      int  `json:"new_letters_after_retry"`
	NewLettersWant  int  `json:"new_letters_wanted"`
	GoodAfterDouble int  `json:"good_doubled_by_retry"`

	PeakMB map[string]int64   `json:"peak_rss_mb"`
	CPU    map[string]float64 `json:"cpu_percent_of_machine"`
}

// maxLetter is about the largest record that fits into a dead letter whole: max.message.bytes less room for headers.
const maxLetter = 8<<20 - 64<<10

// pill is one poison record that Kafka has.
type pill struct {
	kind     *poisonKind
	machine  int
	sequence uint64
	hash     uint64
	size     int
	letters  int
	judged   int
}

type poisonRun struct {
	*World
	cfg    PoisonConfig
	fleet  *fleet
	spoil  *poisoner
	frames int // good frames of each machine, at most
	recs   []*kgo.Record
	pills  []pill // by loadID
	good   []uint8
	goods  int
	out    PoisonMeasured
	report *Report
	pids   map[string]int
}

// Poison runs the scenario. The error says that it could not be carried out; broken promises are in the report.
func Poison(ctx context.Context, w *World, cfg PoisonConfig) (*Report, error) {
	p := &poisonRun{
		World: w, cfg: cfg, fleet: newFleet("pump", cfg.Sensors), spoil: newPoisoner(cfg.Sensors),
		report: newReport("poison", "each poison pill becomes one dead letter with its reason; nothing else is lost, doubled or restarted", cfg),
	}
	p.out.Kinds, p.out.Refused = map[string]int{}, map[string]int{}
	undo, err := withEnv(map[string]string{"TOCSIN_COLD_PATH_WRITER_CHUNK_INTERVAL": "10s"})
	if err != nil {
		return nil, err
	}
	defer undo()
	if err := w.Stack.Up(ctx); err != nil {
		return nil, err
	}
	if p.pids, err = w.pids(ctx, "stream-processor", "cold-path-writer", "ingest-gateway", "alert-router", "realtime-api"); err != nil {
		return nil, err
	}
	w.watch(p.pids)
	p.make()
	mem, cpu := w.watchMemory(p.pids), startShare(p.pids)
	defer mem.stop()
	for _, step := range []func(context.Context) error{p.produce, p.throughGateway, p.settle, p.checkLetters, p.checkReadings, p.retry, p.checkLake, p.checkRestarts} {
		if err := step(ctx); err != nil {
			return nil, fmt.Errorf("poison: %w", err)
		}
	}
	p.out.PeakMB, p.out.CPU = mem.take(), cpu.end()
	p.report.Machine.OthersCPU = p.out.CPU["others"]
	p.judge()
	p.report.end(p.out)
	return p.report, nil
}

// make prepares every record. Machines take turns, so each has a steady stream; event times end at now, one second between two frames.
func (p *poisonRun) make() {
	p.say("making %d records", p.cfg.Records)
	small, huge := poisonKinds(), hugeKinds()
	m := p.fleet.maker(1)
	p.frames = p.cfg.Records/p.cfg.Machines + 1
	p.good = make([]uint8, p.cfg.Machines*p.frames)
	start := time.Now().Add(-time.Duration(p.frames) * time.Second).Truncate(time.Second)
	seqs := make([]uint64, p.cfg.Machines)
	bad := make([]uint64, p.cfg.Machines)
	hugeEvery := 0
	if p.cfg.Huge > 0 {
		hugeEvery = max(1, p.cfg.Records/p.cfg.Share/p.cfg.Huge)
	}
	p.recs = make([]*kgo.Record, 0, p.cfg.Records)
	for i := range p.cfg.Records {
		machine := i % p.cfg.Machines
		at := start.Add(time.Duration(i/p.cfg.Machines) * time.Second)
		if i%p.cfg.Share != p.cfg.Share/3 {
			seqs[machine]++
			p.goods++
			p.recs = append(p.recs, record(m.frame(machine, seqs[machine], at, 1, 0)))
			continue
		}
		n := len(p.pills)
		kind := &small[n%len(small)]
		if hugeEvery > 0 && n%hugeEvery == hugeEvery/2 {
			kind = &huge[0]
			if n/hugeEvery%10 == 1 {
				kind = &huge[1]
			}
		}
		// Poison takes another machine than the counter's turn, or some kinds would always hit the same ones.
		machine = (n * 7919) % p.cfg.Machines
		bad[machine]++
		r := p.spoil.poison(*kind, p.fleet, m, machine, bad[machine], at, strconv.Itoa(n))
		p.pills = append(p.pills, pill{kind: kind, machine: machine, sequence: bad[machine], hash: hash(r.Value), size: len(r.Value)})
		p.out.Kinds[kind.name]++
		p.recs = append(p.recs, r)
	}
	p.out.Good, p.out.Poison = p.goods, len(p.pills)
}

func (p *poisonRun) produce(ctx context.Context) error {
	cl, err := p.producer(5 * time.Millisecond)
	if err != nil {
		return err
	}
	defer cl.Close()
	began := time.Now()
	p.say("producing %d records, %d of them poison", len(p.recs), len(p.pills))
	if err := produceAll(ctx, cl, p.recs); err != nil {
		return err
	}
	p.recs = nil
	p.out.ProduceSecond = time.Since(began).Seconds()
	p.say("Kafka has them after %.1f s", p.out.ProduceSecond)
	return nil
}

// settle waits until the processor has read all and the writer has stored all.
func (p *poisonRun) settle(ctx context.Context) error {
	cl, err := p.client()
	if err != nil {
		return err
	}
	defer cl.Close()
	for _, hop := range []struct{ topic, group string }{{topic.Frames, "stream-processor"}, {topic.Readings, "cold-path-writer"}} {
		to, err := ends(ctx, cl, hop.topic)
		if err != nil {
			return err
		}
		p.say("waiting for %s to read %s", hop.group, hop.topic)
		err = p.until(ctx, p.cfg.Patience, hop.group+" has read "+hop.topic, func() (bool, error) { return consumed(ctx, cl, hop.group, hop.topic, to) })
		if err != nil {
			return errors.Join(err, p.alive(ctx))
		}
	}
	return nil
}

// alive names the services that are no longer the processes they were.
func (p *poisonRun) alive(ctx context.Context) error {
	now, err := p.World.pids(ctx)
	if err != nil {
		return err
	}
	for name, pid := range p.pids {
		if now[name] != pid {
			err = errors.Join(err, fmt.Errorf("%s died or was restarted", name))
		}
	}
	return err
}

func (p *poisonRun) checkRestarts(ctx context.Context) error {
	now, err := p.World.pids(ctx)
	if err != nil {
		return err
	}
	for name, pid := range p.pids {
		if now[name] != pid {
			p.out.Restarts++
			p.report.brokenIf(true, "%s died or was restarted", name)
		}
	}
	return nil
}

// checkLetters holds each dead letter against the record that it is of.
func (p *poisonRun) checkLetters(ctx context.Context) error {
	if err := p.readLetters(ctx); err != nil {
		return err
	}
	for i := range p.pills {
		switch n := p.pills[i].letters; {
		case n == 0:
			p.out.Missing++
		case n > 1:
			p.out.Twice++
		}
	}
	return nil
}

// readLetters counts all letters of each pill.
func (p *poisonRun) readLetters(ctx context.Context) error {
	for i := range p.pills {
		p.pills[i].letters = 0
	}
	p.out.Letters, p.out.Invented, p.out.WrongReason, p.out.WrongBytes, p.out.Cut = 0, 0, 0, 0, 0
	return p.scan(ctx, topic.DLQ(topic.Frames), nil, func(r *kgo.Record) error {
		if r.Attrs.IsControl() || topic.Header(r, dlq.HeaderReason) == "" { // a retry leaves notes there
			return nil
		}
		p.out.Letters++
		n, err := strconv.Atoi(topic.Header(r, loadID))
		if err != nil || n < 0 || n >= len(p.pills) {
			if p.out.Invented++; p.out.Invented < 5 {
				p.report.brokenIf(true, "a letter of no poison record: %s", topic.Header(r, dlq.HeaderReason))
			}
			return nil //nolint:nilerr // counted
		}
		pill := &p.pills[n]
		pill.letters++
		if reason := topic.Header(r, dlq.HeaderReason); !strings.Contains(reason, pill.kind.reason) {
			if p.out.WrongReason++; p.out.WrongReason < 5 {
				p.report.brokenIf(true, "%s: the reason is %q", pill.kind.name, reason)
			}
		}
		switch {
		case topic.Header(r, dlq.HeaderCut) != "":
			// Too large for a letter with its own headers: it keeps the beginning and says so.
			p.out.Cut++
			if pill.size <= maxLetter || len(r.Value) < maxLetter-64<<10 || hash(r.Value) != hash(p.spoil.junk[:len(r.Value)]) {
				p.out.WrongBytes++
			}
		case hash(r.Value) != pill.hash:
			p.out.WrongBytes++
		}
		return nil
	})
}

// checkReadings counts how often each good frame was judged, and how fast.
func (p *poisonRun) checkReadings(ctx context.Context) error {
	var first, last time.Time
	err := p.readReadings(ctx, func(r *kgo.Record, frameAt time.Time) {
		if first.IsZero() || frameAt.Before(first) {
			first = frameAt
		}
		if r.Timestamp.After(last) {
			last = r.Timestamp
		}
	})
	if err != nil {
		return err
	}
	p.out.JudgedOnce, p.out.Lost, p.out.Doubled = p.countGood()
	p.out.Seconds = last.Sub(first).Seconds()
	p.out.FramesPerS = float64(p.cfg.Records) / p.out.Seconds
	return nil
}

func (p *poisonRun) readReadings(ctx context.Context, each func(r *kgo.Record, frameAt time.Time)) error {
	clear(p.good)
	bySequence := map[[2]int]int{} // machine and sequence of poison that can be mended
	for i := range p.pills {
		p.pills[i].judged = 0
		if p.pills[i].kind.mended {
			bySequence[[2]int{p.pills[i].machine, int(p.pills[i].sequence)}] = i
		}
	}
	return p.scanReadings(ctx, nil, func(rd *reading) error {
		machine, ok := p.fleet.machineOf(rd.frame.EquipmentID)
		switch {
		case !ok || machine >= p.cfg.Machines:
			return fmt.Errorf("a reading of a machine that sent nothing: %q", rd.frame.EquipmentID)
		case string(rd.frame.GatewayID) == poisonGateway:
			i, ok := bySequence[[2]int{machine, int(rd.frame.Sequence)}]
			if !ok {
				p.report.brokenIf(true, "poison was judged: machine %d, sequence %d", machine, rd.frame.Sequence)
				return nil
			}
			p.pills[i].judged++
			return nil
		case string(rd.frame.GatewayID) != p.fleet.gateway:
			p.out.GatewayLeaked++
			return nil
		}
		if n := &p.good[machine*p.frames+int(rd.frame.Sequence)-1]; *n < 255 {
			*n++
		}
		each(rd.record, rd.frameAt)
		return nil
	})
}

func (p *poisonRun) countGood() (once, lost, doubled int) {
	for _, n := range p.good {
		switch {
		case n == 1:
			once++
		case n > 1:
			doubled++
		}
	}
	return once, p.goods - once - doubled, doubled
}

// judge holds what was measured against the promise and fills the table.
func (p *poisonRun) judge() {
	o, r := &p.out, p.report
	r.brokenIf(o.Missing > 0, "%d poison records have no dead letter", o.Missing)
	r.brokenIf(o.Twice > 0, "%d poison records have several dead letters", o.Twice)
	r.brokenIf(o.Invented > 0, "%d dead letters are of records that were no poison", o.Invented)
	r.brokenIf(o.WrongReason > 0, "%d dead letters give another reason", o.WrongReason)
	r.brokenIf(o.WrongBytes > 0, "%d dead letters hold other bytes than came", o.WrongBytes)
	r.brokenIf(o.Lost > 0, "%d good frames were not judged", o.Lost)
	r.brokenIf(o.Doubled > 0, "%d good frames were judged twice", o.Doubled)
	r.brokenIf(o.LakeRows != o.LakeWanted, "the lake holds %d rows, %d were judged", o.LakeRows, o.LakeWanted)
	r.brokenIf(o.LakeLost > 0, "%d frames are not whole in the lake", o.LakeLost)
	r.brokenIf(o.LakeDoubled > 0, "%d frames stand in the lake twice", o.LakeDoubled)
	r.brokenIf(o.NotRefused > 0, "%d bad frames were not refused by the gateway with their field", o.NotRefused)
	r.brokenIf(o.GatewayLeaked > 0, "%d frames that the gateway refused were judged", o.GatewayLeaked)
	if o.Retried {
		r.brokenIf(o.MendedOnce != o.MendedWanted, "%d of %d mended frames were judged once after the retry (%d more than once)", o.MendedOnce, o.MendedWanted, o.MendedDoubled)
		r.brokenIf(o.NewLetters != o.NewLettersWant, "%d letters came anew after the retry, %d should", o.NewLetters, o.NewLettersWant)
		r.brokenIf(o.GoodAfterDouble > 0, "%d good frames were judged twice after the retry", o.GoodAfterDouble)
	}
	r.row("good frames", o.Good, "judged once", o.JudgedOnce, "lost", o.Lost, "doubled", o.Doubled)
	r.row("poison", o.Poison, "letters", o.Poison-o.Missing-o.Twice, "missing", o.Missing, "twice", o.Twice)
	for _, k := range slices.Sorted(maps.Keys(o.Kinds)) {
		r.row("", "", k, o.Kinds[k])
	}
	r.row("lake rows", o.LakeRows, "wanted", o.LakeWanted, "incomplete", o.LakeLost, "doubled", o.LakeDoubled)
	r.row("restarts", o.Restarts)
	r.row("processor", fmt.Sprintf("%.0f frames/s", o.FramesPerS), "in", fmt.Sprintf("%.1f s", o.Seconds))
	refused := 0
	for _, n := range o.Refused {
		refused += n
	}
	r.row("gateway refused", refused, "wrongly answered", o.NotRefused)
	if o.Retried {
		r.row("after repair", o.MendedWanted, "judged once", o.MendedOnce, "doubled", o.MendedDoubled, "letters again", fmt.Sprintf("%d of %d", o.NewLetters, o.NewLettersWant))
	} else {
		r.row("after repair", "not tried")
	}
	r.row("peak memory, MB", fmt.Sprint("processor ", o.PeakMB["stream-processor"]), fmt.Sprint("writer ", o.PeakMB["cold-path-writer"]))
}
