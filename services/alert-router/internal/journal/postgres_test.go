package journal

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"
)

// server is the PostgreSQL of all tests of this package: it takes seconds to start.
var server postgres

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		server.stop()
		os.Exit(code)
	}))
}

type postgres struct {
	mu   sync.Mutex
	cmd  *exec.Cmd
	dir  string
	port int
	n    int
}

func (p *postgres) stop() {
	if p.cmd != nil {
		_ = p.cmd.Process.Signal(syscall.SIGQUIT)
		_ = p.cmd.Wait()
	}
	if p.dir != "" {
		_ = os.RemoveAll(p.dir)
	}
}

// startPostgres gives the URL of an empty database of a real PostgreSQL on loopback. Where none is installed the test is skipped, and fails when everything real is required.
func startPostgres(t *testing.T) string {
	t.Helper()
	bins, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	if len(bins) == 0 {
		if os.Getenv("TOCSIN_REQUIRE_REAL") != "" {
			t.Fatal("PostgreSQL is not installed (apt-get install postgresql)")
		}
		t.Skip("SKIPPED: PostgreSQL is not installed (apt-get install postgresql): the journal was tried on SQLite only")
	}
	slices.Sort(bins)
	server.mu.Lock()
	defer server.mu.Unlock()
	if server.cmd == nil {
		server.start(t, bins[len(bins)-1])
	}
	server.n++
	name := fmt.Sprintf("journal_%d", server.n)
	conn, err := pgx.Connect(t.Context(), server.url("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(t.Context()) }()
	if _, err := conn.Exec(t.Context(), "CREATE DATABASE "+name); err != nil {
		t.Fatal(err)
	}
	return server.url(name)
}

func (p *postgres) url(database string) string {
	return fmt.Sprintf("postgres://tocsin@127.0.0.1:%d/%s", p.port, database)
}

func (p *postgres) start(t *testing.T, bin string) {
	t.Helper()
	var err error
	if p.dir, err = os.MkdirTemp("", "tocsin-pg-"); err != nil {
		t.Fatal(err)
	}
	var as *syscall.Credential
	if os.Geteuid() == 0 { // it refuses to run as root
		u, err := user.Lookup("postgres")
		if err != nil {
			t.Fatal(err)
		}
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		as = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		if err := os.Chown(p.dir, uid, gid); err != nil {
			t.Fatal(err)
		}
	}
	data := filepath.Join(p.dir, "data")
	initdb := exec.CommandContext(t.Context(), filepath.Join(bin, "initdb"), "-D", data, "-U", "tocsin", "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C.UTF-8")
	initdb.SysProcAttr, initdb.Dir = &syscall.SysProcAttr{Credential: as}, p.dir
	if out, err := initdb.CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v\n%s", err, out)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p.port = ln.Addr().(*net.TCPAddr).Port
	_ = ln.Close()
	logFile := filepath.Join(p.dir, "log")
	log, err := os.Create(logFile)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	p.cmd = exec.Command(filepath.Join(bin, "postgres"), "-D", data, "-h", "127.0.0.1", "-p", strconv.Itoa(p.port), "-k", p.dir, "-F", "-c", "max_connections=60", "-c", "shared_buffers=8MB")
	p.cmd.SysProcAttr, p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = &syscall.SysProcAttr{Credential: as}, p.dir, log, log
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(90 * time.Second); ; {
		conn, err := pgx.Connect(t.Context(), p.url("postgres"))
		if err == nil {
			_ = conn.Close(t.Context())
			return
		}
		if time.Now().After(end) {
			said, _ := os.ReadFile(logFile)
			t.Fatalf("PostgreSQL does not answer: %v\n%s", err, said)
		}
		select {
		case <-t.Context().Done():
			t.Fatal(t.Context().Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}
