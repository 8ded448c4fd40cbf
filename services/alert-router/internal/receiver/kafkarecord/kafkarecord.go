// Package kafkarecord writes pages to a Kafka topic, for programs: one record per notification, the value is message.Document.
package kafkarecord

import (
	"context"
	"errors"
	"regexp"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tocsin-io/tocsin/services/alert-router/internal/message"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/notification"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/receiver"
)

// Producer writes records; *kgo.Client is one, with acks=all and idempotent writes unless it is told otherwise.
type Producer interface {
	ProduceSync(ctx context.Context, rs ...*kgo.Record) kgo.ProduceResults
}

// Config of one integration.
type Config struct {
	Topic string
	// Producer gives the client when the first message is to be sent.
	Producer func() (Producer, error)
}

var topicName = regexp.MustCompile(`^[a-zA-Z0-9._-]{1,249}$`)

// Validate names what is missing.
func (c *Config) Validate() error {
	if !topicName.MatchString(c.Topic) || c.Topic == "." || c.Topic == ".." {
		return errors.New("topic: not a topic's name")
	}
	return nil
}

// Receiver is a notification.Receiver.
type Receiver struct {
	cfg      Config
	composer receiver.Composer
}

// New makes a Receiver.
func New(cfg Config, composer receiver.Composer) *Receiver { return &Receiver{cfg, composer} }

// Send implements notification.Receiver. The key is the machine, or of several what they share, so that what is said of one stays in order; ce_id is the
// notification's key, the same for every attempt.
func (r *Receiver) Send(ctx context.Context, n notification.Notification) error {
	producer, err := r.cfg.Producer()
	if err != nil {
		return &notification.Error{Class: notification.Retryable, Reason: "no_broker", Err: err}
	}
	value, err := receiver.JSON(message.NewDocument(&n, r.composer.Page(n, "kafka/"+n.Receiver)))
	if err != nil {
		return err
	}
	rec := &kgo.Record{Topic: r.cfg.Topic, Key: []byte(n.ScopeKey()), Value: value, Timestamp: n.At, Headers: []kgo.RecordHeader{
		{Key: "ce_specversion", Value: []byte("1.0")},
		{Key: "ce_type", Value: []byte(message.Schema)},
		{Key: "ce_id", Value: []byte(n.Key)},
		{Key: "ce_source", Value: []byte("tocsin/alert-router")},
		{Key: "content-type", Value: []byte("application/json")},
	}}
	if err := producer.ProduceSync(ctx, rec).FirstErr(); err != nil {
		return failed(err)
	}
	return nil
}

func failed(err error) error {
	e := &notification.Error{Class: notification.Retryable, Reason: "network", Err: err}
	var ke *kerr.Error
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, kgo.ErrRecordTimeout):
		e.Reason, e.MayHaveArrived = "timeout", true
	case errors.Is(err, context.Canceled):
		e.Reason, e.MayHaveArrived = "canceled", true
	case errors.Is(err, kerr.UnknownTopicOrPartition):
		e.Reason = "unknown_topic" // it may be made yet
	case errors.Is(err, kerr.MessageTooLarge), errors.Is(err, kerr.InvalidTopicException):
		e.Class, e.Reason = notification.Permanent, "refused"
	case errors.Is(err, kerr.TopicAuthorizationFailed), errors.Is(err, kerr.SaslAuthenticationFailed):
		e.Class, e.Reason = notification.Permanent, "unauthorized"
	case errors.As(err, &ke) && !ke.Retriable:
		e.Class, e.Reason = notification.Permanent, "refused"
	}
	return e
}
