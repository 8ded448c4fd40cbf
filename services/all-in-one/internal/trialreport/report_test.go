package trialreport_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/tocsin-io/tocsin/services/all-in-one/internal/csvfile"
	"github.com/tocsin-io/tocsin/services/all-in-one/internal/trial"
	"github.com/tocsin-io/tocsin/services/all-in-one/internal/trialreport"
	streamprocessor "github.com/tocsin-io/tocsin/services/stream-processor"
)

// result of a machine with a name that is no good HTML, whose fault one configuration finds and the other does not.
func result(t *testing.T, two bool) *trial.Result {
	t.Helper()
	r := rand.New(rand.NewPCG(7, 1))
	var b strings.Builder
	b.WriteString("time,asset,flow (l/min),heat,label\n")
	for i := range 900 {
		off, label := 0.0, "0"
		if i >= 700 && i < 800 {
			off, label = 30, "hot <b>"
		}
		fmt.Fprintf(&b, "%s,\"<script>x</script>\",%.3f,%.3f,%s\n", time.Date(2026, 3, 1, 6, 0, i, 0, time.UTC).Format(time.RFC3339), 20+r.NormFloat64(), 60+r.NormFloat64()+off, label)
	}
	path := filepath.Join(t.TempDir(), "plant.csv")
	if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	configs := []trial.Config{{Name: "current", Detection: streamprocessor.DefaultDetection()}}
	if two {
		deaf := streamprocessor.DefaultDetection()
		deaf.Detect.Detectors = []string{"limits"}
		configs = append(configs, trial.Config{Name: "proposed", Detection: deaf})
	}
	res, err := trial.Run(t.Context(), trial.Options{Inputs: []string{path}, CSV: csvfile.Options{EquipmentColumn: "asset", LabelColumn: "label"}, Configs: configs, Grace: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func written(t *testing.T, res *trial.Result) string {
	t.Helper()
	var b bytes.Buffer
	if err := trialreport.Write(&b, res, trialreport.Options{Build: "this build"}); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestReportStandsAlone(t *testing.T) {
	res := result(t, true)
	html := written(t, res)
	if written(t, res) != html {
		t.Error("the same result gives another file")
	}
	for _, bad := range []string{"http://", "https://", "<script", "javascript:", "style=\"", "src=", "@import", "url(", "onload", "NaN", "Inf", "ZgotmplZ", "<b>"} {
		if strings.Contains(strings.ReplaceAll(html, `http-equiv`, ""), bad) {
			t.Errorf("it holds %q", bad)
		}
	}
	style := regexp.MustCompile(`(?s)<style>(.*)</style>`).FindStringSubmatch(html)
	policy := regexp.MustCompile(`style-src &#39;sha256-([^&]+)&#39;|style-src 'sha256-([^']+)'`).FindStringSubmatch(html)
	if style == nil || policy == nil {
		t.Fatal("no style, or no policy")
	}
	sum := sha256.Sum256([]byte(style[1]))
	if want := base64.StdEncoding.EncodeToString(sum[:]); strings.ReplaceAll(policy[1]+policy[2], "&#43;", "+") != want {
		t.Errorf("the policy allows %s, the style is %s", policy[0], want)
	}
	for _, want := range []string{
		"what the change would do", "detect.detectors", "limits, ewma", "1 newly missed", "hot &lt;b&gt;", "&lt;script&gt;", "only current", "heat", "prefers-color-scheme", "@media print", "this build",
		`name="viewport"`, "machine-months were observed",
	} {
		if !strings.Contains(html, want) {
			t.Errorf("it does not say %q", want)
		}
	}
	// Each drawing is well-formed, named, and holds what is promised.
	drawings := regexp.MustCompile(`(?s)<svg viewBox="0 0 1000 100".*?</svg>`).FindAllString(html, -1)
	if len(drawings) != 4 { // two scores, two sensors
		t.Errorf("%d drawings", len(drawings))
	}
	for _, d := range drawings {
		dec := xml.NewDecoder(strings.NewReader(d))
		for {
			if _, err := dec.Token(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%v: %.200s", err, d)
			}
		}
		if !strings.Contains(d, `class="fault"`) || !strings.Contains(d, "aria-label=") {
			t.Errorf("a drawing without fault or name: %.200s", d)
		}
	}
	for i, want := range []string{`class="page"`, `class="learning"`, `class="flag" d="M`, `class="demand" d="M`} {
		if !strings.Contains(drawings[0], want) {
			t.Errorf("%d: the first drawing holds no %s", i, want)
		}
	}
	if strings.Contains(drawings[1], `class="page"`) {
		t.Error("the configuration that hears nothing has a page")
	}
}

func TestReportOfOneConfiguration(t *testing.T) {
	html := written(t, result(t, false))
	for _, want := range []string{"<title>Backtest</title>", "1 of 1 fault found", "Faults missed"} {
		if !strings.Contains(html, want) {
			t.Errorf("it does not say %q", want)
		}
	}
	for _, bad := range []string{"proposed", "→", "only "} {
		if strings.Contains(html, bad) {
			t.Errorf("it says %q", bad)
		}
	}
}

func TestNothingToTell(t *testing.T) {
	res := &trial.Result{Inputs: []string{"x.csv"}, Trials: []*trial.Trial{{Name: "judged"}}}
	if html := written(t, res); !strings.Contains(html, "Nothing was judged.") || !strings.Contains(html, "No page at all.") {
		t.Error("it does not say so")
	}
}

func TestDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0 s", 1500 * time.Millisecond: "1.5 s", 61 * time.Second: "61 s", 10 * time.Minute: "10 min", 150 * time.Minute: "2.5 h", 72 * time.Hour: "3 days", -5 * time.Second: "5 s before",
	} {
		if got := trialreport.Duration(d); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
}
