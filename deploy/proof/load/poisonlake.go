package load

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// checkLake counts the rows of each frame in the lake. The frames that were mended are there too, when they were.
func (p *poisonRun) checkLake(context.Context) error {
	perFrame := make([]uint8, len(p.good))
	mended := map[[2]int]int{}
	wanted := int64(p.goods * p.cfg.Sensors)
	for i := range p.pills {
		if p.pills[i].judged > 0 {
			mended[[2]int{p.pills[i].machine, int(p.pills[i].sequence)}] = 0
			wanted += int64(p.cfg.Sensors)
		}
	}
	var id string // rows are sorted by machine
	machine := -1
	var rows int64
	files, err := p.lakeReadings(func(r *lakeRow) error {
		rows++
		if r.EquipmentID != id {
			id = r.EquipmentID
			n, ok := p.fleet.machineOf([]byte(id))
			if !ok || n >= p.cfg.Machines {
				return fmt.Errorf("a row of a machine that sent nothing: %q", id)
			}
			machine = n
		}
		if r.GatewayID == poisonGateway {
			key := [2]int{machine, int(r.Sequence)}
			if _, ok := mended[key]; !ok {
				p.report.brokenIf(true, "poison stands in the lake: machine %d, sequence %d", machine, r.Sequence)
			}
			mended[key]++
			return nil
		}
		if n := &perFrame[machine*p.frames+int(r.Sequence)-1]; *n < 255 {
			*n++
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read the lake: %w", err)
	}
	p.say("the lake holds %d rows in %d files", rows, files)
	p.out.LakeRows, p.out.LakeWanted = rows, wanted
	sensors := uint8(p.cfg.Sensors)
	incomplete := 0
	for _, n := range perFrame {
		switch {
		case n == sensors:
			incomplete--
		case n > sensors:
			p.out.LakeDoubled++
			incomplete--
		}
	}
	p.out.LakeLost = p.goods + incomplete
	for _, n := range mended {
		switch {
		case n < p.cfg.Sensors:
			p.out.LakeLost++
		case n > p.cfg.Sensors:
			p.out.LakeDoubled++
		}
	}
	return nil
}

// retry registers the missing schema and lets the operator's tool send all letters again: what can be judged now arrives once, the
// rest comes back.
func (p *poisonRun) retry(ctx context.Context) error {
	if !p.cfg.Retry {
		return nil
	}
	if err := p.register(ctx); err != nil {
		return err
	}
	p.say("the missing schema is registered; sending the dead letters again")
	cmd := exec.CommandContext(ctx, filepath.Join(p.Bin, "tocsin"), "dlq", "retry", "--all", "--config", p.Stack.ConfigFile()) //nolint:gosec // ours
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.Env = append(cmd.Environ(), p.Stack.Env()...)
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("tocsin dlq retry: %w\n%s", err, &out)
	}
	p.say("%s", bytes.TrimSpace(out.Bytes()))
	if err := p.settle(ctx); err != nil {
		return err
	}
	before := p.out.Letters
	reasons, others := p.out.WrongReason, p.out.Invented
	if err := errors.Join(p.readLetters(ctx), p.readReadings(ctx, func(*kgo.Record, time.Time) {})); err != nil {
		return err
	}
	p.out.Retried = true
	p.out.NewLetters = p.out.Letters - before
	p.out.Letters = before
	p.out.WrongReason, p.out.Invented = max(reasons, p.out.WrongReason), max(others, p.out.Invented)
	for i := range p.pills {
		pill := &p.pills[i]
		if !pill.kind.mended {
			if pill.size > maxLetter { // its letter is not whole, so it stays where it is
				continue
			}
			p.out.NewLettersWant++
			p.report.brokenIf(pill.letters != 2 && p.out.NewLettersWant < 10, "%s: %d letters after the retry, 2 wanted", pill.kind.name, pill.letters)
			continue
		}
		p.out.MendedWanted++
		switch pill.judged {
		case 0:
		case 1:
			p.out.MendedOnce++
		default:
			p.out.MendedDoubled++
		}
	}
	_, _, p.out.GoodAfterDouble = p.countGood()
	return nil
}
