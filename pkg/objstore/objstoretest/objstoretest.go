// Package objstoretest gives tests a real S3 server: versitygw over a folder, on loopback. It does not import objstore, so that objstore's own tests can use it.
package objstoretest

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// Server is one that runs until the test ends. Its bucket is empty; paths have the bucket's name in them.
type Server struct {
	Endpoint, Region, AccessKey, SecretKey, Bucket string
}

// Missing says what is not installed; where everything real is required it fails the test instead of skipping it.
func Missing(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("TOCSIN_REQUIRE_REAL") == "1" {
		t.Fatal("NOT TESTED: " + what)
	}
	t.Skip("NOT TESTED: " + what)
}

// Start runs a server. Without versitygw the test is skipped: see Missing.
func Start(t testing.TB) Server {
	t.Helper()
	binary := program()
	if binary == "" {
		Missing(t, "no real S3 server. Put versitygw into PATH, .stack/bin or bin/tools, or name it by TOCSIN_VERSITYGW")
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	s := Server{Endpoint: "http://" + addr, Region: "us-east-1", AccessKey: "test-access", SecretKey: "test-secret-key", Bucket: "lake"}
	cmd := exec.Command(binary, "--access", s.AccessKey, "--secret", s.SecretKey, "--port", addr, "--quiet", "posix", "--sidecar", t.TempDir(), t.TempDir()) //nolint:gosec,noctx // the program is the test machine's
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir())
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Log(out.String())
		}
	})
	s.makeBucket(t)
	return s
}

func (s Server) makeBucket(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	admin := s3.New(s3.Options{BaseEndpoint: aws.String(s.Endpoint), Region: s.Region, UsePathStyle: true, Credentials: credentials.NewStaticCredentialsProvider(s.AccessKey, s.SecretKey, "")})
	for {
		_, err := admin.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: aws.String(s.Bucket)})
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("the S3 server does not come up: %v", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// program is where versitygw is; "" when there is none.
func program() string {
	if p := os.Getenv("TOCSIN_VERSITYGW"); p != "" {
		return p
	}
	if p, err := exec.LookPath("versitygw"); err == nil {
		return p
	}
	_, self, _, _ := runtime.Caller(0)
	root := filepath.Join(filepath.Dir(self), "..", "..", "..")
	for _, dir := range []string{".stack/bin", "bin/tools"} {
		p := filepath.Join(root, filepath.FromSlash(dir), "versitygw")
		if _, err := os.Stat(p); err == nil {
			return p
		}
	}
	return ""
}
