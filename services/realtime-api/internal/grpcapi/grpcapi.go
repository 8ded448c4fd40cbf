// Package grpcapi serves tocsin.query.v1.QueryService: the questions of REST over gRPC, answered by the same desk.
//
// An empty field of a request is no filter, where REST takes a parameter that is there and empty at its word; what says otherwise is marked optional in the contract.
package grpcapi

import (
	"context"
	"fmt"
	"math"
	"path"

	"github.com/VictoriaMetrics/metrics"
	"go.uber.org/zap"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	_ "google.golang.org/grpc/encoding/gzip" // clients may compress
	"google.golang.org/grpc/status"

	"github.com/tocsin-io/tocsin/pkg/grpcserver"
	"github.com/tocsin-io/tocsin/pkg/network"
	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
	queryv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/query/v1"

	"github.com/tocsin-io/tocsin/services/realtime-api/internal/gate"
	"github.com/tocsin-io/tocsin/services/realtime-api/internal/query"
)

// maxRequest bounds a request, as it came and decompressed.
const maxRequest = 64 << 10

// Server serves one listener. Its states are grpcserver's.
type Server struct {
	*grpcserver.Server
}

// New opens the listener. The gate says who asks; ready is the service's health.
func New(cfg grpcserver.Config, via network.Network, desk *query.Desk, door *gate.Gate, ready func() error, log *zap.Logger, set *metrics.Set) (*Server, error) {
	srv, err := grpcserver.New(cfg, via, ready, log, grpc.MaxRecvMsgSize(maxRequest), grpc.UnaryInterceptor(
		func(ctx context.Context, req any, info *grpc.UnaryServerInfo, h grpc.UnaryHandler) (any, error) {
			resp, err := h(ctx, req)
			set.GetOrCreateCounter(fmt.Sprintf(`tocsin_api_grpc_requests_total{method=%q,code=%q}`, path.Base(info.FullMethod), status.Code(err))).Inc()
			return resp, err
		}))
	if err != nil {
		return nil, err
	}
	srv.RegisterService(&queryv1.QueryService_ServiceDesc, &answers{desk: desk, door: door})
	return &Server{srv}, nil
}

// Run serves until ctx ends, then lets calls finish.
func (s *Server) Run(ctx context.Context) error { return s.Server.Run(ctx, nil) }

// answers is the service.
type answers struct {
	queryv1.UnimplementedQueryServiceServer
	desk *query.Desk
	door *gate.Gate
}

// asker tells who asks.
func (a *answers) asker(ctx context.Context) (*gate.Identity, error) {
	who, err := a.door.Caller(grpcserver.Metadata(ctx, "authorization"), grpcserver.Metadata(ctx, ":authority"))
	if err != nil {
		return nil, grpcserver.Unauthenticated(err)
	}
	return who, nil
}

// refusal is the status of a question that the desk does not answer. machine is the one asked for, if any.
func refusal(f *query.Fault, machine string) error {
	if f.Unknown() {
		return grpcserver.Failure(codes.NotFound, f.Detail, &errdetails.ResourceInfo{ResourceType: "tocsin.query.v1.Machine", ResourceName: machine, Description: f.Detail})
	}
	return grpcserver.Failure(codes.InvalidArgument, f.Error(), grpcserver.Violation(f.Field, f.Detail))
}

// checkStates names a state that there is none of.
func checkStates[E ~int32](states []E, names map[int32]string) error {
	for _, s := range states {
		if _, ok := names[int32(s)]; !ok || s == 0 {
			return refusal(&query.Fault{Field: "state", Detail: fmt.Sprintf("%d is no state", int32(s))}, "")
		}
	}
	return nil
}

// ListMachines is GET /v1/machines.
func (a *answers) ListMachines(ctx context.Context, q *queryv1.ListMachinesRequest) (*queryv1.ListMachinesResponse, error) {
	who, err := a.asker(ctx)
	if err != nil {
		return nil, err
	}
	if err := checkStates(q.State, queryv1.MachineState_name); err != nil {
		return nil, err
	}
	list, f := a.desk.Machines(who, query.Machines{
		Page: query.Page{Size: int(q.PageSize), Token: q.PageToken}, Where: query.Where{Site: q.Site, Line: q.Line, Group: q.Group}, Search: q.Search, States: q.State,
	})
	if f != nil {
		return nil, refusal(f, "")
	}
	out := &queryv1.ListMachinesResponse{Machines: make([]*queryv1.Machine, len(list.Rows)), NextPageToken: list.Next, Total: int32(list.Total)}
	for i := range list.Rows {
		out.Machines[i] = machine(&list.Rows[i], nil)
	}
	return out, nil
}

// GetMachine is GET /v1/machines/{id}.
func (a *answers) GetMachine(ctx context.Context, q *queryv1.GetMachineRequest) (*queryv1.GetMachineResponse, error) {
	who, err := a.asker(ctx)
	if err != nil {
		return nil, err
	}
	row, sensors, f := a.desk.Machine(who, q.EquipmentId)
	if f != nil {
		return nil, refusal(f, q.EquipmentId)
	}
	return &queryv1.GetMachineResponse{Machine: machine(&row, sensors)}, nil
}

// ListWindows is GET /v1/machines/{id}/windows.
func (a *answers) ListWindows(ctx context.Context, q *queryv1.ListWindowsRequest) (*queryv1.ListWindowsResponse, error) {
	who, err := a.asker(ctx)
	if err != nil {
		return nil, err
	}
	since := q.SinceUs
	if since == 0 {
		since = math.MinInt64
	}
	ws, keep, f := a.desk.Windows(who, query.Windows{EquipmentID: q.EquipmentId, SinceUS: since, Limit: int(q.Limit), Sensors: q.Sensor})
	if f != nil {
		return nil, refusal(f, q.EquipmentId)
	}
	out := &queryv1.ListWindowsResponse{Windows: make([]*eventv1.Window, len(ws))}
	for i, w := range ws {
		out.Windows[i] = window(w, keep)
	}
	return out, nil
}

// ListAnomalies is GET /v1/anomalies.
func (a *answers) ListAnomalies(ctx context.Context, q *queryv1.ListAnomaliesRequest) (*queryv1.ListAnomaliesResponse, error) {
	who, err := a.asker(ctx)
	if err != nil {
		return nil, err
	}
	list, f := a.desk.Anomalies(who, query.Where{Site: q.Site, Line: q.Line, Group: q.Group}, q.EquipmentId, int(q.PageSize))
	if f != nil {
		return nil, refusal(f, q.EquipmentId)
	}
	return &queryv1.ListAnomaliesResponse{Anomalies: list}, nil
}

// ListAlerts is GET /v1/alerts.
func (a *answers) ListAlerts(ctx context.Context, q *queryv1.ListAlertsRequest) (*queryv1.ListAlertsResponse, error) {
	who, err := a.asker(ctx)
	if err != nil {
		return nil, err
	}
	if _, ok := eventv1.Severity_name[int32(q.Severity)]; !ok {
		return nil, refusal(&query.Fault{Field: "severity", Detail: fmt.Sprintf("%d is no severity", q.Severity)}, "")
	}
	list, f := a.desk.Alerts(who, query.Alerts{
		Page: query.Page{Size: int(q.PageSize), Token: q.PageToken}, Where: query.Where{Site: q.Site, Line: q.Line, Group: q.Group},
		EquipmentID: q.EquipmentId, IncludeClosed: q.IncludeClosed, Search: q.Search, Least: q.Severity,
	})
	if f != nil {
		return nil, refusal(f, "")
	}
	return &queryv1.ListAlertsResponse{Alerts: list.Events, NextPageToken: list.Next, Total: int32(list.Total)}, nil
}

// ListCoverage is GET /v1/coverage.
func (a *answers) ListCoverage(ctx context.Context, q *queryv1.ListCoverageRequest) (*queryv1.ListCoverageResponse, error) {
	who, err := a.asker(ctx)
	if err != nil {
		return nil, err
	}
	if err := checkStates(q.State, eventv1.CoverageState_name); err != nil {
		return nil, err
	}
	ask := query.Coverage{Page: query.Page{Size: int(q.PageSize), Token: q.PageToken}, Where: query.Where{Site: q.Site, Line: q.Line, Group: q.Group}, States: q.State}
	if q.GatewayId != "" {
		ask.GatewayID = &q.GatewayId
	}
	list, f := a.desk.Coverage(who, ask)
	if f != nil {
		return nil, refusal(f, "")
	}
	return coverage(&list), nil
}

// GetCoverage is GET /v1/equipment/{id}/coverage.
func (a *answers) GetCoverage(ctx context.Context, q *queryv1.GetCoverageRequest) (*queryv1.GetCoverageResponse, error) {
	who, err := a.asker(ctx)
	if err != nil {
		return nil, err
	}
	c, f := a.desk.MachineCoverage(who, q.EquipmentId)
	if f != nil {
		return nil, refusal(f, q.EquipmentId)
	}
	return &queryv1.GetCoverageResponse{Coverage: c}, nil
}
