package columnar

// sequence is a column's values in the order of its rows. They are kept as runs until one row comes after another.
type sequence[V comparable] struct {
	n     int
	runs  []runOf[V]
	flat  []V
	byRow bool // flat holds all rows
}

// runOf is n rows of one value.
type runOf[V comparable] struct {
	value V
	n     uint32
}

// Run adds n rows of v; of a string v is its number.
func (c *sequence[V]) Run(v V, n int) {
	if n <= 0 {
		return
	}
	c.n += n
	if c.byRow {
		for range n {
			c.flat = append(c.flat, v)
		}
		return
	}
	if last := len(c.runs) - 1; last >= 0 && c.runs[last].value == v {
		c.runs[last].n += uint32(n)
		return
	}
	c.runs = append(c.runs, runOf[V]{v, uint32(n)})
}

// Append adds a row for each of vs.
func (c *sequence[V]) Append(vs []V) {
	if len(vs) == 0 {
		return
	}
	c.flatten()
	c.flat = append(c.flat, vs...)
	c.n += len(vs)
}

// flatten goes over to a value per row.
func (c *sequence[V]) flatten() {
	if c.byRow {
		return
	}
	c.byRow = true
	for _, r := range c.runs {
		for range r.n {
			c.flat = append(c.flat, r.value)
		}
	}
	c.runs = c.runs[:0]
}

func (c *sequence[V]) rows() int { return c.n }

// forget empties the row group.
func (c *sequence[V]) forget() { c.n, c.byRow, c.runs, c.flat = 0, false, c.runs[:0], c.flat[:0] }
