package grpcserver

import (
	"context"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"
)

// Failure is a status with details; without them when they cannot be attached.
func Failure(code codes.Code, msg string, details ...protoadapt.MessageV1) error {
	st := status.New(code, msg)
	if with, err := st.WithDetails(details...); err == nil {
		st = with
	}
	return st.Err()
}

// Violation is the detail that names the field that is wrong.
func Violation(field, reason string) protoadapt.MessageV1 {
	return &errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{{Field: field, Description: reason}}}
}

// RetryInfo is the detail that says when to try again.
func RetryInfo(after time.Duration) protoadapt.MessageV1 {
	return &errdetails.RetryInfo{RetryDelay: durationpb.New(after)}
}

// Unauthenticated is the answer to somebody who is not known.
func Unauthenticated(err error) error {
	return Failure(codes.Unauthenticated, err.Error(), &errdetails.ErrorInfo{Reason: "UNAUTHENTICATED", Domain: "tocsin.io"})
}

// Metadata is the first value of a key in what the caller sent with a call; empty where there is none.
func Metadata(ctx context.Context, key string) string {
	if v := metadata.ValueFromIncomingContext(ctx, key); len(v) > 0 {
		return v[0]
	}
	return ""
}
