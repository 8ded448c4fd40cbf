package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/tocsin-io/tocsin/deploy/proof/history"
)

// maxWebhook bounds what is read of one notification.
const maxWebhook = 16 << 20

// receiver is the webhook that alert-router calls. While broken it answers 503, or nothing at all.
type receiver struct {
	server *http.Server
	ln     net.Listener
	done   chan struct{}

	mu          sync.Mutex
	told        []history.Notification // and answered 200
	unconfirmed int                    // taken, and answered 503
	broken      brokenness
	outages     []history.Outage
	failed      int
}

type brokenness int

const (
	works   brokenness = iota
	refuses            // 503, and nothing is noted
	forgets            // notes the notification and answers 500: the sender must repeat it with the same id
	hangs              // no answer
)

func startReceiver() (*receiver, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r := &receiver{ln: ln, done: make(chan struct{})}
	r.server = &http.Server{Handler: http.HandlerFunc(r.serve), ReadHeaderTimeout: 5 * time.Second}
	go func() {
		defer close(r.done)
		_ = r.server.Serve(ln) // ErrServerClosed
	}()
	return r, nil
}

func (r *receiver) url() string { return "http://" + r.ln.Addr().String() + "/notify" }

func (r *receiver) serve(w http.ResponseWriter, req *http.Request) {
	var payload struct {
		Alerts []struct {
			Status string            `json:"status"`
			Labels map[string]string `json:"labels"`
		} `json:"alerts"`
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, req.Body, maxWebhook)).Decode(&payload); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	r.mu.Lock()
	state := r.broken
	if state != works {
		r.failed++
	}
	now := time.Now()
	for _, a := range payload.Alerts {
		if a.Labels["alert_id"] == "" {
			continue // the router's own: that this receiver failed
		}
		switch state {
		case works:
			r.told = append(r.told, history.Notification{AlertID: a.Labels["alert_id"], Resolved: a.Status == "resolved", At: now})
		case forgets:
			r.unconfirmed++
		}
	}
	r.mu.Unlock()
	switch state {
	case works:
		w.WriteHeader(http.StatusOK)
	case hangs:
		<-req.Context().Done()
	default:
		http.Error(w, "out of order", http.StatusServiceUnavailable)
	}
}

func (r *receiver) set(b brokenness) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	if r.broken == works && b != works {
		r.outages = append(r.outages, history.Outage{From: now, To: now.Add(time.Hour)})
	}
	if b == works && r.broken != works {
		r.outages[len(r.outages)-1].To = now
	}
	r.broken = b
}

// away are the times when nobody could be told.
func (r *receiver) away() []history.Outage {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.outages)
}

// notifications are those that came so far, and how many were turned away.
func (r *receiver) notifications() (told []history.Notification, failed int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]history.Notification{}, r.told...), r.failed
}

func (r *receiver) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	err := r.server.Shutdown(ctx)
	if err != nil {
		err = errors.Join(r.server.Close())
	}
	<-r.done
	return err
}
