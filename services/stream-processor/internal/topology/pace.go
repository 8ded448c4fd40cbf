package topology

import "time"

const (
	// slow is a transaction that is too close to the broker's limit for it: a quarter.
	slow = transactionTimeout / 4
	// leastPoll is the least that is polled at once, and also what a processor begins with after a restore: it does not know yet how quick it is.
	leastPoll = 200
	firstPoll = 2_000
)

// pace is how many records are polled at once. What was polled must be judged and written in the same transaction, and how long that takes depends on
// the frames (a sample or a minute of them), the machine, and who shares it. Beyond transactionTimeout the broker aborts, everything is
// restored, and the same records would take as long again: without this, a backlog on a slow machine would never be worked off.
type pace struct{ most, now int }

func newPace(most int) pace { return pace{most: most, now: min(firstPoll, most)} }

// took says how long the last transaction took.
func (p *pace) took(d time.Duration) {
	switch {
	case d > slow:
		p.now = min(p.most, max(leastPoll, p.now/4))
	case d < slow/4:
		p.now = min(p.most, 2*p.now)
	}
}
