package ingestgateway_test

import (
	"bytes"
	"fmt"
	"math"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
	ingestv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/ingest/v1"
)

// badFrames are frames that will never be taken, each with the field to blame.
func badFrames(t *testing.T) []struct {
	name, field string
	raw         []byte
} {
	change := func(f func(*eventv1.SensorFrame)) []byte {
		m := goodFrame(999)
		f(m)
		return encode(t, m)
	}
	nan, inf := float32(math.NaN()), float32(math.Inf(-1))
	return []struct {
		name, field string
		raw         []byte
	}{
		{"nothing", "equipment_id", nil},
		{"not protobuf", "frame", []byte("\xff\xff\xff hello")},
		{"cut in the middle", "frame", encode(t, goodFrame(999))[:20]},
		{"invalid UTF-8", "frame", append(encode(t, goodFrame(999)), 0x0a, 1, 0xff)},
		{"a path as equipment", "equipment_id", change(func(f *eventv1.SensorFrame) { f.EquipmentId = "../../etc/passwd" })},
		{"HTML as gateway", "gateway_id", change(func(f *eventv1.SensorFrame) { f.GatewayId = "<script>" })},
		{"an id of 10,000 characters", "equipment_id", change(func(f *eventv1.SensorFrame) { f.EquipmentId = strings.Repeat("x", 10_000) })},
		{"sequence 0", "sequence", change(func(f *eventv1.SensorFrame) { f.Sequence = 0 })},
		{"tomorrow", "base_time_us", change(func(f *eventv1.SensorFrame) { f.BaseTimeUs += 86_400e6 })},
		{"the end of time", "base_time_us", change(func(f *eventv1.SensorFrame) { f.BaseTimeUs = math.MaxInt64 })},
		{"an offset that overflows", "time_offsets_us[0]", change(func(f *eventv1.SensorFrame) { f.TimeOffsetsUs = []uint64{math.MaxUint64} })},
		{"time runs backwards", "time_offsets_us[1]", change(func(f *eventv1.SensorFrame) { f.TimeOffsetsUs = []uint64{5, 4} })},
		{"a formula as sensor", "sensors[0]", change(func(f *eventv1.SensorFrame) { f.Sensors[0] = "=cmd|x" })},
		{"two sensors alike", "sensors[1]", change(func(f *eventv1.SensorFrame) { f.Sensors[1] = "temp" })},
		{"a value too few", "values", change(func(f *eventv1.SensorFrame) { f.Values = f.Values[:1] })},
		{"infinite", "values[1]", change(func(f *eventv1.SensorFrame) { f.Values[1] = inf })},
		{"NaN called good", "values[1]", change(func(f *eventv1.SensorFrame) {
			f.Values[1] = nan
			f.Qualities = []eventv1.Quality{eventv1.Quality_QUALITY_GOOD, eventv1.Quality_QUALITY_GOOD}
		})},
		{"an unknown quality", "qualities[0]", change(func(f *eventv1.SensorFrame) { f.Qualities = []eventv1.Quality{300, 1} })},
		{"30,001 values", "values", change(func(f *eventv1.SensorFrame) { f.Values = make([]float32, 30_001) })},
		{"a schema nobody registered", "schema_id", change(func(f *eventv1.SensorFrame) {
			f.Sensors, f.SchemaId = nil, "sha256-0123456789abcdef0123456789abcdef"
		})},
		{"sensors and schema", "schema_id", change(func(f *eventv1.SensorFrame) { f.SchemaId = "x" })},
		{"a million empty sensor names", "sensors", bytes.Repeat([]byte{0x32, 0}, 400_000)},
	}
}

func TestBadFramesAreRefusedByNameAlone(t *testing.T) {
	g := start(t, nil)
	for _, c := range badFrames(t) {
		t.Run(c.name, func(t *testing.T) {
			a := g.post("/v1/frames", protobufType, c.raw)
			if a.status != http.StatusBadRequest {
				t.Fatalf("status %d: %s", a.status, a.body)
			}
			if p := a.problem(t); p.Field != c.field || p.Reason == "" {
				t.Fatalf("blames %q (%s), want %q", p.Field, p.Detail, c.field)
			}
		})
	}
}

// Every bad frame between two good ones: the good ones arrive, byte for byte as they were sent, the bad ones are named in their place.
func TestGoodFramesBesideBadOnesArrive(t *testing.T) {
	bad := badFrames(t)
	var frames [][]byte
	var fields []string
	sent := map[uint64][]byte{}
	add := func() {
		seq := uint64(len(sent) + 1)
		raw := append(encode(t, goodFrame(seq)), 0x98, 0x06, 7) // an unknown field of a newer version stays
		sent[seq] = raw
		frames, fields = append(frames, raw), append(fields, "")
	}
	add()
	for _, c := range bad {
		frames, fields = append(frames, c.raw), append(fields, c.field)
		add()
	}
	check := func(t *testing.T, g *gateway, got []*ingestv1.FrameResult) {
		t.Helper()
		if len(got) != len(frames) {
			t.Fatalf("%d results for %d frames", len(got), len(frames))
		}
		for i, r := range got {
			want := ingestv1.FrameStatus_FRAME_STATUS_INVALID
			if fields[i] == "" {
				want = ingestv1.FrameStatus_FRAME_STATUS_ACKNOWLEDGED
			}
			if r.Status != want || r.Field != fields[i] {
				t.Errorf("frame %d: %v, want %v of %q", i, r, want, fields[i])
			}
		}
		for seq, r := range g.arrived(len(sent)) {
			if !bytes.Equal(r.Value, sent[seq]) {
				t.Errorf("sequence %d is not what was sent", seq)
			}
		}
	}

	t.Run("HTTP bulk", func(t *testing.T) {
		g := start(t, nil)
		a := g.post("/v1/frames", delimitedType, delimited(frames...), "Accept", protobufType)
		var resp ingestv1.PublishResponse
		if err := proto.Unmarshal(a.body, &resp); a.status != 200 || err != nil {
			t.Fatalf("%d %v %s", a.status, err, a.body)
		}
		check(t, g, resp.Results)
	})
	t.Run("gRPC unary", func(t *testing.T) {
		g := start(t, nil)
		var req []byte
		for _, f := range frames {
			req = append(append(req, 0x0a), delimited(f)...)
		}
		var resp ingestv1.PublishResponse
		if err := g.conn.Invoke(within(t, 20*time.Second), ingestv1.IngestService_Publish_FullMethodName, rawBytes(req), &resp, forceRaw); err != nil {
			t.Fatal(err)
		}
		check(t, g, resp.Results)
	})
	t.Run("gRPC stream", func(t *testing.T) {
		g := start(t, nil)
		stream, err := g.conn.NewStream(within(t, 20*time.Second), &ingestv1.IngestService_ServiceDesc.Streams[0],
			ingestv1.IngestService_PublishStream_FullMethodName, forceRaw)
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			for _, f := range frames {
				if stream.SendMsg(rawBytes(append([]byte{0x0a}, delimited(f)...))) != nil {
					return
				}
			}
			_ = stream.CloseSend()
		}()
		var got []*ingestv1.FrameResult
		for range frames {
			var resp ingestv1.PublishStreamResponse
			if err := stream.RecvMsg(&resp); err != nil {
				t.Fatal(err)
			}
			got = append(got, resp.Result)
		}
		check(t, g, got)
	})
}

func TestBadJSONIsRefusedByName(t *testing.T) {
	g := start(t, nil)
	now := time.Now().UnixMicro()
	row := func(s string) string {
		return fmt.Sprintf(`{"equipment_id":"press-1","gateway_id":"gw-1","sequence":1,"time_us":%d,%s}`, now, s)
	}
	frame := func(s string) string {
		return fmt.Sprintf(`{"equipmentId":"press-1","gatewayId":"gw-1","sequence":"1","baseTimeUs":"%d","sensors":["a","b"],%s}`, now, s)
	}
	for _, c := range []struct{ name, body, field string }{
		{"an unknown field", row(`"values":{"a":1},"colour":"red"`), `"colour"`},
		{"a field of another type", row(`"values":{"a":"hot"}`), `values["a"]`},
		{"a boolean", row(`"values":{"a":true}`), `values["a"]`},
		{"NaN as JavaScript writes it", frame(`"values":[1,NaN]`), "values[1]"},
		{"NaN as a string", frame(`"values":[1,"NaN"]`), "values[1]"},
		{"Infinity", frame(`"values":[Infinity,1]`), "values[0]"},
		{"a number too large", row(`"values":{"a":1e400}`), `values["a"]`},
		{"a number of 100,000 digits", row(`"values":{"a":` + strings.Repeat("9", 100_000) + `}`), `values["a"]`},
		{"a nested object", row(`"values":{"a":{"b":1}}`), `values["a"]`},
		{"a nested list", frame(`"values":[[1,2]]`), "values[0]"},
		{"nested 100,000 deep", frame(`"values":` + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000)), "values[0]"},
		{"a negative sequence", strings.Replace(row(`"values":{"a":1}`), `"sequence":1`, `"sequence":-1`, 1), "sequence"},
		{"a fraction as sequence", strings.Replace(row(`"values":{"a":1}`), `"sequence":1`, `"sequence":1.5`, 1), "sequence"},
		{"a number as equipment", strings.Replace(row(`"values":{"a":1}`), `"press-1"`, `7`, 1), "equipment_id"},
		{"no time", `{"equipment_id":"press-1","gateway_id":"gw-1","sequence":1,"values":{"a":1}}`, "time_us"},
		{"a field twice", row(`"values":{"a":1},"sequence":2`), "sequence"},
		{"a sensor twice", row(`"values":{"a":1,"a":2}`), `values["a"]`},
		{"a sensor name with a quote", row(`"values":{"a\"":1}`), `values["a\""]`},
		{"no values", row(`"values":{}`), "values"},
		{"row and frame mixed", row(`"values":{"a":1},"sensors":["a"]`), "sensors"},
		{"an unknown quality", frame(`"values":[1,2],"qualities":["FINE","QUALITY_BAD"]`), "qualities[0]"},
		{"a list where an object belongs", `[[1]]`, "frame"},
		{"not JSON", `hello`, "frame"},
		{"cut", row(`"values":{"a":1`)[:60], "frame"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := g.post("/v1/frames", jsonType, []byte(c.body))
			field := ""
			if strings.HasPrefix(c.body, "[") {
				field = a.results(t)[0].Field
			} else {
				if a.status != http.StatusBadRequest {
					t.Fatalf("status %d: %s", a.status, a.body)
				}
				field = a.problem(t).Field
			}
			if field != c.field {
				t.Fatalf("blames %q, want %q: %s", field, c.field, a.body)
			}
			if len(a.body) > 1000 {
				t.Fatalf("an answer of %d bytes", len(a.body))
			}
			// The same between two good ones, as lines and as an array.
			if strings.Contains(c.body, "\n") {
				return
			}
			good := row(`"values":{"a":1}`)
			for _, body := range []struct{ contentType, text string }{
				{ndjsonType, good + "\n" + c.body + "\n\n" + good},
				{jsonType, "[" + good + " , " + c.body + "\n," + good + "]"},
			} {
				if c.name == "cut" && body.contentType == jsonType {
					continue // the array does not end where it seems to
				}
				rs := g.post("/v1/frames", body.contentType, []byte(body.text)).results(t)
				if len(rs) != 3 || rs[0].Status != "FRAME_STATUS_ACKNOWLEDGED" || rs[1].Status != "FRAME_STATUS_INVALID" || rs[2].Status != "FRAME_STATUS_ACKNOWLEDGED" {
					t.Fatalf("%s: %+v", body.contentType, rs)
				}
			}
		})
	}
}

func TestGoodJSON(t *testing.T) {
	g := start(t, nil)
	now := time.Now().UnixMicro()
	for i, body := range []string{
		fmt.Sprintf(`{"equipment_id":"press-1","gateway_id":"gw-1","sequence":1,"time_us":%d,"values":{"temp (%%)":1.5,"b":null}}`, now),
		fmt.Sprintf(` [{"equipmentId":"press-1","gatewayId":"gw-1","sequence":"2","baseTimeUs":"%d","sensors":["a","b"],"values":[1,2e3],"qualities":["QUALITY_GOOD",2]}] `, now),
		fmt.Sprintf(`{"equipment_id":"press-1","gateway_id":"gw-1","sequence":3,"base_time_us":%d,"time_offsets_us":[0,"5"],"sensors":["a"],"values":[1,"NaN"],"qualities":[1,"QUALITY_MISSING"],"schema_id":null}`, now),
	} {
		if a := g.post("/v1/frames", jsonType, []byte(body)); a.results(t)[0].Status != "FRAME_STATUS_ACKNOWLEDGED" {
			t.Fatalf("%d: %s", i, a.body)
		}
	}
	rs := g.arrived(3)
	var f eventv1.SensorFrame
	if err := proto.Unmarshal(rs[1].Value, &f); err != nil {
		t.Fatal(err)
	}
	if f.BaseTimeUs != now || fmt.Sprint(f.Sensors) != "[b temp (%)]" || !math.IsNaN(float64(f.Values[0])) || f.Values[1] != 1.5 {
		t.Fatalf("%v", &f)
	}
	if err := proto.Unmarshal(rs[3].Value, &f); err != nil || len(f.TimeOffsetsUs) != 2 || f.Qualities[1] != eventv1.Quality_QUALITY_MISSING {
		t.Fatalf("%v %v", err, &f)
	}
}
