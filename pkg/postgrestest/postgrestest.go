// Package postgrestest gives tests a real PostgreSQL on loopback.
package postgrestest

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// Server runs until the test that started it ends.
type Server struct {
	bin  string
	port int
	n    int
}

// Start runs a server. Where none is installed the test is skipped, and fails with TOCSIN_REQUIRE_REAL=1.
func Start(t testing.TB) *Server {
	t.Helper()
	bins, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	if len(bins) == 0 {
		const missing = "NOT TESTED: PostgreSQL is not installed (apt-get install postgresql)"
		if os.Getenv("TOCSIN_REQUIRE_REAL") == "1" {
			t.Fatal(missing)
		}
		t.Skip(missing)
	}
	s := &Server{bin: slices.Max(bins)}
	dir, err := os.MkdirTemp("", "tocsin-pg-") // a path that is short enough for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	as := &syscall.SysProcAttr{}
	if os.Geteuid() == 0 { // it refuses to run as root
		as.Credential = unprivileged(t, dir)
	}
	data := filepath.Join(dir, "data")
	initdb := exec.CommandContext(t.Context(), filepath.Join(s.bin, "initdb"), "-D", data, "-U", "tocsin", "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C.UTF-8") //nolint:gosec // the machine's own
	initdb.SysProcAttr, initdb.Dir = as, dir
	if out, err := initdb.CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v\n%s", err, out)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.port = ln.Addr().(*net.TCPAddr).Port
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	server := exec.Command(filepath.Join(s.bin, "postgres"), "-D", data, "-h", "127.0.0.1", "-p", strconv.Itoa(s.port), "-k", dir, "-F", "-c", "shared_buffers=8MB") //nolint:gosec,noctx // as above
	server.SysProcAttr, server.Dir = as, dir
	says := filepath.Join(dir, "log")
	logFile, err := os.Create(says)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = logFile.Close() }() // the server has its own
	server.Stdout, server.Stderr = logFile, logFile
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = server.Process.Signal(syscall.SIGQUIT)
		_ = server.Wait()
	})
	for end := time.Now().Add(2 * time.Minute); s.run("pg_isready") != nil; {
		if time.Now().After(end) {
			said, _ := os.ReadFile(says)
			t.Fatalf("PostgreSQL does not answer\n%s", said)
		}
		<-time.After(50 * time.Millisecond)
	}
	return s
}

func unprivileged(t testing.TB, dir string) *syscall.Credential {
	t.Helper()
	u, err := user.Lookup("postgres")
	if err != nil {
		t.Fatal(err)
	}
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	if err := os.Chown(dir, uid, gid); err != nil {
		t.Fatal(err)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}

func (s *Server) run(program string, args ...string) error {
	args = append([]string{"-h", "127.0.0.1", "-p", strconv.Itoa(s.port), "-U", "tocsin"}, args...)
	return exec.Command(filepath.Join(s.bin, program), args...).Run() //nolint:gosec,noctx // as above
}

// Database makes an empty one and gives its URL.
func (s *Server) Database(t testing.TB) string {
	t.Helper()
	s.n++
	name := fmt.Sprintf("test_%d", s.n)
	if err := s.run("createdb", name); err != nil {
		t.Fatalf("createdb: %v", err)
	}
	return fmt.Sprintf("postgres://tocsin@127.0.0.1:%d/%s", s.port, name)
}
