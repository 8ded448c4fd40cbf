package lakeproof

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/parquet-go/parquet-go"

	"github.com/tocsin-io/tocsin/pkg/lake"
)

// newer is a reading of a later release, which knows a column more: docs/LAKE.md, "How a table may change".
type newer struct {
	EquipmentID   string   `parquet:"equipment_id,dict"`
	TS            int64    `parquet:"ts,timestamp(microsecond),delta"`
	Sensor        string   `parquet:"sensor,dict"`
	Value         *float32 `parquet:"value,optional,split"`
	Quality       string   `parquet:"quality,dict"`
	Validity      string   `parquet:"validity,dict"`
	Disposition   string   `parquet:"disposition,dict"`
	Late          bool     `parquet:"late"`
	GatewayID     string   `parquet:"gateway_id,dict"`
	Sequence      int64    `parquet:"sequence,delta"`
	Sample        int32    `parquet:"sample,delta"`
	LogAppendTime int64    `parquet:"log_append_time,timestamp(microsecond),delta"`
	Partition     int32    `parquet:"partition,dict"`
	Offset        int64    `parquet:"offset,delta"`
	Unit          *string  `parquet:"unit,optional,dict"`
}

// newerRows are in the file with a column more; every second one has a value there.
const newerRows = 1000

// evolved: a file with a column more stands beside the old ones. All readers see the column, null in the old files.
func (p *proof) evolved(ctx context.Context) error {
	now := time.Now()
	unit := "mm/s"
	rows := make([]newer, newerRows)
	for i := range rows {
		v := float32(i) / 8
		rows[i] = newer{
			EquipmentID: "press-new", TS: p.base + int64(i)*1e6, Sensor: sensorID(0), Value: &v, Quality: "good", Validity: "good", Disposition: "on_time", GatewayID: gateway,
			Sequence: 1, Sample: int32(i), LogAppendTime: now.UnixMicro(), Offset: int64(i),
		}
		if i%2 == 0 {
			rows[i].Unit = &unit
		}
	}
	var buf bytes.Buffer
	w := parquet.NewGenericWriter[newer](&buf)
	if _, err := w.Write(rows); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	o := lake.Object{
		Source: lake.Source{Table: "readings", Topic: "telemetry.readings.v1", TopicID: [16]byte{0xff}}, End: newerRows, SinceMS: now.UnixMilli(), Rows: newerRows, Config: "newer",
	}
	if err := p.bucket.PutIfAbsent(ctx, o.Key(), buf.Bytes(), o.Metadata()); err != nil {
		return err
	}
	got, err := p.phase(ctx, "a column more", []string{"readings"}, map[string][]string{"readings": {"unit"}}, false)
	if err != nil {
		return err
	}
	for e, f := range got {
		t := f.Tables["readings"]
		p.report.brokenIf(fmt.Sprint(t["n(unit)"]) != fmt.Sprint(newerRows/2), "a column more: %s finds %v units, %d were written", e, t["n(unit)"], newerRows/2)
		p.report.brokenIf(fmt.Sprint(t["rows"]) != fmt.Sprint(p.cfg.Sizes.Readings()+newerRows), "a column more: %s finds %v readings", e, t["rows"])
	}
	return nil
}
