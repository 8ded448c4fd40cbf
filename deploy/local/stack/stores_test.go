package stack_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"
	"github.com/jackc/pgx/v5"

	"github.com/tocsin-io/tocsin/deploy/local/stack"
	"github.com/tocsin-io/tocsin/deploy/local/stack/stacktest"
)

func TestStoresWorkAndSurviveKill(t *testing.T) {
	ctx := deadline(t)
	stores := []string{"victoria-metrics", "vmalert", "s3", "postgres"}
	s := stacktest.Up(t, stack.Options{Only: stores})
	t.Run("write", func(t *testing.T) {
		writeMetric(ctx, t, s)
		putObject(ctx, t, s)
		writeRow(ctx, t, s)
	})
	for _, name := range stores {
		// VictoriaMetrics and PostgreSQL keep what they acknowledged; the former only after its next flush, so no kill for it.
		if name == "victoria-metrics" {
			if err := s.Stop(ctx, name); err != nil {
				t.Fatal(err)
			}
		} else if err := s.Kill(name, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Up(ctx); err != nil {
		t.Fatal(err)
	}
	t.Run("metric", func(t *testing.T) { readMetric(ctx, t, s) })
	t.Run("object", func(t *testing.T) { readObject(ctx, t, s) })
	t.Run("row", func(t *testing.T) { readRow(ctx, t, s) })
	t.Run("rules", func(t *testing.T) { rulesAreLoaded(ctx, t, s) })
	if err := s.Down(ctx); err != nil {
		t.Fatal(err)
	}
	nothingListens(t, s, stores...)
}

func get(ctx context.Context, t *testing.T, u string) []byte {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	return do(t, req)
}

func do(t *testing.T, req *http.Request) []byte {
	t.Helper()
	cl := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := cl.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode/100 != 2 {
		t.Fatalf("%s %s: %s: %s", req.Method, req.URL, resp.Status, b)
	}
	return b
}

func writeMetric(ctx context.Context, t *testing.T, s *stack.Stack) {
	t.Helper()
	u := "http://" + s.Addr("victoria-metrics") + "/api/v1/import/prometheus"
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u, strings.NewReader("machine_score{equipment=\"pump-1\"} 0.25\n"))
	if err != nil {
		t.Fatal(err)
	}
	do(t, req)
}

// readMetric waits for it: VictoriaMetrics makes new points visible about a second after they are written.
func readMetric(ctx context.Context, t *testing.T, s *stack.Stack) {
	t.Helper()
	u := "http://" + s.Addr("victoria-metrics") + "/api/v1/query?query=" + url.QueryEscape("last_over_time(machine_score[5m])")
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		b := get(ctx, t, u)
		if bytes.Contains(b, []byte(`"0.25"`)) {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("the metric does not come back: %s", b)
		case <-tick.C:
		}
	}
}

func lake(s *stack.Stack) *s3.Client {
	env := map[string]string{}
	for _, e := range s.Env() {
		k, v, _ := strings.Cut(e, "=")
		env[k] = v
	}
	return s3.New(s3.Options{
		BaseEndpoint: aws.String(env["AWS_ENDPOINT_URL_S3"]), UsePathStyle: true, Region: env["AWS_REGION"],
		Credentials: credentials.NewStaticCredentialsProvider(env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"], ""),
		HTTPClient:  &http.Client{Transport: &http.Transport{DisableKeepAlives: true}},
	})
}

// putObject also proves what the cold path builds on: a second creation of the same object is refused.
func putObject(ctx context.Context, t *testing.T, s *stack.Stack) {
	t.Helper()
	put := func(body string) error {
		_, err := lake(s).PutObject(ctx, &s3.PutObjectInput{
			Bucket: aws.String(stack.Bucket), Key: aws.String("tocsin/readings/a.parquet"),
			Body: strings.NewReader(body), IfNoneMatch: aws.String("*"),
		})
		return err
	}
	if err := put("PAR1"); err != nil {
		t.Fatal(err)
	}
	var api smithy.APIError
	if err := put("other"); !errors.As(err, &api) || api.ErrorCode() != "PreconditionFailed" {
		t.Errorf("second creation: %v", err)
	}
}

func readObject(ctx context.Context, t *testing.T, s *stack.Stack) {
	t.Helper()
	out, err := lake(s).GetObject(ctx, &s3.GetObjectInput{Bucket: aws.String(stack.Bucket), Key: aws.String("tocsin/readings/a.parquet")})
	if err != nil {
		t.Fatal(err)
	}
	defer out.Body.Close()
	if b, err := io.ReadAll(out.Body); err != nil || string(b) != "PAR1" {
		t.Errorf("object is %q, %v", b, err)
	}
}

func sql(ctx context.Context, t *testing.T, s *stack.Stack) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(ctx, s.PostgresURL(stack.Database))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(context.WithoutCancel(ctx)); err != nil {
			t.Error(err)
		}
	})
	return conn
}

func writeRow(ctx context.Context, t *testing.T, s *stack.Stack) {
	t.Helper()
	if _, err := sql(ctx, t, s).Exec(ctx, "CREATE TABLE note AS SELECT 'bearing' AS part"); err != nil {
		t.Fatal(err)
	}
}

func readRow(ctx context.Context, t *testing.T, s *stack.Stack) {
	t.Helper()
	var part string
	if err := sql(ctx, t, s).QueryRow(ctx, "SELECT part FROM note").Scan(&part); err != nil || part != "bearing" {
		t.Errorf("row is %q, %v", part, err)
	}
}

func rulesAreLoaded(ctx context.Context, t *testing.T, s *stack.Stack) {
	t.Helper()
	var reply struct {
		Data struct{ Groups []struct{ Name string } }
	}
	b := get(ctx, t, fmt.Sprintf("http://%s/api/v1/rules", s.Addr("vmalert")))
	if err := json.Unmarshal(b, &reply); err != nil {
		t.Fatal(err)
	}
	loaded := map[string]bool{}
	for _, g := range reply.Data.Groups {
		loaded[g.Name] = true
	}
	if !loaded["services"] || !loaded["promises"] {
		t.Errorf("rules: %s", b)
	}
}
