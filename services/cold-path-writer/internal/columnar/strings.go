package columnar

import (
	"encoding/binary"
	"iter"
	"math/bits"
	"slices"

	"github.com/parquet-go/parquet-go/bloom"
	"github.com/parquet-go/parquet-go/format"
)

// Strings is a column of strings. Each distinct one gets a number from Intern, which holds until the file is closed or reset.
type Strings struct {
	sequence[uint32] // by number
	ids              map[string]uint32
	names            []string
	// Numbers within the row group, + 1; by number of the file. used are the strings of the group in the order of their numbers.
	local []uint32
	used  []uint32
}

func newStrings() *Strings { return &Strings{ids: map[string]uint32{}} }

// Intern gives the number of s. It copies s when it is new.
func (c *Strings) Intern(s []byte) uint32 {
	if id, ok := c.ids[string(s)]; ok {
		return id
	}
	own := string(s)
	id := uint32(len(c.names))
	c.ids[own] = id
	c.names = append(c.names, own)
	c.local = append(c.local, 0)
	return id
}

func (c *Strings) reset() {
	c.forget()
	clear(c.ids)
	c.names, c.local, c.used = c.names[:0], c.local[:0], c.used[:0]
}

func (c *Strings) flush(k *chunk) {
	defer c.forget()
	c.number()
	s := &k.w.scratch
	s.body = s.body[:0]
	for _, id := range c.used {
		name := c.names[id]
		s.body = binary.LittleEndian.AppendUint32(s.body, uint32(len(name)))
		s.body = append(s.body, name...)
	}
	k.dictionary(len(c.used), s.body)
	if k.column.Bloom {
		k.index.bloom = bloomFilter(len(c.used))
		for _, id := range c.used {
			k.index.bloom.Insert(bloom.XXH64{}.Sum64([]byte(c.names[id])))
		}
	}
	width := uint(bits.Len(uint(len(c.used) - 1)))
	seen := make([]bool, len(c.used))
	for part := range slices.Chunk(c.flat, k.pageRows()) {
		clear(seen)
		for _, v := range part {
			seen[v] = true
		}
		s.body = appendPacked(append(s.body[:0], byte(width)), part, width)
		k.data(page{rows: len(part), encoding: format.RLEDictionary, body: s.body, bounds: c.boundsOf(seen)}, lessBytes)
	}
	for p := range pagesOf(c.runs, k.pageRows()) {
		clear(seen)
		for _, r := range p.runs {
			seen[r.value] = true
		}
		s.body = appendRuns(append(s.body[:0], byte(width)), p.runs, width)
		k.data(page{rows: p.rows, encoding: format.RLEDictionary, body: s.body, bounds: c.boundsOf(seen)}, lessBytes)
	}
}

// number turns the file's numbers into the row group's, in the order in which they come.
func (c *Strings) number() {
	c.used = c.used[:0]
	for i := range c.runs {
		c.runs[i].value = c.localOf(c.runs[i].value)
	}
	for i, id := range c.flat {
		c.flat[i] = c.localOf(id)
	}
	for _, id := range c.used {
		c.local[id] = 0
	}
}

func (c *Strings) localOf(id uint32) uint32 {
	if n := c.local[id]; n != 0 {
		return n - 1
	}
	c.used = append(c.used, id)
	c.local[id] = uint32(len(c.used))
	return uint32(len(c.used) - 1)
}

// distinct is how many different strings the row group holds, if they may be more than few; else 0.
func (c *Strings) distinct(few int) (n int) {
	if len(c.names) <= few || !c.byRow {
		return 0
	}
	for _, id := range c.flat {
		if c.local[id] == 0 {
			c.local[id] = 1
			n++
		}
	}
	for _, id := range c.flat {
		c.local[id] = 0
	}
	return n
}

func (c *Strings) boundsOf(seen []bool) bounds {
	var least, most string
	first := true
	for i, ok := range seen {
		if !ok {
			continue
		}
		name := c.names[c.used[i]]
		if first || name < least {
			least = name
		}
		if first || name > most {
			most = name
		}
		first = false
	}
	return bounds{[]byte(least), []byte(most)}
}

// runPage is the runs of one page.
type runPage struct {
	runs []run
	rows int
}

// pagesOf cuts runs into pages. The yielded runs are valid until the next.
func pagesOf(runs []run, pageRows int) iter.Seq[runPage] {
	return func(yield func(runPage) bool) {
		var p runPage
		for _, r := range runs {
			for r.n > 0 {
				take := min(r.n, uint32(pageRows-p.rows))
				p.runs = append(p.runs, run{r.value, take})
				p.rows += int(take)
				r.n -= take
				if p.rows == pageRows {
					if !yield(p) {
						return
					}
					p.runs, p.rows = p.runs[:0], 0
				}
			}
		}
		if p.rows > 0 {
			yield(p)
		}
	}
}
