package receiver

import "sync"

// maxRemembered bounds Once.
const maxRemembered = 4096

// Once remembers, for a message that goes to several recipients one by one, who has got it: when it is tried again because the third of them failed, the
// first two are not told twice. It forgets the oldest beyond some thousands. Safe for concurrent use; the zero value is ready.
type Once struct {
	mu   sync.Mutex
	done map[string]struct{}
	ring []string // in the order of marking, from next on
	next int
}

// Done tells whether recipient has got the message of this key.
func (o *Once) Done(key, recipient string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	_, ok := o.done[key+"\x00"+recipient]
	return ok
}

// Mark remembers that recipient has got the message of this key.
func (o *Once) Mark(key, recipient string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	id := key + "\x00" + recipient
	if _, ok := o.done[id]; ok {
		return
	}
	if o.done == nil {
		o.done = make(map[string]struct{})
	}
	if len(o.ring) < maxRemembered {
		o.ring = append(o.ring, id)
	} else {
		delete(o.done, o.ring[o.next])
		o.ring[o.next] = id
		o.next = (o.next + 1) % maxRemembered
	}
	o.done[id] = struct{}{}
}
