package live

import (
	"context"
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/pkg/frame"
	"github.com/tocsin-io/tocsin/pkg/kafka/kafkatest"
	"github.com/tocsin-io/tocsin/pkg/topic"
)

// fetched is what a broker answers that has so many frames of so many sensors, as a gateway writes them: the bytes of one partition.
func fetched(b *testing.B, frames, sensors int) *kmsg.FetchResponseTopicPartition {
	b.Helper()
	cfg := kafkatest.Start(b, 1)
	cl := kafkatest.Client(b, cfg, kgo.ProducerBatchCompression(kgo.Lz4Compression()), kgo.ProducerBatchMaxBytes(7<<20), kgo.ProducerLinger(100*time.Millisecond))
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	names, values := make([]string, sensors), make([]float32, sensors)
	for i := range names {
		names[i], values[i] = fmt.Sprintf("sensor_%05d_mm_s", i), float32(i)*1.37
	}
	recs := make([]*kgo.Record, frames)
	for i := range recs {
		id := fmt.Sprintf("site-line-pump-%05d", i)
		recs[i] = &kgo.Record{Topic: topic.Frames, Key: []byte(id), Value: frame.New(id, "gateway-1", uint64(i+1), time.Now(), names, values).AppendTo(nil), Headers: []kgo.RecordHeader{
			{Key: topic.HeaderType, Value: []byte(topic.TypeFrame)}, {Key: topic.HeaderID, Value: fmt.Appendf(nil, "gateway-1/%s/%d", id, i+1)}, {Key: topic.HeaderReceived, Value: []byte("1790000000000")},
		}}
	}
	if err := cl.ProduceSync(ctx, recs...).FirstErr(); err != nil {
		b.Fatal(err)
	}
	found, err := kadm.NewClient(cl).ListTopics(ctx, topic.Frames)
	if err != nil {
		b.Fatal(err)
	}
	req := kmsg.NewPtrFetchRequest()
	req.MaxBytes, req.MaxWaitMillis = 64<<20, 100
	t := kmsg.NewFetchRequestTopic()
	t.Topic, t.TopicID = topic.Frames, found[topic.Frames].ID
	p := kmsg.NewFetchRequestTopicPartition()
	p.PartitionMaxBytes = 64 << 20
	t.Partitions = append(t.Partitions, p)
	req.Topics = append(req.Topics, t)
	resp, err := req.RequestWith(ctx, cl)
	if err != nil {
		b.Fatal(err)
	}
	return &resp.Topics[0].Partitions[0]
}

// processor is how long this process has computed.
func processor() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u) // it cannot fail for oneself
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkFrames is what the service pays for what a broker sends of one partition: decompression, the client's parsing, and what is done with each record. One frame in 1,000 is watched,
// or of the wide ones none, or all.
func BenchmarkFrames(b *testing.B) {
	for _, x := range []struct {
		name                  string
		frames, sensors, each int
	}{{"10_sensors", 10_000, 10, 1000}, {"25000_sensors_unwatched", 20, 25_000, 0}, {"25000_sensors_watched", 20, 25_000, 1}} {
		b.Run(x.name, func(b *testing.B) {
			raw := fetched(b, x.frames, x.sensors)
			board := NewBoard()
			for i := 0; x.each > 0 && i < x.frames; i += x.each {
				defer board.Watch(fmt.Sprintf("site-line-pump-%05d", i)).Stop()
			}
			f := New(kafkatest.Start(b, 1), board, zap.NewNop(), metrics.NewSet())
			unpack := kgo.DefaultDecompressor()
			o := kgo.ProcessFetchPartitionOpts{Topic: topic.Frames}
			n, cpu := 0, processor()
			b.ReportAllocs()
			for b.Loop() {
				got, _ := kgo.ProcessFetchPartition(o, raw, unpack, nil)
				n += len(got.Records)
				f.partition(nil, &kgo.FetchTopicPartition{Topic: topic.Frames, FetchPartition: got}, time.Now())
			}
			b.ReportMetric(float64(processor()-cpu)/float64(n), "cpu-ns/frame") // holds on a machine that does other things as well
			b.ReportMetric(float64(len(raw.RecordBatches))*float64(b.N)/float64(n), "wire-B/frame")
		})
	}
}
