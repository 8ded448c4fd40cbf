package objstore

import (
	"context"
	"errors"
	"io/fs"
	"net"

	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// Reason puts an error into one of a few classes, for a metric's label or a log line: exists, not_found, conflict, invalid,
// unconditional, canceled, timeout, throttled, permission, no_space, unavailable (the server answered 5xx), network, other.
func Reason(err error) string {
	switch {
	case err == nil:
		return ""
	case errors.Is(err, ErrExists):
		return "exists"
	case errors.Is(err, ErrNotFound):
		return "not_found"
	case errors.Is(err, ErrConflict):
		return "conflict"
	case errors.Is(err, ErrInvalidKey):
		return "invalid"
	case errors.Is(err, ErrUnconditional):
		return "unconditional"
	case errors.Is(err, context.Canceled):
		return "canceled"
	case errors.Is(err, context.DeadlineExceeded):
		return "timeout"
	case errors.Is(err, fs.ErrPermission):
		return "permission"
	case isNoSpace(err):
		return "no_space"
	}
	var resp *smithyhttp.ResponseError
	if errors.As(err, &resp) && resp.Response != nil {
		switch code := resp.HTTPStatusCode(); {
		case code == 429 || code == 503:
			return "throttled"
		case code == 401 || code == 403:
			return "permission"
		case code == 507:
			return "no_space"
		case code >= 500:
			return "unavailable"
		}
	}
	var netErr net.Error
	if errors.As(err, &netErr) {
		if netErr.Timeout() {
			return "timeout"
		}
		return "network"
	}
	return "other"
}
