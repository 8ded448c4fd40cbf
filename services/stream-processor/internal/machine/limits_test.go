package machine

import "github.com/tocsin-io/tocsin/services/stream-processor/internal/detect"

func limitFor(sensor string, warning, critical *float64) detect.Limit {
	return detect.Limit{Sensor: sensor, HighWarning: warning, HighCritical: critical}
}

func rateFor(sensor string, warning *float64) detect.Limit {
	return detect.Limit{Sensor: sensor, RateWarning: warning}
}
