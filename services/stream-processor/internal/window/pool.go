package window

// Pool is memory that panes of any machines leave to others: one for each goroutine, so that a machine holds only what it has open. The zero value is empty.
// It keeps little: what one machine leaves is what the next, mostly of the same kind, takes.
type Pool struct {
	columns []*Columns
	panes   []*Pane
	buffers [][]byte
}

const mostPooled = 8 // of each kind

// take removes and returns the newest item whose size is enough for want and not far more; size is its room.
func take[T any](list []T, want int, size func(T) int) ([]T, T, bool) {
	for i := len(list) - 1; i >= 0; i-- {
		if n := size(list[i]); n >= want && n <= 2*want+64 {
			item, last := list[i], len(list)-1
			copy(list[i:], list[i+1:])
			var none T
			list[last] = none
			return list[:last], item, true
		}
	}
	var none T
	return list, none, false
}

func give[T any](list []T, item T) []T {
	if len(list) == mostPooled { // the oldest is wanted least
		copy(list, list[1:])
		list = list[:mostPooled-1]
	}
	return append(list, item)
}

// columnsFor are empty ones with room for n sensors.
func (p *Pool) columnsFor(n int) (c *Columns) {
	var ok bool
	if p.columns, c, ok = take(p.columns, n, func(c *Columns) int { return cap(c.Accums) }); !ok {
		c = new(Columns)
	}
	c.grow(n)
	return c
}

func (p *Pool) giveColumns(c *Columns) {
	c.Accums, c.Marks, c.stuck = c.Accums[:0], c.Marks[:0], c.stuck[:0]
	p.columns = give(p.columns, c)
}

// pane is an empty one.
func (p *Pool) pane() *Pane {
	n := len(p.panes)
	if n == 0 {
		return new(Pane)
	}
	item := p.panes[n-1]
	p.panes[n-1] = nil
	p.panes = p.panes[:n-1]
	return item
}

func (p *Pool) givePane(item *Pane) {
	if item.Columns != nil {
		p.giveColumns(item.Columns)
	}
	if cap(item.packed) > 0 {
		p.buffers = give(p.buffers, item.packed)
	}
	*item = Pane{}
	p.panes = give(p.panes, item)
}

// buffer is size bytes of any value.
func (p *Pool) buffer(size int) (b []byte) {
	var ok bool
	if p.buffers, b, ok = take(p.buffers, size, func(b []byte) int { return cap(b) }); !ok {
		b = make([]byte, size)
	}
	return b[:size]
}
