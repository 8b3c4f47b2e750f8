package main

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"loadnode/events"
)

// probeTimeout bounds what a probe or a scrape asks of a service.
const probeTimeout = 2 * time.Second

// routes adds what every process serves to what its roles do.
func (s *server) routes() {
	s.mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write([]byte("ok\n")) // the prober may be gone
	})
	s.mux.HandleFunc("GET /readyz", s.readyz)
	s.mux.Handle("GET /v1/schemas/", http.StripPrefix("/v1/schemas/", http.FileServerFS(events.Schemas())))
	s.mux.HandleFunc("GET /v1/asyncapi.yaml", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/yaml")
		_, _ = w.Write(events.AsyncAPI())
	})
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), &metrics{server: s})
	s.mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4, Timeout: 10 * time.Second}))
}

// readyz tells for each role of this process whether it answers: 200 when all
// do, else 503.
func (s *server) readyz(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), probeTimeout)
	defer cancel()
	type state struct {
		Ready bool   `json:"ready"`
		Error string `json:"error,omitempty"`
	}
	all, roles := true, map[string]state{}
	for _, name := range s.cfg.roles {
		st := state{Ready: true}
		if err := s.probe(ctx, name); err != nil {
			st, all = state{Error: err.Error()}, false
		}
		roles[name] = st
	}
	b, err := json.Marshal(map[string]any{"ready": all, "roles": roles})
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if !all {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_, _ = w.Write(append(b, '\n'))
}

// probe asks a role once.
func (s *server) probe(ctx context.Context, name string) error {
	switch name {
	case roleNATS:
		return s.conn.NATS().FlushWithContext(ctx)
	case roleHandler:
		return s.conn.Request(ctx, events.HandlerSubject(s.cfg.testbed, events.HandlerStatus), events.Empty{}, nil)
	case roleFrisbee:
		return s.conn.Request(ctx, events.FrisbeeSubject(s.cfg.testbed, events.FrisbeeStatus), events.Empty{}, nil)
	}
	return nil
}

// metrics asks the services of this process when it is scraped; what does not
// answer is absent, and loadnode_role_up says so.
type metrics struct{ server *server }

var (
	descInfo     = prometheus.NewDesc("loadnode_info", "The version of this process, always 1.", []string{"version"}, nil)
	descUp       = prometheus.NewDesc("loadnode_role_up", "Whether a role of this process answers.", []string{"role"}, nil)
	descOpen     = prometheus.NewDesc("loadnode_jobs_open", "Jobs that have not ended.", nil, nil)
	descCounter  = prometheus.NewDesc("loadnode_handler_events_total", "What the handler counted, by name.", []string{"name"}, nil)
	descSessions = prometheus.NewDesc("loadnode_sessions", "Image sessions that are served.", nil, nil)
	descLeases   = prometheus.NewDesc("loadnode_session_leases", "Leases that keep image sessions.", nil, nil)
	descClients  = prometheus.NewDesc("loadnode_session_clients", "Clients of image sessions heard lately.", nil, nil)
	descBoots    = prometheus.NewDesc("loadnode_netboot_events_total", "What the boot service counted, by name.", []string{"name"}, nil)
	descSent     = prometheus.NewDesc("loadnode_image_bytes_sent_total", "Image data sent, bytes.", nil, nil)
)

// Describe implements prometheus.Collector.
func (m *metrics) Describe(c chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descInfo, descUp, descOpen, descCounter, descSessions, descLeases, descClients, descBoots, descSent} {
		c <- d
	}
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(c chan<- prometheus.Metric) {
	s := m.server
	ctx, cancel := context.WithTimeout(context.Background(), probeTimeout)
	defer cancel()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		c <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	gauge(descInfo, 1, version)
	for _, name := range s.cfg.roles {
		up := 1.0
		switch name {
		case roleHandler:
			var st events.HandlerState
			if err := s.conn.Request(ctx, events.HandlerSubject(s.cfg.testbed, events.HandlerStatus), events.Empty{}, &st); err != nil {
				up = 0
				break
			}
			gauge(descOpen, float64(st.Open))
			for k, v := range st.Counters {
				c <- prometheus.MustNewConstMetric(descCounter, prometheus.CounterValue, float64(v), k)
			}
		case roleFrisbee:
			var st events.FrisbeeState
			if err := s.conn.Request(ctx, events.FrisbeeSubject(s.cfg.testbed, events.FrisbeeStatus), events.Empty{}, &st); err != nil {
				up = 0
				break
			}
			leases, clients := 0, 0
			for _, x := range st.Sessions {
				leases, clients = leases+len(x.Leases), clients+x.Clients
			}
			gauge(descSessions, float64(len(st.Sessions)))
			gauge(descLeases, float64(leases))
			gauge(descClients, float64(clients))
			c <- prometheus.MustNewConstMetric(descSent, prometheus.CounterValue, float64(st.BlocksSent)*1024)
		case roleNetboot:
			r := s.boots.Load()
			if r == nil {
				up = 0
				break
			}
			for k, v := range r.Counters() {
				c <- prometheus.MustNewConstMetric(descBoots, prometheus.CounterValue, float64(v), k)
			}
		default:
			if s.probe(ctx, name) != nil {
				up = 0
			}
		}
		gauge(descUp, up, name)
	}
}
