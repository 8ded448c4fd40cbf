package kafka_test

import (
	"errors"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tocsin-io/tocsin/pkg/kafka"
)

func TestMembership(t *testing.T) {
	commit := func(member string, partitions ...int32) *kmsg.TxnOffsetCommitRequest {
		req := kmsg.NewPtrTxnOffsetCommitRequest()
		req.MemberID = member
		topic := kmsg.NewTxnOffsetCommitRequestTopic()
		for _, p := range partitions {
			part := kmsg.NewTxnOffsetCommitRequestTopicPartition()
			part.Partition = p
			topic.Partitions = append(topic.Partitions, part)
		}
		req.Topics = append(req.Topics, topic)
		return req
	}
	var m kafka.Membership
	if err := m.Check(commit("a", 1)); !errors.Is(err, kafka.ErrForgotten) {
		t.Errorf("a partition that nobody took: %v", err)
	}
	m.Took("a", 1, 2)
	if err := m.Check(commit("a", 1, 2)); err != nil {
		t.Errorf("the same member: %v", err)
	}
	if err := m.Check(commit("a")); err != nil {
		t.Errorf("nothing to commit: %v", err)
	}
	for _, member := range []string{"b", ""} {
		// The session aborts for it, and goes on.
		if err := m.Check(commit(member, 2)); !errors.Is(err, kafka.ErrForgotten) || !errors.Is(err, kerr.UnknownMemberID) {
			t.Errorf("as member %q: %v", member, err)
		}
	}
	m.Took("b", 2)
	if err := m.Check(commit("b", 2)); err != nil {
		t.Errorf("taken over again: %v", err)
	}
	if err := m.Check(commit("b", 1, 2)); !errors.Is(err, kafka.ErrForgotten) {
		t.Errorf("one of two was kept: %v", err)
	}
}
