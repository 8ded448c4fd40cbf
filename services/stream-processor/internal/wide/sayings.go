package wide

import "slices"

// remembered is the number of rows whose scores are kept until they are learned from.
const remembered = 8

// sayings are what was said of the newest rows when they were new: by a model that did not know them yet, nor those just before them. Tails and shares are learned from that. A model
// that has learned the row before a row flatters itself, which the score, many rows ahead of the lessons, could not.
type sayings struct {
	at   [remembered]int64
	used [remembered]bool
	rows [remembered][]uint8
	next int
}

// A saying: inside the plane, no opinion, or how far outside in steps of 1/8 of the surprise.
const (
	inside    = 0
	nothing   = 255
	saidSteps = 8
)

func (s *sayings) grow(n int) {
	for k := range s.rows {
		row := make([]uint8, n)
		for i := copy(row, s.rows[k]); i < n; i++ {
			row[i] = nothing
		}
		s.rows[k] = row
	}
}

func (s *sayings) note(m *Model, row, surprises []float32, at int64) {
	out := s.rows[s.next]
	s.at[s.next], s.used[s.next] = at, true
	s.next = (s.next + 1) % remembered
	boundary := float32(m.Boundary())
	learned := m.learned[:len(out)]
	row, surprises = row[:len(out)], surprises[:len(out)]
	for i := range out {
		switch t := surprises[i]; {
		case learned[i] < ready || row[i] != row[i]:
			out[i] = nothing
		case t < boundary:
			out[i] = inside
		default:
			out[i] = uint8(1 + min((t-boundary)*saidSteps, nothing-2))
		}
	}
}

// of is what was said of the row of that time, or nil.
func (s *sayings) of(at int64) []uint8 {
	if k := slices.Index(s.at[:], at); k >= 0 && s.used[k] {
		return s.rows[k]
	}
	return nil
}
