package main

import (
	"fmt"
	"time"
)

// absencePatience is how long the bus may be away before that is told: a
// connection that is made again at once is nobody's concern.
const absencePatience = 2 * time.Second

// absence tells a user who waits that the bus is away, and that it is back.
// Nothing else says so: a watch goes on by itself when the bus returns.
type absence struct {
	since time.Time // zero: the bus is there
	told  bool
}

// note takes how things stand and returns what to tell, "" for nothing.
func (a *absence) note(now time.Time, connected bool) string {
	switch {
	case connected:
		back := a.told
		*a = absence{}
		if back {
			return "bus is back"
		}
	case a.since.IsZero():
		a.since = now
	case !a.told && now.Sub(a.since) >= absencePatience:
		a.told = true
		return "bus is away, waiting …"
	}
	return ""
}

// tell says something about the bus on standard error, also where no progress
// is wanted: the command would seem to hang.
func (a *app) tell(text string) { fmt.Fprintf(a.stderr, "omf: %s\n", text) }
