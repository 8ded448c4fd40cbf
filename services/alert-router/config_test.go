package alertrouter

import (
	"strings"
	"testing"
	"time"
)

func TestValidate(t *testing.T) {
	if err := DefaultConfig().Validate(); err != nil {
		t.Fatal(err)
	}
	for field, spoil := range map[string]func(*Config){
		"http.listen":         func(c *Config) { c.HTTP.Listen = "x" },
		"group_id":            func(c *Config) { c.GroupID = "a b" },
		"instance_id":         func(c *Config) { c.InstanceID = "" },
		"data_dir":            func(c *Config) { c.DataDir = "" },
		"retention":           func(c *Config) { c.Retention = 0 },
		"session_timeout":     func(c *Config) { c.SessionTimeout = time.Hour },
		"transaction_timeout": func(c *Config) { c.TransactionTimeout = 0 },
		"max_poll_records":    func(c *Config) { c.MaxPollRecords = 0 },
		"external_url":        func(c *Config) { c.ExternalURL = "ftp://x" },
		"machine_url":         func(c *Config) { c.MachineURL = "javascript:alert(1)" },
	} {
		c := DefaultConfig()
		spoil(&c)
		if err := c.Validate(); err == nil || !strings.HasPrefix(err.Error(), field) {
			t.Errorf("%s: %v", field, err)
		}
	}
}
