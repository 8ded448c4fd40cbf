package httpreceiver

import (
	"crypto/rand"
	"encoding/hex"
	"sync"
)

// maxMachines bounds the counters of /data-enqueue: some 15 MB.
const maxMachines = 100_000

// identities numbers the frames of senders that do not number them themselves. A frame's identity must never come twice, not
// even from two processes or after a restart; so the gateway id is made up anew by each process, and again when too many machines
// have been counted under it. Under one gateway id each machine's sequence starts at 1 and grows by one.
type identities struct {
	mu        sync.Mutex
	most      int
	gatewayID string
	last      map[string]uint64
}

func newIdentities(most int) *identities {
	ids := &identities{most: most}
	ids.renew()
	return ids
}

func (ids *identities) renew() {
	var b [8]byte
	rand.Read(b[:]) // never fails
	ids.gatewayID = "data-enqueue:" + hex.EncodeToString(b[:])
	ids.last = map[string]uint64{}
}

func (ids *identities) next(equipmentID string) (gatewayID string, sequence uint64) {
	ids.mu.Lock()
	defer ids.mu.Unlock()
	if _, ok := ids.last[equipmentID]; !ok && len(ids.last) >= ids.most {
		ids.renew()
	}
	ids.last[equipmentID]++
	return ids.gatewayID, ids.last[equipmentID]
}
