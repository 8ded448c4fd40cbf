package realtimeapi

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	"github.com/tocsin-io/tocsin/pkg/kafka/kafkatest"
	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
	queryv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/query/v1"
)

// dialled is a client's connection to the gRPC listener.
func (r *running) dialled(opts ...grpc.DialOption) *grpc.ClientConn {
	r.t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+r.svc.GRPCAddr(), append(opts, grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// details are those of an error that came over the wire.
func details[D any](err error) (d D, ok bool) {
	for _, v := range status.Convert(err).Details() {
		if d, ok = v.(D); ok {
			return d, true
		}
	}
	return d, false
}

// Somebody's own machines over the wire, a page at a time; others' do not exist; who is not known is told so.
func TestGRPC(t *testing.T) {
	k := kafkatest.Start(t, 3)
	f := newFixture(t, k)
	for _, id := range []string{"line-1-pump-1", "line-1-pump-2", "line-1-pump-3", "line-2-pump-1"} {
		f.windows(f.window(id, 0, 3, nil, false))
		f.coverage(id, "gw", "judged - a")
	}
	f.alert(alertOf("line-1-pump-2", "limit", eventv1.Severity_SEVERITY_CRITICAL, 5, "hot"))
	f.alert(alertOf("line-2-pump-1", "limit", eventv1.Severity_SEVERITY_CRITICAL, 5, "hot"))
	const token = "adas-token-0123456789"
	r := start(t, k, func(c *Config) {
		c.Auth.People = []Person{{Name: "ada", Token: token, Equipment: []string{"line-1-*"}}}
	})
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	conn := r.dialled()
	live, ada := queryv1.NewQueryServiceClient(conn), metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)

	for _, who := range []context.Context{ctx, metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer nobody")} {
		_, err := live.ListMachines(who, &queryv1.ListMachinesRequest{})
		if d, ok := details[*errdetails.ErrorInfo](err); status.Code(err) != codes.Unauthenticated || !ok || d.Reason != "UNAUTHENTICATED" {
			t.Errorf("a stranger: %v", err)
		}
	}
	eventually(t, time.Minute, "critical", func() bool {
		m, err := live.GetMachine(ada, &queryv1.GetMachineRequest{EquipmentId: "line-1-pump-2"})
		return err == nil && m.Machine.State == queryv1.MachineState_MACHINE_STATE_CRITICAL && len(m.Machine.Sensors) == 3
	})
	var ids []string
	for page := ""; ; {
		list, err := live.ListMachines(ada, &queryv1.ListMachinesRequest{PageSize: 2, PageToken: page})
		if err != nil || list.Total != 3 {
			t.Fatalf("%v %v", list, err)
		}
		for _, m := range list.Machines {
			ids = append(ids, m.EquipmentId)
		}
		if page = list.NextPageToken; page == "" {
			break
		}
	}
	if !slices.Equal(ids, []string{"line-1-pump-1", "line-1-pump-2", "line-1-pump-3"}) {
		t.Errorf("machines %v", ids)
	}
	alerts, err := live.ListAlerts(ada, &queryv1.ListAlertsRequest{Search: "HOT"})
	if err != nil || alerts.Total != 1 || alerts.Alerts[0].EquipmentId != "line-1-pump-2" {
		t.Errorf("alerts %v %v", alerts, err)
	}
	for _, id := range []string{"line-2-pump-1", "nobody"} {
		_, err1 := live.GetMachine(ada, &queryv1.GetMachineRequest{EquipmentId: id})
		_, err2 := live.ListWindows(ada, &queryv1.ListWindowsRequest{EquipmentId: id})
		_, err3 := live.GetCoverage(ada, &queryv1.GetCoverageRequest{EquipmentId: id})
		for _, err := range []error{err1, err2, err3} {
			if d, ok := details[*errdetails.ResourceInfo](err); status.Code(err) != codes.NotFound || !ok || d.ResourceName != id {
				t.Errorf("%s: %v", id, err)
			}
		}
	}
	_, err = live.ListCoverage(ada, &queryv1.ListCoverageRequest{PageSize: 1001})
	if d, ok := details[*errdetails.BadRequest](err); status.Code(err) != codes.InvalidArgument || !ok || d.FieldViolations[0].Field != "page_size" {
		t.Errorf("page_size 1001: %v", err)
	}
	if _, err = live.ListMachines(ada, &queryv1.ListMachinesRequest{Search: strings.Repeat("a", 1<<20)}); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("a large request: %v", err)
	}
	name := queryv1.QueryService_ServiceDesc.ServiceName
	eventually(t, time.Minute, "healthy", func() bool {
		h, err := healthv1.NewHealthClient(conn).Check(ctx, &healthv1.HealthCheckRequest{Service: name})
		return err == nil && h.Status == healthv1.HealthCheckResponse_SERVING
	})
	mirror, err := reflectionv1.NewServerReflectionClient(conn).ServerReflectionInfo(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := mirror.Send(&reflectionv1.ServerReflectionRequest{MessageRequest: &reflectionv1.ServerReflectionRequest_ListServices{}}); err != nil {
		t.Fatal(err)
	}
	if m, err := mirror.Recv(); err != nil || !slices.ContainsFunc(m.GetListServicesResponse().GetService(), func(s *reflectionv1.ServiceResponse) bool { return s.Name == name }) {
		t.Errorf("reflection: %v %v", m, err)
	}
	_, body, _ := r.raw("/metrics")
	for _, want := range []string{`tocsin_api_grpc_requests_total{method="GetMachine",code="NotFound"} 2`, `tocsin_api_grpc_requests_total{method="ListMachines",code="Unauthenticated"} 2`} {
		if !strings.Contains(string(body), want) {
			t.Errorf("/metrics lacks %s", want)
		}
	}
	if err := mirror.CloseSend(); err != nil {
		t.Error(err)
	}
	r.stop()
	if _, err := live.ListMachines(ada, &queryv1.ListMachinesRequest{}); status.Code(err) != codes.Unavailable {
		t.Errorf("after the end: %v", err)
	}
}

// Where nobody is listed, this machine is let in under its own name only, as over HTTP.
func TestGRPCWithoutCredentials(t *testing.T) {
	r := start(t, kafkatest.Start(t, 3), nil)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	for authority, want := range map[string]codes.Code{"localhost:9080": codes.OK, "127.0.0.1": codes.OK, "elsewhere.example": codes.Unauthenticated} {
		_, err := queryv1.NewQueryServiceClient(r.dialled(grpc.WithAuthority(authority))).ListMachines(ctx, &queryv1.ListMachinesRequest{})
		if status.Code(err) != want {
			t.Errorf("as %s: %v", authority, err)
		}
	}
}
