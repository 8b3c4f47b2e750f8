package server

import "time"

// Adaptation of the rate to what receivers take. Clients that lose blocks ask
// for them again; that is the only report every generation of client gives.
const (
	// adaptEvery is how often the rate is reconsidered.
	adaptEvery = 100 * time.Millisecond
	// adaptRest is how long after a reduction the next may follow: the repair
	// requests for what was lost before it are still coming in.
	adaptRest = 400 * time.Millisecond
	// adaptDecay ages the counters, once each adaptEvery: they remember some 300 ms.
	adaptDecay = 0.7
	// lossLimit is the part of the blocks sent which a client may ask for
	// again before it counts as complaining. Below it repairs cost less than a
	// lower rate.
	lossLimit = 0.05
	// complainers of all active clients, 1 in so many, make the rate fall.
	complainers = 4
	// The rate starts at cap/startPart, grows by half until the first loss,
	// later by cap/stepPart, and falls by a fifth, down to cap/floorPart.
	startPart = 4
	stepPart  = 50
	floorPart = 8
)

// adapter holds the rate of one session. It is guarded by Server.mu.
type adapter struct {
	cap      int64
	rate     int64
	slow     bool // still growing fast
	last     time.Time
	reduced  time.Time
	sent     float64 // blocks, decaying
	reducing int     // how often it fell
}

func newAdapter(cap int64) *adapter {
	return &adapter{cap: cap, rate: max(cap/startPart, 1), slow: true}
}

// consider gives the rate for the time from now on.
func (a *adapter) consider(now time.Time, clients *table) int64 {
	if now.Sub(a.last) < adaptEvery {
		return a.rate
	}
	a.last = now
	active, complaining := clients.complaints(now, a.sent*lossLimit)
	a.sent *= adaptDecay
	switch {
	case complaining > 0 && complaining*complainers >= active:
		if now.Sub(a.reduced) >= adaptRest {
			a.rate = max(a.rate*4/5, a.cap/floorPart, 1)
			a.reduced, a.slow = now, false
			a.reducing++
		}
	case a.slow:
		a.rate = min(a.rate*3/2+1, a.cap)
	case now.Sub(a.reduced) >= adaptRest:
		a.rate = min(a.rate+a.cap/stepPart+1, a.cap)
	}
	return a.rate
}
