package topology

// arena hands out byte slices that live until the transaction ends: the Kafka client keeps a record's value until the
// broker has it, and one allocation per megabyte is cheaper than one per record. Not safe for concurrent use.
type arena struct {
	cur  []byte
	full [][]byte
}

const arenaChunk = 1 << 20

// copy is b kept in the arena.
func (a *arena) copy(b []byte) []byte {
	if cap(a.cur)-len(a.cur) < len(b) {
		if len(b) > arenaChunk/4 {
			return append([]byte(nil), b...)
		}
		if a.cur != nil {
			a.full = append(a.full, a.cur)
		}
		a.cur = make([]byte, 0, arenaChunk)
	}
	n := len(a.cur)
	a.cur = append(a.cur, b...)
	return a.cur[n:len(a.cur):len(a.cur)]
}

// reset forgets everything handed out. Only after a flush.
func (a *arena) reset() {
	if a.cur == nil {
		return
	}
	a.cur, a.full = a.cur[:0], nil
}
