package modeltrainer

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/parquet-go/parquet-go"

	"github.com/tocsin-io/tocsin/pkg/objstore"
)

// lives is machines that wear until they fail.
func lives(seed uint64, machines int) string {
	r := rand.New(rand.NewPCG(seed, 1))
	var b strings.Builder
	b.WriteString("machine,hour,load,vibration,left\n")
	for m := range machines {
		life := 40 + r.IntN(40)
		for i := range life {
			load := float64(r.IntN(2))
			fmt.Fprintf(&b, "m%d,%d,%v,%.3f,%d\n", m, i, load, 5*load+3*math.Pow(float64(i)/float64(life), 2)+0.2*r.NormFloat64(), life-i-1)
		}
	}
	return b.String()
}

const life = `{"name":"life","algorithm":"gbdt","file":"lives.csv","async":%v,"parameters":{"target":"left","cap":30,"folds":3,
	"recipe":{"entity":"machine","order":"hour","context":["load"],"spans":[5,15]},"boost":{"trees":15,"leaves":7}}}`

// TestPredict: a model of remaining life learned from a file, asked by file and by rows, before and after a restart: the same to the bit.
func TestPredict(t *testing.T) {
	dir := t.TempDir()
	f := start(t, dir, nil)
	f.file("lives.csv", lives(1, 20))
	f.file("ask.csv", lives(2, 3))
	status, answer := f.do("POST", "/v1/models", fmt.Sprintf(life, false))
	if status != http.StatusCreated {
		t.Fatal(status, answer)
	}
	header := answer["header"].(map[string]any)
	quality := header["quality"].(map[string]any)
	if rmse := quality["rmse"].(float64); header["target"] != "left" || !(rmse > 0 && rmse < 8) {
		t.Fatal(header)
	}
	status, byFile := f.do("POST", "/v1/models/life/predict", `{"file":"ask.csv","last":true}`)
	if results := byFile["results"].([]any); status != http.StatusOK || len(results) != 3 {
		t.Fatal(status, byFile)
	}
	first := byFile["results"].([]any)[0].(map[string]any)
	if v := first["value"].(float64); first["entity"] != "m0" || v > 20 || first["low"].(float64) > v || first["high"].(float64) < v {
		t.Error(first)
	}
	// The same machine's rows in the request.
	var rows []string
	for _, line := range strings.Split(lives(2, 3), "\n")[1:] {
		if c := strings.Split(line, ","); c[0] == "m0" {
			rows = append(rows, fmt.Sprintf(`{"machine":%q,"hour":%s,"load":%s,"vibration":%s}`, c[0], c[1], c[2], c[3]))
		}
	}
	body := `{"last":true,"rows":[` + strings.Join(rows, ",") + `]}`
	_, byRows := f.do("POST", "/v1/models/life/predict", body)
	if got := byRows["results"].([]any)[0].(map[string]any); got["value"] != first["value"] {
		t.Errorf("by rows %v, by file %v", got, first)
	}
	f.stop()
	f = start(t, dir, nil)
	if _, after := f.do("POST", "/v1/models/life/predict", body); fmt.Sprint(after) != fmt.Sprint(byRows) {
		t.Errorf("after the restart %v, before %v", after, byRows)
	}
	for _, c := range []struct {
		path, body string
		status     int
		field      any
	}{
		{"/v1/models/life/score", `{"row":[1]}`, 400, "name"},
		{"/v1/models/life/predict", `{}`, 400, "rows"},
		{"/v1/models/life/predict", `{"rows":[{"machine":"a"}]}`, 400, "rows[0].hour"},
		{"/v1/models/life/predict", `{"rows":[{"machine":"a","hour":"x","load":1,"vibration":1}]}`, 400, "rows[0].hour"},
		{"/v1/models/life/predict", `{"file":"none.csv"}`, 400, "file"},
		{"/v1/models", `{"name":"x","algorithm":"gbdt","file":"lives.csv","parameters":{"target":"gone"}}`, 422, "file"},
		{"/v1/models", `{"name":"x","algorithm":"gbdt","file":"lives.csv","parameters":{"target":"gone","recipe":{"entity":"machine"}}}`, 422, nil},
		{"/v1/models", `{"name":"x","algorithm":"gbdt","file":"lives.csv","parameters":{"goal":"left"}}`, 400, "parameters"},
	} {
		if status, answer := f.do("POST", c.path, c.body); status != c.status || answer["field"] != c.field {
			t.Errorf("%s %.80s: %d %v", c.path, c.body, status, answer)
		}
	}
}

// await asks until a training has ended.
func (f *fixture) await(id any) map[string]any {
	f.t.Helper()
	every := time.NewTicker(5 * time.Millisecond)
	defer every.Stop()
	for deadline := time.Now().Add(5 * time.Minute); time.Now().Before(deadline); <-every.C {
		status, job := f.do("GET", fmt.Sprint("/v1/trainings/", id), "")
		if status != http.StatusOK {
			f.t.Fatal(status, job)
		}
		if job["state"] != "running" {
			return job
		}
	}
	f.t.Fatal("the training does not end")
	return nil
}

// TestTrainingInTheBackground: answered at once, its end is told, in good and in bad.
func TestTrainingInTheBackground(t *testing.T) {
	f := start(t, t.TempDir(), nil)
	f.file("lives.csv", lives(1, 20))
	status, job := f.do("POST", "/v1/models", fmt.Sprintf(life, true))
	if status != http.StatusAccepted || job["state"] != "running" {
		t.Fatal(status, job)
	}
	done := f.await(job["id"])
	if done["state"] != "done" || done["progress"] != 1.0 || !strings.HasPrefix(done["result"].(map[string]any)["model"].(string), "life@") {
		t.Error(done)
	}
	status, job = f.do("POST", "/v1/models", `{"name":"x","algorithm":"lof","file":"nowhere.csv","async":true}`)
	if status != http.StatusAccepted {
		t.Fatal(status, job)
	}
	if failed := f.await(job["id"]); failed["state"] != "failed" || !strings.Contains(failed["problem"].(string), "nowhere.csv") {
		t.Error(failed)
	}
	if _, all := f.do("GET", "/v1/trainings", ""); len(all["trainings"].([]any)) != 2 {
		t.Error(all)
	}
	if status, _ := f.do("GET", "/v1/trainings/99", ""); status != http.StatusNotFound {
		t.Error(status)
	}
}

// reading has the columns of the lake's table that are needed here.
type reading struct {
	EquipmentID string   `parquet:"equipment_id,dict"`
	TS          int64    `parquet:"ts,timestamp(microsecond),delta"`
	Sensor      string   `parquet:"sensor,dict"`
	Value       *float32 `parquet:"value,optional"`
	Validity    string   `parquet:"validity,dict"`
}

// TestTrainFromTheLake: two sensors of one machine, of which a part is kept; the unusual is found, and a season needs all of it.
func TestTrainFromTheLake(t *testing.T) {
	dir := t.TempDir()
	f := start(t, dir, nil)
	begin := time.Date(2026, 5, 4, 10, 0, 0, 0, time.UTC)
	r := rand.New(rand.NewPCG(5, 6))
	var rows []reading
	for i := range 900 {
		for s, name := range []string{"pressure", "temperature"} {
			v := float32([]float64{3 + 0.1*r.NormFloat64(), 70 + r.NormFloat64()}[s])
			rows = append(rows, reading{"pump-1", begin.Add(time.Duration(i) * time.Second).UnixMicro(), name, &v, "good"})
		}
	}
	var file bytes.Buffer
	w := parquet.NewGenericWriter[reading](&file)
	if _, err := w.Write(rows); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := objstore.OpenDir(filepath.Join(dir, "lake"))
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if err := b.PutIfAbsent(context.Background(), "tocsin/readings/date=2026-05-04/hour=10/x.parquet", file.Bytes(), nil); err != nil {
		t.Fatal(err)
	}
	const ask = `{"name":"pump","algorithm":%q,"lake":{"from":"2026-05-04T00:00:00Z","to":"2026-05-05T00:00:00Z","machines":["pump-*"],"sensors":["temperature","pressure"],"rows":%d}}`
	status, answer := f.do("POST", "/v1/models", fmt.Sprintf(ask, "isolation_forest", 500))
	if status != http.StatusCreated || answer["samples_seen"] != 900.0 || answer["samples_kept"] != 500.0 {
		t.Fatal(status, answer)
	}
	_, scored := f.do("POST", "/v1/models/pump/score", `{"rows":[{"temperature":70,"pressure":3},{"temperature":90,"pressure":9}]}`)
	if got := scored["results"].([]any); got[0].(map[string]any)["anomaly"] != false || got[1].(map[string]any)["anomaly"] != true {
		t.Error(scored)
	}
	if status, answer := f.do("POST", "/v1/models", fmt.Sprintf(ask, "seasonal", 500)); status != http.StatusUnprocessableEntity || answer["field"] != "lake" {
		t.Error(status, answer)
	}
	for _, body := range []string{
		`{"name":"x","algorithm":"lof","file":"a.csv","lake":{}}`, `{"name":"x","algorithm":"lof","lake":{"from":"2026-05-04T00:00:00Z"}}`,
	} {
		if status, answer := f.do("POST", "/v1/models", body); status != http.StatusBadRequest {
			t.Error(status, answer)
		}
	}
}
