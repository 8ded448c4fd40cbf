// Package alertrouter is the alert-router service: it turns anomalies into alerts, one per machine and cause, and brings
// them to people through Prometheus Alertmanager's routing engine.
package alertrouter

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/tocsin-io/tocsin/pkg/httpserver"
)

// Config is the section alert_router.
type Config struct {
	HTTP               httpserver.Config `mapstructure:"http" doc:"HTTP: Alertmanager's API v2, health, metrics."`
	GroupID            string            `mapstructure:"group_id" doc:"Kafka consumer group."`
	InstanceID         string            `mapstructure:"instance_id" doc:"Name of this instance in the group; each running instance needs its own, and keeps it when it restarts."`
	DataDir            string            `mapstructure:"data_dir" doc:"Directory for the notification log and the silences. Each instance needs its own."`
	RoutingFile        string            `mapstructure:"routing_file" doc:"Routing: a Prometheus Alertmanager configuration file. Empty: built in, every notification goes to the log."`
	ExternalURL        string            `mapstructure:"external_url" doc:"URL under which people reach this service, for links in notifications. Empty: http:// and the address listened on."`
	MachineURL         string            `mapstructure:"machine_url" doc:"URL of a machine's page, for links in notifications; {equipment_id} is replaced. Empty: no links."`
	LogNotifications   bool              `mapstructure:"log_notifications" doc:"Write each notification to the log too, whatever its receiver."`
	Retention          time.Duration     `mapstructure:"retention" doc:"How long the notification log and expired silences are kept. Longer than the longest repeat_interval."`
	SessionTimeout     time.Duration     `mapstructure:"session_timeout" doc:"Silence of an instance after which the group gives its partitions to another."`
	TransactionTimeout time.Duration     `mapstructure:"transaction_timeout" doc:"Time after which Kafka aborts a transaction that an instance has left open."`
	MaxPollRecords     int               `mapstructure:"max_poll_records" doc:"Records in one transaction at most."`
}

// DefaultConfig is one instance on loopback.
func DefaultConfig() Config {
	return Config{
		HTTP:               httpserver.DefaultConfig("127.0.0.1:8083"),
		GroupID:            "alert-router",
		InstanceID:         "alert-router-0",
		DataDir:            ".tocsin/alert-router",
		MachineURL:         "http://127.0.0.1:8080/",
		LogNotifications:   true,
		Retention:          120 * time.Hour,
		SessionTimeout:     10 * time.Second,
		TransactionTimeout: 10 * time.Second,
		MaxPollRecords:     1000,
	}
}

var instanceID = regexp.MustCompile(`^[A-Za-z0-9._-]{1,200}$`)

// Validate names the first field that is wrong.
func (c Config) Validate() error {
	if err := c.HTTP.Validate(); err != nil {
		return fmt.Errorf("http.%w", err)
	}
	switch {
	case !instanceID.MatchString(c.GroupID):
		return fmt.Errorf("group_id: %q is not of the form [A-Za-z0-9._-]{1,200}", c.GroupID)
	case !instanceID.MatchString(c.InstanceID):
		return fmt.Errorf("instance_id: %q is not of the form [A-Za-z0-9._-]{1,200}", c.InstanceID)
	case c.DataDir == "":
		return errors.New("data_dir: missing")
	case c.Retention < time.Minute:
		return fmt.Errorf("retention: %s is less than a minute", c.Retention)
	case c.SessionTimeout < 100*time.Millisecond || c.SessionTimeout > 30*time.Minute:
		return fmt.Errorf("session_timeout: %s is not in 100ms..30m", c.SessionTimeout)
	case c.TransactionTimeout < time.Second || c.TransactionTimeout > 15*time.Minute:
		return fmt.Errorf("transaction_timeout: %s is not in 1s..15m", c.TransactionTimeout)
	case c.MaxPollRecords < 1 || c.MaxPollRecords > 100_000:
		return fmt.Errorf("max_poll_records: %d is not in 1..100000", c.MaxPollRecords)
	}
	if err := httpURL(c.ExternalURL); err != nil {
		return fmt.Errorf("external_url: %w", err)
	}
	if err := httpURL(strings.ReplaceAll(c.MachineURL, "{equipment_id}", "x")); err != nil {
		return fmt.Errorf("machine_url: %w", err)
	}
	return nil
}

func httpURL(s string) error {
	if s == "" {
		return nil
	}
	u, err := url.Parse(s)
	if err != nil {
		return err
	}
	if (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return fmt.Errorf("%q is not an http:// or https:// URL", s)
	}
	return nil
}
