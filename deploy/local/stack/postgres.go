package stack

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"sort"
	"strconv"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// Database is PostgreSQL's database and user.
const Database = "tocsin"

const installPostgres = "apt-get install -y postgresql"

func (s *Stack) postgres() *component {
	const name = "postgres"
	return &component{
		name:   name,
		groups: []string{GroupInfra},
		ports:  []string{name},
		missing: func() error {
			if _, err := postgresBin(); err != nil {
				return &MissingError{name, "PostgreSQL's server", installPostgres}
			}
			return nil
		},
		prepare: s.preparePostgres,
		healthy: func(ctx context.Context) error {
			return s.withPostgres(ctx, "postgres", func(*pgx.Conn) error { return nil })
		},
		after: s.makeDatabase,
		// "Fast" shutdown: clients are cut off rather than waited for.
		stopSignal: syscall.SIGINT,
	}
}

// postgresBin is the newest installed server's folder. Debian keeps it out of PATH.
func postgresBin() (string, error) {
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil {
		return "", err
	}
	if len(found) == 0 {
		path, err := exec.LookPath("initdb")
		return filepath.Dir(path), err
	}
	major := func(path string) float64 {
		v, _ := strconv.ParseFloat(filepath.Base(filepath.Dir(filepath.Dir(path))), 64)
		return v
	}
	sort.Slice(found, func(i, j int) bool { return major(found[i]) > major(found[j]) })
	return filepath.Dir(found[0]), nil
}

// postgresUser is whom the server runs as: PostgreSQL refuses root. nil: as we are.
func postgresUser() (*syscall.Credential, error) {
	if os.Getuid() != 0 {
		return nil, nil //nolint:nilnil // nil is os/exec's own word for "as we are"
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
		gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
		if err := errors.Join(err1, err2); err != nil {
			return nil, err
		}
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
	}
	return nil, errors.New("PostgreSQL cannot run as root, and there is no user postgres or nobody")
}

func (s *Stack) preparePostgres(ctx context.Context) (command, error) {
	bin, err := postgresBin()
	if err != nil {
		return command{}, err
	}
	cred, err := postgresUser()
	if err != nil {
		return command{}, err
	}
	home := s.dataDir("postgres")
	data := filepath.Join(home, "cluster")
	if err := os.MkdirAll(home, 0o755); err != nil {
		return command{}, err
	}
	if cred != nil {
		if err := os.Chown(home, int(cred.Uid), int(cred.Gid)); err != nil {
			return command{}, err
		}
	}
	if _, err := os.Stat(filepath.Join(data, "PG_VERSION")); errors.Is(err, os.ErrNotExist) {
		if err := s.initPostgres(ctx, bin, data, cred); err != nil {
			return command{}, err
		}
	} else if err != nil {
		return command{}, err
	}
	return command{
		path: filepath.Join(bin, "postgres"),
		cred: cred,
		args: []string{
			"-D", data,
			"-c", "listen_addresses=127.0.0.1",
			"-c", "port=" + strconv.Itoa(s.set.Ports["postgres"]),
			"-c", "unix_socket_directories=",
			"-c", "shared_buffers=32MB",
			"-c", "max_connections=100",
		},
	}, nil
}

// initPostgres makes the cluster beside its place and moves it there whole.
func (s *Stack) initPostgres(ctx context.Context, bin, data string, cred *syscall.Credential) error {
	tmp, password := data+".new", data+".password"
	if err := os.RemoveAll(tmp); err != nil {
		return err
	}
	defer os.Remove(password)
	if err := writeFile(password, []byte(s.set.PostgresPassword), 0o600); err != nil {
		return err
	}
	if cred != nil {
		if err := os.Chown(password, int(cred.Uid), int(cred.Gid)); err != nil {
			return err
		}
	}
	//nolint:gosec // a fixed command
	cmd := exec.CommandContext(ctx, filepath.Join(bin, "initdb"), "-D", tmp, "-U", Database, "--pwfile", password,
		"-A", "scram-sha-256", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync")
	cmd.Dir = filepath.Dir(data)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: cred}
	if out, err := cmd.CombinedOutput(); err != nil {
		hint := ""
		if cred != nil {
			hint = fmt.Sprintf(" (it runs as uid %d, which must be able to enter every folder above %s; choose another --dir if not)",
				cred.Uid, data)
		}
		return fmt.Errorf("initdb: %w%s\n%s", err, hint, out)
	}
	return os.Rename(tmp, data)
}

// PostgresURL is how to connect to a database; it holds the password.
func (s *Stack) PostgresURL(database string) string {
	u := url.URL{
		Scheme: "postgres", User: url.UserPassword(Database, s.set.PostgresPassword), Host: s.Addr("postgres"), Path: "/" + database,
		RawQuery: "sslmode=disable",
	}
	return u.String()
}

func (s *Stack) withPostgres(ctx context.Context, database string, f func(*pgx.Conn) error) error {
	conn, err := pgx.Connect(ctx, s.PostgresURL(database))
	if err != nil {
		return err
	}
	err = f(conn)
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	return errors.Join(err, conn.Close(end))
}

func (s *Stack) makeDatabase(ctx context.Context) error {
	return s.withPostgres(ctx, "postgres", func(conn *pgx.Conn) error {
		var there bool
		if err := conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", Database).Scan(&there); err != nil {
			return fmt.Errorf("look for database %s: %w", Database, err)
		}
		if there {
			return nil
		}
		if _, err := conn.Exec(ctx, "CREATE DATABASE "+pgx.Identifier{Database}.Sanitize()); err != nil {
			return fmt.Errorf("make database %s: %w", Database, err)
		}
		return nil
	})
}
