package job

import (
	"time"

	"loadnode/events"
)

// Fact is a fact of one job, without its envelope.
type Fact struct {
	ID        string // deterministic: events.FactID
	Node      string // empty for facts of the job
	Time      time.Time
	Causation string // id of the report that it follows from, if there is one
	Data      events.Data
}

// Subject is where the fact stands on the bus.
func (f Fact) Subject(testbed, job string) string {
	if f.Node == "" {
		return events.JobFactSubject(testbed, job, f.Data.Kind())
	}
	return events.NodeFactSubject(testbed, job, f.Node, f.Data.Kind())
}
