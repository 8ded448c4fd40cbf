package chaos

import (
	"context"
	"time"

	"github.com/tocsin-io/tocsin/deploy/local/stack"
)

// linked are the services whose way to Kafka can be cut, and which service each is an instance of.
func linked() []string {
	return []string{gateway, processor, processor + "-2", router, router + "-2", writer, writer + "-2"}
}

const (
	linkTarget = 30 * time.Second // after healing
	longIll    = sessionTimeout * 3 / 2
	shortIll   = sessionTimeout * 2 / 3
)

// holdOf says how long an ill lasts: holes outlast the session, the others need not.
func holdOf(what ill) time.Duration {
	switch what.name {
	case "reset", "slow", "cut":
		return shortIll
	}
	return longIll
}

// sever makes the way from an instance to all brokers ill for a while.
func (w *world) sever(instance, service string, what ill) fault {
	f := fault{row: "link to Kafka: " + what.name, what: what.name + " " + instance, target: linkTarget, hold: holdOf(what)}
	f.inject = func(context.Context) error {
		if len(what.toxics) == 0 {
			w.links.cut(instance)
			return nil
		}
		return w.links.poison(instance, what)
	}
	f.heal = func(ctx context.Context) error { return w.links.heal(ctx, instance) }
	f.recovered = func() []condition {
		return append(w.serves(service), w.watch.isReady(instance, w.stack.Addr(instance)))
	}
	return f
}

// severLake makes the way from the writers to the S3 server ill for a while.
func (w *world) severLake(what ill) fault {
	f := w.sever(stack.LinkToLake, writer, what)
	f.row, f.what = "link to S3: "+what.name, what.name+" writers to S3"
	f.recovered = func() []condition { return w.serves(writer) }
	return f
}

// spoilLake lets the store answer wrongly, late or not at all for a while.
func (w *world) spoilLake(what lakeFault, hold time.Duration) fault {
	f := fault{row: "S3: " + what.name, what: "S3 " + what.name, hold: hold, target: hold} // outage and recovery within twice the outage
	before := 0
	f.inject = func(context.Context) error {
		before = w.lake.met(what.name)
		w.lake.set(what)
		return nil
	}
	f.during = func() []condition {
		return []condition{func(context.Context) string {
			if w.lake.met(what.name) == before {
				return "no request has met the fault"
			}
			return ""
		}}
	}
	f.heal = func(context.Context) error {
		w.lake.set(lakeFault{})
		return nil
	}
	f.recovered = func() []condition { return w.serves(writer) }
	return f
}
