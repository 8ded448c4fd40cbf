package coldpathwriter

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/tocsin-io/tocsin/pkg/kafka/kafkatest"
	"github.com/tocsin-io/tocsin/pkg/objstore"
)

// realS3 runs a versitygw with one bucket; it skips loudly when there is none.
func realS3(t *testing.T) objstore.Config {
	t.Helper()
	binary := os.Getenv("TOCSIN_VERSITYGW")
	if binary == "" {
		for _, try := range []string{"versitygw", filepath.FromSlash("../../.stack/bin/versitygw"), filepath.FromSlash("../../bin/tools/versitygw")} {
			if p, err := exec.LookPath(try); err == nil {
				binary = p
				break
			}
		}
	}
	if binary == "" {
		const missing = "NOT TESTED: no real S3 server. Put versitygw into PATH, .stack/bin or bin/tools, or name it by TOCSIN_VERSITYGW"
		if os.Getenv("TOCSIN_REQUIRE_REAL") == "1" {
			t.Fatal(missing)
		}
		t.Skip(missing)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary, "--access", "test-access", "--secret", "test-secret-key", "--port", addr, "--quiet", "posix", "--sidecar", t.TempDir(), t.TempDir())
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	admin := s3.New(s3.Options{BaseEndpoint: aws.String("http://" + addr), Region: "us-east-1", UsePathStyle: true, Credentials: credentials.NewStaticCredentialsProvider("test-access", "test-secret-key", "")})
	eventually(t, "the S3 server", func() bool {
		_, err := admin.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: aws.String("lake")})
		return err == nil
	})
	return objstore.Config{URL: "s3://lake/plant", Endpoint: "http://" + addr, Region: "us-east-1", AccessKey: "test-access", SecretKey: "test-secret-key", PathStyle: true, Timeout: 10 * time.Second}
}

func TestRealS3(t *testing.T) {
	cfg := testConfig(t.TempDir())
	cfg.Lake = realS3(t)
	k := kafkatest.Start(t, 2)
	src := newSource(t, k)
	b, err := objstore.Open(t.Context(), cfg.Lake)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = b.Close() }()
	// Answers get lost: each file is put, and found to be there.
	lossy := &faulty{Bucket: b, before: func(string) error { return nil }, after: func(string) error { return errDown }}
	src.readings(0, 40)
	src.readings(1, 40)
	w := start(t, cfg, k, lossy)
	var r AuditReport
	eventually(t, "20 files", func() bool {
		r, err = Audit(t.Context(), b, AuditOptions{Tables: []string{"readings"}})
		return err == nil && r.Tables[0].Files == 20
	})
	if !r.OK() || r.Tables[0].Rows != 800 {
		t.Errorf("%+v", r)
	}
	eventually(t, "20 files found", func() bool { return counter(w, `tocsin_lake_files_found_total{table="readings"}`) == 20 })
	w.stop(t)
}
