package maintain

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/tocsin-io/tocsin/pkg/lake"
	"github.com/tocsin-io/tocsin/pkg/objstore"
)

// AuditLog is what was done to a table, oldest first.
func AuditLog(ctx context.Context, b objstore.Bucket, tableName string) ([]lake.LogEntry, error) {
	var out []lake.LogEntry
	for info, err := range b.List(ctx, lake.LogPrefix(tableName)) {
		if err != nil {
			return nil, err
		}
		data, _, err := b.Get(ctx, info.Key, 0)
		if err != nil {
			return nil, err
		}
		var e lake.LogEntry
		if err := json.Unmarshal(data, &e); err != nil {
			return nil, fmt.Errorf("%s: %w", info.Key, err)
		}
		out = append(out, e)
	}
	return out, nil
}
