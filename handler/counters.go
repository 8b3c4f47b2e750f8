package handler

import (
	"sync"

	"loadnode/handler/job"
)

// Names of counters (events.HandlerState).
const (
	countFactsUnknown       = "facts_unknown"
	countFactsUndecodable   = "facts_undecodable"
	countReports            = "reports"
	countReportsUndecodable = "reports_undecodable"
	countReportsRefused     = "reports_refused_" // and the reason
	countReportsUnknown     = "reports_unknown"
	countRequests           = "requests"
	countRequestsBad        = "requests_bad"
	countConflicts          = "conflicts"
	countEffects            = "effects_" // and what
	countEffectErrors       = "effect_errors"
	countAdopted            = "jobs_adopted"
	countArchived           = "jobs_archived"
	countAlarms             = "alarms" // credentials that somebody asked for who should not
)

// counters counts by name. The names are few: none of them comes from
// outside.
type counters struct {
	mu sync.Mutex
	n  map[string]int64
}

func newCounters() *counters { return &counters{n: make(map[string]int64)} }

func (c *counters) add(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n[name]++
}

func (c *counters) refused(r job.Reason) { c.add(countReportsRefused + string(r)) }

func (c *counters) all() map[string]int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make(map[string]int64, len(c.n))
	for k, v := range c.n {
		out[k] = v
	}
	return out
}
