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

	"github.com/tocsin-io/tocsin/pkg/auth"
	"github.com/tocsin-io/tocsin/pkg/httpserver"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/access"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/egress"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/journal"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/lifecycle"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/oncall"
)

// Config is the section alert_router.
type Config struct {
	HTTP               httpserver.Config `mapstructure:"http" doc:"HTTP: Alertmanager's API v2, health, metrics."`
	GroupID            string            `mapstructure:"group_id" doc:"Kafka consumer group."`
	InstanceID         string            `mapstructure:"instance_id" doc:"Name of this instance in the group; each running instance needs its own, and keeps it when it restarts."`
	DataDir            string            `mapstructure:"data_dir" doc:"Directory for the notification log and the silences. Each instance needs its own."`
	RoutingFile        string            `mapstructure:"routing_file" doc:"Routing: a Prometheus Alertmanager configuration file. Empty: built in, every notification goes to the log."`
	ReceiversFile      string            `mapstructure:"receivers_file" doc:"What Alertmanager's configuration has no words for: how pages look, the keys of their links, SMS, Web Push, Kafka, signed webhooks. See docs/receivers.md. Empty: defaults."`
	EgressAllow        []string          `mapstructure:"egress_allow" doc:"Addresses, CIDRs, host names, *.domains and host:port that receivers may be reached at though they are not public (loopback, private networks)."`
	LiveURL            string            `mapstructure:"live_url" doc:"Where the realtime-api is reached, for the picture of the sensor in e-mails. Empty: no pictures."`
	LiveToken          string            `mapstructure:"live_token" doc:"Bearer token for live_url, of one who may see every machine that is paged about. Needed where the realtime-api lists people." secret:"true"`
	ExternalURL        string            `mapstructure:"external_url" doc:"URL under which people reach this service, for links in notifications. Empty: http:// and the address listened on."`
	MachineURL         string            `mapstructure:"machine_url" doc:"URL of a machine's page, for links in notifications; {equipment_id} is replaced. Empty: no links."`
	LogNotifications   bool              `mapstructure:"log_notifications" doc:"Write each notification to the log too, whatever its receiver."`
	Retention          time.Duration     `mapstructure:"retention" doc:"How long the notification log and expired silences are kept. Longer than the longest repeat_interval."`
	SessionTimeout     time.Duration     `mapstructure:"session_timeout" doc:"Silence of an instance after which the group gives its partitions to another."`
	TransactionTimeout time.Duration     `mapstructure:"transaction_timeout" doc:"Time after which Kafka aborts a transaction that an instance has left open."`
	MaxPollRecords     int               `mapstructure:"max_poll_records" doc:"Records in one transaction at most."`
	Journal            Journal           `mapstructure:"journal" doc:"What became of every alert, who was told, and what people did."`
	RearmAfter         time.Duration     `mapstructure:"rearm_after" doc:"An acknowledged alert that clears and comes back within this, no graver, stays acknowledged: nobody is told again. 0: each one is new."`
	MaxShelf           time.Duration     `mapstructure:"max_shelf" doc:"The longest that an alarm can be shelved; beyond that it is to be taken out of service."`
	Incidents          Incidents         `mapstructure:"incidents" doc:"Alerts that are one are told as one; alerts that come too often wait. What is held back stands in every list and in the journal as suppressed, and is told once the rule has passed."`
	OnCall             oncall.Config     `mapstructure:"on_call" doc:"Who of the receivers is told when: rotations, and escalation of what nobody acknowledges."`
	Auth               Auth              `mapstructure:"auth" doc:"Who may see alerts and do something about them."`
}

// Incidents says what is told as one, and how much is told at all.
type Incidents struct {
	Gateways bool          `mapstructure:"gateways" doc:"Machines that fell silent with their gateway are one page: that of the first of them. It is resolved when all are back."`
	Grace    time.Duration `mapstructure:"grace" doc:"How long machines may take to come back after the first of them has, before another page tells of those that have not."`
	Cooldown time.Duration `mapstructure:"cooldown" doc:"After a page another alert of the same machine and cause waits for this, unless it is graver. 0: none waits."`
	Rate     Limit         `mapstructure:"rate" doc:"Pages of one machine and cause."`
	Chatter  Limit         `mapstructure:"chatter" doc:"Alerts of one machine and cause beyond which it chatters: further ones wait until it is calm."`
	Flood    Limit         `mapstructure:"flood" doc:"Pages of the fleet. The one that takes the last place says that there is a flood; further alerts wait."`
	Groups   []Group       `mapstructure:"groups" doc:"Machines with a limit of their own: a line, a site."`
}

// Limit is so many in so long.
type Limit struct {
	Count int           `mapstructure:"count" doc:"How many. 0: no limit."`
	Per   time.Duration `mapstructure:"per" doc:"In how long."`
}

// Group is machines with a limit of their own.
type Group struct {
	Name      string   `mapstructure:"name" doc:"What people call it."`
	Equipment []string `mapstructure:"equipment" doc:"Its machines: exact equipment ids, or a prefix followed by *."`
	Pages     Limit    `mapstructure:"pages" doc:"Pages of these machines."`
	// Incident says when alerts of several of them are one.
	Incident time.Duration `mapstructure:"incident" doc:"Alerts of one cause of these machines that open within this of the first, and are no graver, are one page: that of the first. It is resolved when all have ended. 0: each is told by itself."`
}

func (l Limit) limit() lifecycle.Limit { return lifecycle.Limit(l) }

func (i Incidents) holds() lifecycle.Holds {
	h := lifecycle.Holds{
		Gateways: i.Gateways, Grace: i.Grace, Cooldown: i.Cooldown, Rate: i.Rate.limit(), Chatter: i.Chatter.limit(), Flood: i.Flood.limit(),
	}
	for _, g := range i.Groups {
		h.Groups = append(h.Groups, lifecycle.Group{Name: g.Name, Equipment: g.Equipment, Pages: g.Pages.limit(), Incident: g.Incident})
	}
	return h
}

// maxPer bounds the time of a limit: what lies in it is remembered.
const maxPer = 24 * time.Hour

// Validate names the first field that is wrong.
func (i Incidents) Validate() error {
	limit := func(name string, l Limit, most int) error {
		switch {
		case l.Count < 0 || l.Count > most:
			return fmt.Errorf("%s.count: %d is not in 0..%d", name, l.Count, most)
		case l.Count > 0 && (l.Per < time.Second || l.Per > maxPer):
			return fmt.Errorf("%s.per: %s is not in 1s..24h", name, l.Per)
		}
		return nil
	}
	switch {
	case i.Grace < 0 || i.Grace > time.Hour:
		return fmt.Errorf("grace: %s is not in 0..1h", i.Grace)
	case i.Cooldown < 0 || i.Cooldown > maxPer:
		return fmt.Errorf("cooldown: %s is not in 0..24h", i.Cooldown)
	}
	for _, l := range []struct {
		name string
		l    Limit
		most int
	}{{"rate", i.Rate, 64}, {"chatter", i.Chatter, 64}, {"flood", i.Flood, 100_000}} {
		if err := limit(l.name, l.l, l.most); err != nil {
			return err
		}
	}
	for n, g := range i.Groups {
		switch {
		case g.Name == "":
			return fmt.Errorf("groups[%d].name: missing", n)
		case len(g.Equipment) == 0:
			return fmt.Errorf("groups[%d].equipment: empty", n)
		case g.Incident < 0 || g.Incident > time.Hour:
			return fmt.Errorf("groups[%d].incident: %s is not in 0..1h", n, g.Incident)
		case g.Pages.Count == 0 && g.Incident == 0:
			return fmt.Errorf("groups[%d]: neither pages.count nor incident, so the group means nothing", n)
		}
		if err := limit(fmt.Sprintf("groups[%d].pages", n), g.Pages, 100_000); err != nil {
			return err
		}
	}
	return nil
}

// Journal says where the journal is.
type Journal struct {
	URL       string        `mapstructure:"url" doc:"A PostgreSQL database, postgres://user:password@host/database; several routers may share it. Empty: SQLite in data_dir." secret:"true"`
	Retention time.Duration `mapstructure:"retention" doc:"How long transitions, notifications and closed alerts are kept."`
}

// Auth says who may see and act.
type Auth struct {
	AllowAnonymous bool            `mapstructure:"allow_anonymous" doc:"Let anybody who reaches the listener see and do everything. Without it that is only so when no people are listed and the listener is on loopback; when none are listed and it is not, anybody may look and nobody acts through /v1/."`
	People         []access.Person `mapstructure:"people" doc:"Who may see and act, each with a token, a role and machines. Once somebody is listed, Alertmanager's API asks for a token as well, of somebody who sees every machine."`
}

// DefaultConfig is one instance on loopback.
func DefaultConfig() Config {
	return Config{
		HTTP:               httpserver.DefaultConfig("127.0.0.1:8083"),
		GroupID:            "alert-router",
		InstanceID:         "alert-router-0",
		DataDir:            ".tocsin/alert-router",
		MachineURL:         "http://127.0.0.1:8080/#/machine/{equipment_id}",
		LiveURL:            "http://127.0.0.1:8080",
		LogNotifications:   true,
		Retention:          120 * time.Hour,
		SessionTimeout:     10 * time.Second,
		TransactionTimeout: 10 * time.Second,
		MaxPollRecords:     1000,
		Journal:            Journal{Retention: 90 * 24 * time.Hour},
		RearmAfter:         30 * time.Minute,
		MaxShelf:           24 * time.Hour,
		Incidents: Incidents{
			Gateways: true, Grace: 2 * time.Minute, Cooldown: 2 * time.Minute, Rate: Limit{6, time.Hour}, Chatter: Limit{5, 15 * time.Minute}, Flood: Limit{100, 10 * time.Minute},
		},
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
	switch {
	case c.Journal.Retention < time.Hour:
		return fmt.Errorf("journal.retention: %s is less than an hour", c.Journal.Retention)
	case c.RearmAfter < 0 || c.RearmAfter > 24*time.Hour:
		return fmt.Errorf("rearm_after: %s is not in 0..24h", c.RearmAfter)
	case c.MaxShelf < time.Minute || c.MaxShelf > 31*24*time.Hour:
		return fmt.Errorf("max_shelf: %s is not in 1m..744h", c.MaxShelf)
	}
	if err := c.OnCall.Validate(); err != nil {
		return fmt.Errorf("on_call.%w", err)
	}
	if err := c.Incidents.Validate(); err != nil {
		return fmt.Errorf("incidents.%w", err)
	}
	if err := journal.Validate(c.Journal.URL); err != nil {
		return fmt.Errorf("journal.url: %w", err)
	}
	for i, p := range c.Auth.People {
		if err := p.Validate(); err != nil {
			return fmt.Errorf("auth.people[%d].%w", i, err)
		}
	}
	if _, err := c.people(); err != nil {
		return fmt.Errorf("auth.%w", err)
	}
	if _, err := egress.ParsePolicy(c.EgressAllow); err != nil {
		return fmt.Errorf("egress_allow: %w", err)
	}
	if err := httpURL(c.LiveURL); err != nil {
		return fmt.Errorf("live_url: %w", err)
	}
	if c.LiveToken != "" {
		if err := auth.CheckToken(c.LiveToken); err != nil {
			return fmt.Errorf("live_token: %w", err)
		}
	}
	if err := httpURL(c.ExternalURL); err != nil {
		return fmt.Errorf("external_url: %w", err)
	}
	if err := httpURL(strings.ReplaceAll(c.MachineURL, "{equipment_id}", "x")); err != nil {
		return fmt.Errorf("machine_url: %w", err)
	}
	return nil
}

// people are those who may see and act. Without a list a listener on loopback is open; any other shows and lets nobody act.
func (c Config) people() (*access.Book, error) { return access.New(c.Auth.People, c.anybody()) }

func (c Config) anybody() *access.Identity {
	switch {
	case c.Auth.AllowAnonymous, len(c.Auth.People) == 0 && auth.Loopback(c.HTTP.Listen):
		return access.Anybody(access.Operator)
	case len(c.Auth.People) == 0:
		return access.Anybody(access.Viewer)
	}
	return nil
}

// person is somebody by the name that they had when they subscribed; nil when there is no such person now.
func (c Config) person(name string) *access.Identity {
	for _, p := range c.Auth.People {
		if p.Name == name {
			return &access.Identity{Name: p.Name, Role: p.Role, Machines: auth.NewEquipment(p.Equipment)}
		}
	}
	if name == "" {
		return c.anybody()
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
