package historicalapi

import (
	"errors"
	"fmt"
	"time"

	"github.com/tocsin-io/tocsin/pkg/auth"
	"github.com/tocsin-io/tocsin/pkg/frame"
	"github.com/tocsin-io/tocsin/pkg/httpserver"
	"github.com/tocsin-io/tocsin/pkg/objstore"
	"github.com/tocsin-io/tocsin/services/historical-api/internal/api"
)

// Config is the section historical_api.
type Config struct {
	HTTP    httpserver.Config `mapstructure:"http" doc:"HTTP: SQL, ready-made questions, health, metrics."`
	Auth    Auth              `mapstructure:"auth" doc:"Who may ask, and about which machines."`
	Lake    objstore.Config   `mapstructure:"lake" doc:"The lake of the cold-path-writer. It is only read."`
	DataDir string            `mapstructure:"data_dir" doc:"Folder of its own: copies of a distant lake's files, and what checks have found."`
	Queries Queries           `mapstructure:"queries" doc:"What queries may take."`
	Checks  Checks            `mapstructure:"checks" doc:"What is checked on a schedule. See docs/CHECKS.md."`
	Refresh time.Duration     `mapstructure:"refresh" doc:"How long a list of the lake's files is good for; rows are seen at most so long after they were stored."`
}

// Queries bounds queries.
type Queries struct {
	Worker        string        `mapstructure:"worker" doc:"The program sql-worker, which holds the SQL engine. Empty: beside this program, else on PATH."`
	Concurrent    int           `mapstructure:"concurrent" doc:"Queries at once, each in a process of its own."`
	Wait          time.Duration `mapstructure:"wait" doc:"How long a further query waits before it is told to come back."`
	Timeout       time.Duration `mapstructure:"timeout" doc:"The longest that a query may take."`
	Threads       int           `mapstructure:"threads" doc:"Threads of a query."`
	MemoryBytes   int64         `mapstructure:"memory_bytes" doc:"Memory of a query. The kernel lets its process have 512 MiB more and then no byte."`
	MaxRows       int           `mapstructure:"max_rows" doc:"Rows of an answer; beyond it the answer is truncated and says so."`
	MaxBytes      int64         `mapstructure:"max_bytes" doc:"Bytes of an answer; beyond it the query is refused. Held in memory until it is sent."`
	MaxQueryBytes int64         `mapstructure:"max_query_bytes" doc:"Bytes of a request."`
	CacheBytes    int64         `mapstructure:"cache_bytes" doc:"Bytes of answers kept for whoever asks the same of the same files again. 0: none."`
	CopyBytes     int64         `mapstructure:"copy_bytes" doc:"Bytes of a distant lake's files kept under data_dir. A query that reads more is refused."`
}

// Auth says who may ask.
type Auth struct {
	AllowAnonymous bool     `mapstructure:"allow_anonymous" doc:"Let anybody who reaches the listener ask about every machine. Without it that is only so when nobody is listed and the listener is on loopback."`
	People         []Person `mapstructure:"people" doc:"Who may ask, each with a token and machines."`
}

// Person is one who may ask.
type Person struct {
	Name      string   `mapstructure:"name" doc:"Who it is, for lists and the log."`
	Token     string   `mapstructure:"token" doc:"The bearer token, at least 16 characters. Take it from the environment: ${NAME}." secret:"true"`
	Equipment []string `mapstructure:"equipment" doc:"The machines: exact equipment ids, a prefix followed by *, or * for all. Rows of others do not exist for this person."`
}

// DefaultConfig serves on loopback, of a lake in the working directory.
func DefaultConfig() Config {
	return Config{
		HTTP: httpserver.DefaultConfig("127.0.0.1:8086"), Lake: objstore.DefaultConfig("./.tocsin/lake"), DataDir: "./.tocsin/history", Refresh: 5 * time.Second,
		Queries: Queries{
			Concurrent: 2, Wait: 10 * time.Second, Timeout: time.Minute, Threads: 2, MemoryBytes: 1 << 30, MaxRows: 100_000, MaxBytes: 64 << 20,
			MaxQueryBytes: 256 << 10, CacheBytes: 64 << 20, CopyBytes: 10 << 30,
		},
		Checks: defaultChecks(),
	}
}

// Validate names the first field that is wrong.
func (c Config) Validate() error {
	if err := c.HTTP.Validate(); err != nil {
		return fmt.Errorf("http.%w", err)
	}
	if err := c.Lake.Validate(); err != nil {
		return fmt.Errorf("lake.%w", err)
	}
	if err := c.Auth.validate(c.HTTP.Listen); err != nil {
		return fmt.Errorf("auth.%w", err)
	}
	if err := c.Queries.Validate(); err != nil {
		return fmt.Errorf("queries.%w", err)
	}
	if err := c.Checks.Validate(); err != nil {
		return fmt.Errorf("checks.%w", err)
	}
	switch {
	case c.DataDir == "":
		return errors.New("data_dir: must not be empty")
	case c.Refresh < 0 || c.Refresh > 10*time.Minute:
		return fmt.Errorf("refresh: %s is not in 0..10m", c.Refresh)
	}
	return nil
}

// Validate names the first field that is wrong.
func (q Queries) Validate() error {
	switch {
	case q.Concurrent < 1 || q.Concurrent > 256:
		return fmt.Errorf("concurrent: %d is not in 1..256", q.Concurrent)
	case q.Wait < 0:
		return errors.New("wait: must not be negative")
	case q.Timeout < time.Second || q.Timeout > time.Hour:
		return fmt.Errorf("timeout: %s is not in 1s..1h", q.Timeout)
	case q.Threads < 1 || q.Threads > 256:
		return fmt.Errorf("threads: %d is not in 1..256", q.Threads)
	case q.MemoryBytes < 32<<20:
		return fmt.Errorf("memory_bytes: %d is less than 32 MiB", q.MemoryBytes)
	case q.MaxRows < 1 || q.MaxRows > 1<<30:
		return fmt.Errorf("max_rows: %d is not in 1..%d", q.MaxRows, 1<<30)
	case q.MaxBytes < 1<<10 || q.MaxBytes > 1<<32:
		return fmt.Errorf("max_bytes: %d is not in 1 KiB..4 GiB", q.MaxBytes)
	case q.MaxQueryBytes < 1<<10 || q.MaxQueryBytes > 64<<20:
		return fmt.Errorf("max_query_bytes: %d is not in 1 KiB..64 MiB", q.MaxQueryBytes)
	case q.CacheBytes < 0:
		return errors.New("cache_bytes: must not be negative")
	case q.CopyBytes < 1<<20:
		return fmt.Errorf("copy_bytes: %d is less than 1 MiB", q.CopyBytes)
	}
	return nil
}

func (a Auth) anonymous(listen string) bool {
	return a.AllowAnonymous || len(a.People) == 0 && auth.Loopback(listen)
}

func (a Auth) validate(listen string) error {
	if len(a.People) == 0 && !a.anonymous(listen) {
		return fmt.Errorf("people: empty, so anybody who reaches http.listen (%s) could read the lake; list people, listen on loopback, or set auth.allow_anonymous", listen)
	}
	_, err := a.tokens(listen)
	return err
}

func (a Auth) tokens(listen string) (*auth.Tokens[api.Identity], error) {
	tokens := auth.NewTokens[api.Identity]()
	for i, p := range a.People {
		if err := frame.CheckID("name", []byte(p.Name)); err != nil {
			return nil, fmt.Errorf("people[%d].%w", i, err)
		}
		if err := auth.CheckToken(p.Token); err != nil {
			return nil, fmt.Errorf("people[%d].token: %w", i, err)
		}
		if err := auth.CheckEquipment(p.Equipment); err != nil {
			return nil, fmt.Errorf("people[%d].equipment%w", i, err)
		}
		if err := tokens.Add(p.Token, api.Identity{Name: p.Name, See: auth.NewEquipment(p.Equipment)}); err != nil {
			return nil, fmt.Errorf("people[%d].token: %w", i, err)
		}
	}
	if a.anonymous(listen) {
		tokens.AllowAnonymous(api.Identity{See: auth.Every()})
	}
	return tokens, nil
}
