// Package undelivered makes the dead letters of messages: what a receiver was to be told and would not take, or could not.
package undelivered

import (
	"strconv"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tocsin-io/tocsin/pkg/dlq"
	"github.com/tocsin-io/tocsin/pkg/topic"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/message"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/receiver"
)

// Headers that a letter has beside those of dead letters.
const (
	HeaderReceiver    = "dlq_receiver"
	HeaderIntegration = "dlq_integration" // and its index: slack/0
)

// Record is the letter of a message: its value is message.Document, its id the message's key. The composer is to make no links that people act by: whoever reads the topic could.
func Record(d receiver.Dead, integration string, index int, composer receiver.Composer) (*kgo.Record, error) {
	n := &d.Notification
	value, err := receiver.JSON(message.NewDocument(n, composer.Page(*n, "letter")))
	if err != nil {
		return nil, err
	}
	rec := &kgo.Record{Topic: topic.Undelivered, Key: []byte(n.ScopeKey()), Value: value}
	for _, h := range [][2]string{
		{topic.HeaderType, message.Schema},
		{topic.HeaderID, n.Key},
		{"content-type", "application/json"},
		{dlq.HeaderConsumer, dlq.Router},
		{dlq.HeaderReason, d.Err.Reason},
		{dlq.HeaderAttempt, strconv.Itoa(d.Attempts)},
		{HeaderReceiver, n.Receiver},
		{HeaderIntegration, integration + "/" + strconv.Itoa(index)},
	} {
		rec.Headers = append(rec.Headers, kgo.RecordHeader{Key: h[0], Value: []byte(h[1])})
	}
	return rec, nil
}
