package kafka

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Extent is what topics held at one moment, for who reads them from their start up to there. The consumer must keep control records (kgo.KeepControlRecords): the end of a transaction may be the last
// thing before a topic's end. Not safe for concurrent use.
type Extent struct {
	// Total is the number of offsets, Met how many of them were met: as many as were read, which where records were compacted or aborted is less.
	Total, Met int64

	ends map[place]int64 // of the partitions that are not read to their ends yet
}

type place struct {
	topic     string
	partition int32
}

// ExtentOf asks for the topics' extent.
func ExtentOf(ctx context.Context, adm *kadm.Client, topics ...string) (*Extent, error) {
	ends, err := adm.ListEndOffsets(ctx, topics...)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("end of %v: %w", topics, err)
	}
	starts, err := adm.ListStartOffsets(ctx, topics...)
	if err == nil {
		err = starts.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("start of %v: %w", topics, err)
	}
	e := &Extent{ends: map[place]int64{}}
	ends.Each(func(o kadm.ListedOffset) {
		if s, _ := starts.Lookup(o.Topic, o.Partition); o.Offset > s.Offset {
			e.ends[place{o.Topic, o.Partition}] = o.Offset
			e.Total += o.Offset - s.Offset
		}
	})
	return e, nil
}

// Done tells whether all of it was met.
func (e *Extent) Done() bool { return len(e.ends) == 0 }

// Meet takes the next record of a partition, or control record, and tells whether it is data that lies within.
func (e *Extent) Meet(r *kgo.Record) (within bool) {
	at := place{r.Topic, r.Partition}
	end, wanted := e.ends[at]
	if !wanted {
		return false
	}
	if r.Offset >= end-1 {
		delete(e.ends, at)
	}
	if r.Offset >= end {
		return false
	}
	e.Met++
	return !r.Attrs.IsControl()
}
