package kafka

import (
	"errors"
	"fmt"
	"sync"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// ErrForgotten says that a group has forgotten this member and taken it in again as another one. Others may have owned its partitions, and gone on with
// them, in between.
var ErrForgotten = errors.New("the group had forgotten this member, and others may have owned its partitions since")

// Membership knows under which member id of a consumer group each partition was taken over, so that no offset is committed under another one.
//
// A group forgets a member whose session has timed out. If the member learns that while it is joining (a rebalance under way, over a link that hangs), franz-go
// v1.22.2 joins again under a new id and still claims what it had, says nothing to the application, and goes on where it was if it gets that back; who owned it
// meanwhile has committed what comes next. The coordinator accepts such a commit: member and generation are right.
//
// A member that was not forgotten keeps its id through all rebalances, and nobody is given what it claims. Safe for concurrent use.
type Membership struct {
	mu   sync.Mutex
	took map[int32]string
}

// Took notes that partitions begin anew, from what the group has committed, under a member id (kgo.Client.GroupMetadata).
func (m *Membership) Took(member string, partitions ...int32) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.took == nil {
		m.took = map[int32]string{}
	}
	for _, p := range partitions {
		m.took[p] = member
	}
}

// Same is ErrForgotten unless the partition was taken over under this member id.
func (m *Membership) Same(member string, partition int32) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if was := m.took[partition]; was != member {
		return fmt.Errorf("partition %d was taken over as member %q, this is %q: %w", partition, was, member, ErrForgotten)
	}
	return nil
}

// Check is for kgo.PreTxnCommitFnContext: what it refuses is not committed, and the session aborts the transaction.
func (m *Membership) Check(req *kmsg.TxnOffsetCommitRequest) error {
	for _, t := range req.Topics {
		for _, p := range t.Partitions {
			if err := m.Same(req.MemberID, p.Partition); err != nil {
				return fmt.Errorf("%w: %w", kerr.UnknownMemberID, err) // what the coordinator would have answered a moment earlier
			}
		}
	}
	return nil
}

// Kept is ErrForgotten if the client has kept partitions of the topic that it had under another member id. They will neither be revoked nor assigned: only a
// new client begins with them from what is committed. To be asked within kgo.OnPartitionsAssigned, which is called after each join.
func (m *Membership) Kept(cl *kgo.Client, topic string) error {
	member, _ := cl.GroupMetadata()
	for p := range cl.CommittedOffsets()[topic] {
		if err := m.Same(member, p); err != nil {
			return err
		}
	}
	return nil
}
