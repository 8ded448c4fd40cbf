package routing

import (
	"fmt"

	"github.com/prometheus/common/model"
)

// Route gives the receivers that the routing file in force has for an alert with these labels, in the order in which they are told. Inhibition, silences and time
// intervals are not looked at.
func (e *Engine) Route(labels map[string]string) ([]string, error) {
	for name, value := range labels {
		if !model.UTF8Validation.IsValidLabelName(name) {
			return nil, fmt.Errorf("%q is not a label's name", name)
		}
		if !model.LabelValue(value).IsValid() {
			return nil, fmt.Errorf("the value of %q is not UTF-8", name)
		}
	}
	e.mu.RLock()
	routes := e.plan.routes
	e.mu.RUnlock()
	var out []string
	for _, r := range routes.Match(labelSet(labels)) {
		out = append(out, r.RouteOpts.Receiver)
	}
	return out, nil
}
