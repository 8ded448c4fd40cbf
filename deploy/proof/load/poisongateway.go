package load

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/tocsin-io/tocsin/pkg/frame"
	"github.com/tocsin-io/tocsin/pkg/schema"
)

// refusal is one kind of frame that the gateway must refuse, and the field that it must name.
type refusal struct {
	name   string
	status int
	field  string
	body   func(fr *frame.Frame) []byte
}

func refusals(p *poisoner) []refusal {
	with := func(change func(*frame.Frame)) func(*frame.Frame) []byte {
		return func(fr *frame.Frame) []byte { change(fr); return fr.AppendTo(nil) }
	}
	return []refusal{
		{"garbage bytes", 400, "frame", func(*frame.Frame) []byte { return p.junk[:64] }},
		{"truncated protobuf", 400, "frame", func(fr *frame.Frame) []byte { b := fr.AppendTo(nil); return b[:len(b)-7] }},
		{"bad machine name", 400, "equipment_id", with(func(fr *frame.Frame) { fr.EquipmentID = []byte("../../etc") })},
		{"no sequence", 400, "sequence", with(func(fr *frame.Frame) { fr.Sequence = 0 })},
		{"unknown schema", 400, "schema_id", with(func(fr *frame.Frame) { fr.SchemaID, fr.Sensors = []byte(schema.ID(p.missing)), nil })},
		{"values do not fit", 400, "values", with(func(fr *frame.Frame) { fr.Values = fr.Values[:len(fr.Values)-1] })},
		{"infinite value", 400, "values[0]", with(func(fr *frame.Frame) { fr.Values[0] = float32(inf()) })},
		{"sensor name too long", 400, "sensors[0]", with(func(fr *frame.Frame) { fr.Sensors = append([][]byte{longName()}, fr.Sensors[1:]...) })},
		{"an hour ahead", 400, "base_time_us", with(func(fr *frame.Frame) { fr.BaseTimeUS += time.Hour.Microseconds() })},
		{"too large", 413, "", func(*frame.Frame) []byte { return p.junk[:2<<20] }},
	}
}

func inf() float64 { var zero float64; return 1 / zero }

// throughGateway sends bad frames of each kind through the gateway, one by one: each must be refused with the field named.
func (p *poisonRun) throughGateway(ctx context.Context) error {
	client := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	m := p.fleet.maker(2)
	for _, k := range refusals(p.spoil) {
		for i := range p.cfg.Gateway {
			base := m.frame(i%p.cfg.Machines, uint64(i+1), time.Now(), 1, 0)
			fr := &frame.Frame{
				EquipmentID: base.EquipmentID, GatewayID: []byte("refused-gw"), Sequence: base.Sequence, BaseTimeUS: base.BaseTimeUS,
				Sensors: base.Sensors, Values: append([]float32(nil), base.Values...),
			}
			status, answer, err := post(ctx, client, p.url("ingest-gateway", "/v1/frames"), "application/x-protobuf", k.body(fr))
			if err != nil {
				return fmt.Errorf("%s through the gateway: %w", k.name, err)
			}
			var problem struct{ Field, Detail string }
			_ = json.Unmarshal(answer, &problem) // what is no JSON has no field
			if status != k.status || problem.Field != k.field {
				if p.out.NotRefused++; p.out.NotRefused < 5 {
					p.report.brokenIf(true, "gateway, %s: status %d, field %q; want %d and %q: %.200s", k.name, status, problem.Field, k.status, k.field, answer)
				}
				continue
			}
			p.out.Refused[k.name]++
		}
	}
	return nil
}

func post(ctx context.Context, client *http.Client, url, contentType string, body []byte) (int, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Content-Type", contentType)
	res, err := client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = res.Body.Close() }()
	answer, err := io.ReadAll(io.LimitReader(res.Body, 32<<20))
	return res.StatusCode, answer, err
}

// register makes the missing schema known, through the gateway as a sender would.
func (p *poisonRun) register(ctx context.Context) error {
	body, err := json.Marshal(map[string][]string{"sensors": p.spoil.missing})
	if err != nil {
		return err
	}
	client := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	status, answer, err := post(ctx, client, p.url("ingest-gateway", "/v1/schemas"), "application/json", body)
	if err == nil && (status != http.StatusOK || !strings.Contains(string(answer), schema.ID(p.spoil.missing))) {
		err = fmt.Errorf("status %d: %.200s", status, answer)
	}
	if err != nil {
		return fmt.Errorf("register the missing schema: %w", err)
	}
	return nil
}
