package modeltrainer

import (
	"errors"
	"fmt"

	"github.com/tocsin-io/tocsin/pkg/auth"
	"github.com/tocsin-io/tocsin/pkg/httpserver"
	"github.com/tocsin-io/tocsin/pkg/objstore"
	"github.com/tocsin-io/tocsin/services/model-trainer/internal/access"
)

// Config of the model-trainer.
type Config struct {
	HTTP          httpserver.Config `mapstructure:"http" doc:"Training, scoring, health, metrics."`
	Auth          Auth              `mapstructure:"auth" doc:"Who may ask."`
	Models        objstore.Config   `mapstructure:"models" doc:"Where the models are kept."`
	Lake          objstore.Config   `mapstructure:"lake" doc:"The lake of the cold-path-writer, to train from its readings; an empty url: none. It is only read."`
	MachineURL    string            `mapstructure:"machine_url" doc:"URL of a machine's page, for links in comparisons; {equipment_id} is replaced. Empty: no links."`
	DataDir       string            `mapstructure:"data_dir" doc:"Folder with the files to train from; requests name files below it."`
	Trainings     int               `mapstructure:"trainings" doc:"Most trainings at once; further requests are told to come back."`
	MaxTrainRows  int               `mapstructure:"max_train_rows" doc:"Most rows of a file to train from."`
	MaxTrainCells int               `mapstructure:"max_train_values" doc:"Most values of a file to train from: four bytes each."`
	MaxRows       int               `mapstructure:"max_rows" doc:"Most rows of a request to score."`
	MaxBodyBytes  int64             `mapstructure:"max_body_bytes" doc:"Most bytes of a request."`
	MaxModelBytes int64             `mapstructure:"max_model_bytes" doc:"Most bytes of a model's file."`
	CacheBytes    int64             `mapstructure:"cache_bytes" doc:"Bytes of models kept in memory; the longest unused go first."`
}

// Auth says who may ask.
type Auth struct {
	AllowAnonymous bool            `mapstructure:"allow_anonymous" doc:"Let anybody who reaches the listener train and score. Without it that is only so when no clients are listed and the listener is on loopback."`
	Clients        []access.Client `mapstructure:"clients" doc:"Who may ask, each with a token and rights."`
}

// anonymous tells whether requests without a token are answered.
func (a Auth) anonymous() bool { return a.AllowAnonymous || len(a.Clients) == 0 }

func (a Auth) validate(listen string) error {
	for i, c := range a.Clients {
		if err := c.Validate(); err != nil {
			return fmt.Errorf("clients[%d].%w", i, err)
		}
	}
	if a.anonymous() && !a.AllowAnonymous && !auth.Loopback(listen) {
		return fmt.Errorf("clients: empty, so anybody who reaches http.listen (%s) could train; list the clients, listen on loopback, or set auth.allow_anonymous", listen)
	}
	_, err := access.New(a.Clients, a.anonymous())
	return err
}

// DefaultConfig listens on loopback for anybody there, and keeps models and data in folders of the working directory.
func DefaultConfig() Config {
	return Config{
		HTTP: httpserver.DefaultConfig("127.0.0.1:8087"), Models: objstore.DefaultConfig("./.tocsin/models"), Lake: objstore.DefaultConfig("./.tocsin/lake"), DataDir: "./.tocsin/train", MachineURL: "http://127.0.0.1:8080/#/machine/{equipment_id}",
		Trainings: 1, MaxTrainRows: 5_000_000, MaxTrainCells: 100_000_000,
		MaxRows: 10_000, MaxBodyBytes: 16 << 20, MaxModelBytes: 256 << 20, CacheBytes: 512 << 20,
	}
}

// Validate names the first field that is wrong.
func (c Config) Validate() error {
	if err := c.HTTP.Validate(); err != nil {
		return fmt.Errorf("http.%w", err)
	}
	if err := c.Auth.validate(c.HTTP.Listen); err != nil {
		return fmt.Errorf("auth.%w", err)
	}
	if err := c.Models.Validate(); err != nil {
		return fmt.Errorf("models.%w", err)
	}
	if c.Lake.URL != "" {
		if err := c.Lake.Validate(); err != nil {
			return fmt.Errorf("lake.%w", err)
		}
	}
	switch {
	case c.DataDir == "":
		return errors.New("data_dir: must not be empty")
	case c.Trainings < 1 || c.Trainings > 64:
		return fmt.Errorf("trainings: %d is not in 1..64", c.Trainings)
	case c.MaxTrainRows < 2:
		return fmt.Errorf("max_train_rows: %d is less than 2", c.MaxTrainRows)
	case c.MaxTrainCells < 2:
		return fmt.Errorf("max_train_values: %d is less than 2", c.MaxTrainCells)
	case c.MaxRows < 1:
		return fmt.Errorf("max_rows: %d is less than 1", c.MaxRows)
	case c.MaxBodyBytes < 1<<10:
		return fmt.Errorf("max_body_bytes: %d is less than 1024", c.MaxBodyBytes)
	case c.MaxModelBytes < 1<<10:
		return fmt.Errorf("max_model_bytes: %d is less than 1024", c.MaxModelBytes)
	case c.CacheBytes < c.MaxModelBytes:
		return fmt.Errorf("cache_bytes: %d is less than max_model_bytes (%d)", c.CacheBytes, c.MaxModelBytes)
	}
	return nil
}
