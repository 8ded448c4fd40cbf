// Package receivers builds what a routing file and a receivers file ask for. The routing file is Alertmanager's, unchanged; what Alertmanager has no words for stands in a file
// of its own: how pages look, the keys of their links, and receivers that Alertmanager does not have.
package receivers

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"sort"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/tocsin-io/tocsin/services/alert-router/internal/receiver"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/receiver/sms"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/verdict"
)

// maxFile bounds a receivers file: it is read whole.
const maxFile = 1 << 20

// File is a receivers file.
type File struct {
	Page      Page       `yaml:"page"`
	Links     Links      `yaml:"links"`
	Retry     Retry      `yaml:"retry"`
	Receivers []Receiver `yaml:"receivers"`

	zone *time.Location
	keys []verdict.Key
}

// Page says how pages look.
type Page struct {
	// TimeZone that times are written in, by its IANA name.
	TimeZone string `yaml:"time_zone"`
	// ChartURL and RunbookURL with {equipment_id}, {cause}, {sensor} and {alert_id}.
	ChartURL   string `yaml:"chart_url"`
	RunbookURL string `yaml:"runbook_url"`
	// Units of sensors by name, or by pattern: "*_temp": "°C".
	Units map[string]string `yaml:"units"`
}

// Links says how the links of pages are signed.
type Links struct {
	Lifetime time.Duration `yaml:"lifetime"`
	// Keys: the first signs, all are believed. None: one is made, and kept in data_dir.
	Keys []Key `yaml:"keys"`
}

// Key signs links.
type Key struct {
	ID         string `yaml:"id"`
	Secret     string `yaml:"secret"`
	SecretFile string `yaml:"secret_file"`
}

// Retry says how often a message is tried again.
type Retry struct {
	Retries int           `yaml:"retries"` // 1 to 5
	Base    time.Duration `yaml:"base"`
	Max     time.Duration `yaml:"max"`
}

// Receiver adds to the receiver of this name in the routing file.
type Receiver struct {
	Name     string    `yaml:"name"`
	SMS      []SMS     `yaml:"sms_configs"`
	WebPush  []WebPush `yaml:"webpush_configs"`
	Kafka    []Kafka   `yaml:"kafka_configs"`
	Webhooks []Webhook `yaml:"tocsin_webhook_configs"`
}

// SMS is one of sms_configs.
type SMS struct {
	SendResolved     bool     `yaml:"send_resolved"`
	APIURL           string   `yaml:"api_url"`
	AccountSID       string   `yaml:"account_sid"`
	AuthToken        string   `yaml:"auth_token"`
	AuthTokenFile    string   `yaml:"auth_token_file"`
	From             string   `yaml:"from"`
	MessagingService string   `yaml:"messaging_service_sid"`
	To               []string `yaml:"to"`
	Parts            int      `yaml:"parts"`
}

// WebPush is one of webpush_configs.
type WebPush struct {
	SendResolved      *bool  `yaml:"send_resolved"`
	PublicKey         string `yaml:"vapid_public_key"`
	PrivateKey        string `yaml:"vapid_private_key"`
	PrivateKeyFile    string `yaml:"vapid_private_key_file"`
	Subject           string `yaml:"subject"`
	SubscriptionsFile string `yaml:"subscriptions_file"`
}

// Kafka is one of kafka_configs.
type Kafka struct {
	SendResolved *bool  `yaml:"send_resolved"`
	Topic        string `yaml:"topic"`
}

// Webhook is one of tocsin_webhook_configs.
type Webhook struct {
	SendResolved *bool             `yaml:"send_resolved"`
	URL          string            `yaml:"url"`
	URLFile      string            `yaml:"url_file"`
	Payload      string            `yaml:"payload"` // "tocsin" (default) or "alertmanager"
	Secrets      []string          `yaml:"secrets"`
	SecretFiles  []string          `yaml:"secret_files"`
	Headers      map[string]string `yaml:"headers"`
	Timeout      time.Duration     `yaml:"timeout"`
	MaxAlerts    int               `yaml:"max_alerts"`
}

// Default is what stands without a file.
func Default() *File {
	f := &File{Links: Links{Lifetime: 72 * time.Hour}, Retry: Retry{Retries: 5, Base: 500 * time.Millisecond, Max: 15 * time.Second}}
	if err := f.check("."); err != nil {
		panic(err) // a constant
	}
	return f
}

// Load reads a receivers file strictly: unknown keys and bad values are refused, named with their line where the decoder knows it. Files that it names are relative to it. An empty path
// is Default.
func Load(name string) (*File, error) {
	f := Default()
	if name == "" {
		return f, nil
	}
	in, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("receivers file: %w", err)
	}
	defer func() { _ = in.Close() }()
	text, err := io.ReadAll(io.LimitReader(in, maxFile+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("receivers file: %w", err)
	case len(text) > maxFile:
		return nil, fmt.Errorf("receivers file %s: more than %d bytes", name, maxFile)
	}
	dec := yaml.NewDecoder(bytes.NewReader(text))
	dec.KnownFields(true)
	if err := dec.Decode(f); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if err := f.check(filepath.Dir(name)); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return f, nil
}

func (f *File) check(dir string) error {
	var err error
	f.zone = time.UTC
	if f.Page.TimeZone != "" {
		if f.zone, err = time.LoadLocation(f.Page.TimeZone); err != nil {
			return fmt.Errorf("page.time_zone: %w", err)
		}
	}
	for name, s := range map[string]string{"chart_url": f.Page.ChartURL, "runbook_url": f.Page.RunbookURL} {
		if err := webAddress(s); err != nil {
			return fmt.Errorf("page.%s: %w", name, err)
		}
	}
	for pattern := range f.Page.Units {
		if _, err := path.Match(pattern, ""); err != nil {
			return fmt.Errorf("page.units: %q: %w", pattern, err)
		}
	}
	switch {
	case f.Links.Lifetime < time.Hour || f.Links.Lifetime > 365*24*time.Hour:
		return fmt.Errorf("links.lifetime: %s is not in 1h..8760h", f.Links.Lifetime)
	case f.Retry.Retries < 1 || f.Retry.Retries > 5:
		return fmt.Errorf("retry.retries: %d is not in 1..5", f.Retry.Retries)
	case f.Retry.Base < 10*time.Millisecond || f.Retry.Max < f.Retry.Base || f.Retry.Max > 2*time.Minute:
		return fmt.Errorf("retry: base %s and max %s are not in 10ms..2m, in this order", f.Retry.Base, f.Retry.Max)
	}
	if err := f.checkKeys(dir); err != nil {
		return fmt.Errorf("links.keys: %w", err)
	}
	seen := make(map[string]bool)
	for i := range f.Receivers {
		r := &f.Receivers[i]
		if r.Name == "" || seen[r.Name] {
			return fmt.Errorf("receivers[%d].name: missing, or there twice", i)
		}
		seen[r.Name] = true
		if err := r.check(dir); err != nil {
			return fmt.Errorf("receiver %q: %w", r.Name, err)
		}
	}
	return nil
}

func (f *File) checkKeys(dir string) error {
	f.keys = nil
	for i, k := range f.Links.Keys {
		s, err := oneOf("secret", k.Secret, relative(dir, k.SecretFile))
		if err != nil {
			return fmt.Errorf("[%d]: %w", i, err)
		}
		value, err := s.Get("secret")
		if err != nil {
			return fmt.Errorf("[%d]: %w", i, err)
		}
		f.keys = append(f.keys, verdict.Key{ID: k.ID, Secret: []byte(value)})
	}
	if len(f.keys) == 0 {
		return nil
	}
	_, err := verdict.NewKeyring(f.keys...)
	return err
}

func (r *Receiver) check(dir string) error {
	for i := range r.SMS {
		c := &r.SMS[i]
		c.AuthTokenFile = relative(dir, c.AuthTokenFile)
		token, err := oneOf("auth_token", c.AuthToken, c.AuthTokenFile)
		if err == nil {
			conf := sms.Config{AccountSID: c.AccountSID, AuthToken: token, From: c.From, MessagingService: c.MessagingService, To: c.To, Parts: c.Parts}
			err = conf.Validate()
		}
		if err == nil {
			err = webAddress(c.APIURL)
		}
		if err != nil {
			return fmt.Errorf("sms_configs[%d]: %w", i, err)
		}
	}
	for i := range r.WebPush {
		c := &r.WebPush[i]
		c.PrivateKeyFile, c.SubscriptionsFile = relative(dir, c.PrivateKeyFile), relative(dir, c.SubscriptionsFile)
		conf, err := c.config()
		if err == nil {
			if c.madeHere() {
				conf.PrivateKey = receiver.Fixed("made later")
			}
			err = conf.Validate()
		}
		if err != nil {
			return fmt.Errorf("webpush_configs[%d]: %w", i, err)
		}
	}
	for i := range r.Kafka {
		if err := r.Kafka[i].config(nil).Validate(); err != nil {
			return fmt.Errorf("kafka_configs[%d]: %w", i, err)
		}
	}
	for i := range r.Webhooks {
		c := &r.Webhooks[i]
		c.URLFile = relative(dir, c.URLFile)
		for j, name := range c.SecretFiles {
			c.SecretFiles[j] = relative(dir, name)
		}
		if _, err := c.config(); err != nil {
			return fmt.Errorf("tocsin_webhook_configs[%d]: %w", i, err)
		}
	}
	return nil
}

// Zone is what times are written in.
func (f *File) Zone() *time.Location { return f.zone }

// Names are the receivers that the file adds to.
func (f *File) Names() []string {
	out := make([]string, len(f.Receivers))
	for i := range f.Receivers {
		out[i] = f.Receivers[i].Name
	}
	return out
}

// unit finds a sensor's unit: its own name first, then the longest pattern.
func (f *File) unit(sensor string) string {
	if u, ok := f.Page.Units[sensor]; ok {
		return u
	}
	patterns := make([]string, 0, len(f.Page.Units))
	for p := range f.Page.Units {
		patterns = append(patterns, p)
	}
	sort.Slice(patterns, func(i, j int) bool {
		if len(patterns[i]) != len(patterns[j]) {
			return len(patterns[i]) > len(patterns[j])
		}
		return patterns[i] < patterns[j]
	})
	for _, p := range patterns {
		if ok, err := path.Match(p, sensor); err == nil && ok {
			return f.Page.Units[p]
		}
	}
	return ""
}

func relative(dir, name string) string {
	if name == "" || filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(dir, name)
}

func oneOf(what, value, file string) (receiver.Secret, error) {
	switch {
	case value != "" && file != "":
		return nil, fmt.Errorf("at most one of %s and %s_file", what, what)
	case value != "":
		return receiver.Fixed(value), nil
	case file != "":
		return receiver.File(file), nil
	}
	return nil, fmt.Errorf("%s or %s_file: missing", what, what)
}

// webAddress may hold {placeholders}.
func webAddress(s string) error {
	if s == "" {
		return nil
	}
	u, err := url.Parse(strings.NewReplacer("{", "", "}", "").Replace(s))
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return errors.New("not an absolute http or https URL")
	}
	return nil
}
