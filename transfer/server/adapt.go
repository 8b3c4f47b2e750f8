package server

import (
	"slices"
	"time"

	"loadnode/transfer/wire"
)

// Adaptation of the rate to what receivers take. Our clients report how they
// fare; of others, the blocks they ask for again are all there is to know. A
// strict majority of the clients decides: who is slower than most, or loses more,
// slows down the others by a bounded part and is served by repeats.
const (
	// considerEvery is how often the rate is reconsidered.
	considerEvery = 5 * time.Millisecond
	// The rate starts at cap/startPart, and not above startRate.
	startPart = 4
	startRate = 100_000_000
	// floorRate is the least rate, unless the cap is lower.
	floorRate = 10_000_000
	// enough votes decide.
	enough = 8
	// margin is the part of what receivers took at a rate that was too high for
	// them which is tried next.
	margin = 0.96
	// used is the part of the rate that must have been sent for it to have been tested.
	used = 0.6
	// leap is by what the rate grows at first, climb while the limit is looked
	// for a second time, probe later; in between it rests, first for rest, then
	// longer.
	leap, climb, probe = 2.0, 1.15, 1.05
	rest, restMax      = time.Second / 2, 16 * time.Second
	// A rate that was taken before is regained soon after a hiccup, by steps of
	// regain, but for the last part, which the usual probes find.
	regain, recall = 1.5, 0.9
	// After as many probes that were taken the limit was not one: the probes
	// grow, each twice the one before, up to strideMax.
	sure, strideMax = 2, 1.5
	// near: who takes at least this part of what most can take is not left behind.
	near = 0.85
	// alike: who installs at least at this part of the median speed is as fast as most.
	alike = 0.7
)

// Judging clients without reports.
const (
	// adaptEvery is how often they are looked at.
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
	// floorPart of the cap is the least rate, stepPart of it the step upwards.
	stepPart  = 50
	floorPart = 8
)

// Waiting for room, before a chunk is sent that nobody was sent yet.
const (
	// closedFor is how long at most; a receiver may be stuck.
	closedFor = 3 * time.Second
	// patienceShare of the time may be spent waiting for a few, patienceMax
	// can be saved up.
	patienceShare = 0.06
	patienceMax   = 30 * time.Millisecond
	// look is how often one looks again.
	look = 2 * time.Millisecond
)

// phase of the search for the rate.
type phase uint8

const (
	leaping phase = iota
	climbing
	probing
)

// adapter holds the rate of one session. It is guarded by Server.mu.
type adapter struct {
	cap     int64
	rate    int64
	phase   phase
	step    time.Time // the rate changed
	quiet   time.Time // no probe before
	pause   time.Duration
	stride  float64       // by what the next probe multiplies the rate
	strides int           // probes that most have taken, one after the other
	every   time.Duration // between two reports of a client
	usual   float64       // trouble of the median client
	typical float64       // speed of the median client
	limit   float64       // what most could take, when last found; 0: not found
	proven  float64       // the highest rate that most have taken; 0: none yet
	doubt   bool          // a rate that was proven was too much since
	looked  time.Time     // at reports
	began   float64       // sent when the rate changed

	// Clients without reports.
	last     time.Time
	reduced  time.Time
	lately   float64 // blocks, decaying
	counted  float64
	sent     float64 // blocks, in all
	reducing int     // how often it fell

	// Waiting for room.
	tried    time.Time
	patience time.Duration
	spending bool
	closed   time.Time // since then nothing may begin; zero: something may
	takes    []float64 // scratch
}

func newAdapter(cap int64) *adapter {
	return &adapter{cap: cap, rate: max(min(cap/startPart, startRate), 1), pause: rest, stride: probe, every: reportEvery}
}

// set changes the rate.
func (a *adapter) set(rate float64, now time.Time) {
	r := min(max(int64(rate), min(floorRate, a.cap/floorPart)), a.cap)
	if r < a.rate {
		a.reducing++
	}
	a.rate, a.step, a.began = r, now, a.sent
}

// consider gives the rate for the time from now on.
func (a *adapter) consider(now time.Time, clients *table) int64 {
	if now.Sub(a.looked) < considerEvery {
		return a.rate
	}
	a.looked = now
	reporting, mute := clients.count(now, a.every)
	if mute > reporting {
		a.guess(now, clients)
		return a.rate
	}
	good, bad := 0, 0
	a.takes = a.takes[:0]
	for _, e := range clients.rows {
		v := &e.view
		if !e.here(now) || !v.reports(now, a.every) || !v.voted.After(a.step) {
			continue
		}
		switch v.vote {
		case fine:
			good++
		case tooFast:
			bad++
			a.takes = append(a.takes, v.took)
		}
	}
	if good+bad < min(enough, reporting/2+1) {
		return a.rate
	}
	slices.Sort(a.takes)
	switch {
	case bad > good:
		most := a.takes[len(a.takes)/2]
		a.confirm(most)
		a.fall(most, now)
		a.limit = most
	case bad > 0 && a.limit > 0 && a.takes[0] >= near*a.limit && a.takes[0] < float64(a.rate):
		a.fall(a.takes[0], now)
	case a.sent-a.began < used*float64(a.rate)*now.Sub(a.step).Seconds()/(WireBlock*8):
		a.step, a.began = now, a.sent // nothing is known of this rate
	case a.prove():
	case a.phase == leaping:
		a.set(leap*float64(a.rate), now)
	case a.phase == climbing:
		a.set(climb*float64(a.rate), now)
	case climb*float64(a.rate) <= recall*a.proven:
		a.set(min(regain*float64(a.rate), recall*a.proven), now)
	case now.After(a.quiet):
		a.set(a.stride*float64(a.rate), now)
		if a.strides++; a.strides >= sure {
			a.stride = min(1+2*(a.stride-1), strideMax)
		}
	}
	return a.rate
}

// prove notes that most take the rate, and reports whether it cannot grow.
func (a *adapter) prove() bool {
	r := float64(a.rate)
	if r >= recall*a.proven {
		a.proven, a.doubt = max(r, a.proven), false
	}
	if a.limit > 0 {
		a.limit = max(r, a.limit)
	}
	return a.rate == a.cap
}

// confirm sets how long to rest after a fall: ever longer while the same limit
// is found again and again.
func (a *adapter) confirm(limit float64) {
	switch {
	case a.phase == leaping:
	case limit >= near*a.limit && limit*near <= a.limit:
		a.pause = min(2*a.pause, restMax)
	default:
		a.pause = rest
	}
}

// fall reduces the rate to what was taken, less a little so that queues empty.
func (a *adapter) fall(took float64, now time.Time) {
	// What was taken before and is not taken now may be a hiccup of a machine;
	// twice in a row, it is less that can be taken.
	if float64(a.rate) <= a.proven {
		if a.doubt {
			a.proven = min(took, a.proven)
		}
		a.doubt = !a.doubt
	}
	least := float64(a.rate) / 4
	if a.phase == leaping {
		least = float64(a.rate) / leap // which was no trouble
	}
	a.set(min(max(margin*took, least), float64(a.rate)), now)
	a.stride, a.strides = probe, 0
	if a.phase != leaping {
		a.phase = probing
		a.quiet = now.Add(a.pause)
		return
	}
	a.phase = climbing
}

// guess is consider for clients of which most send no reports.
func (a *adapter) guess(now time.Time, clients *table) {
	if now.Sub(a.last) < adaptEvery {
		return
	}
	a.last = now
	a.lately += a.sent - a.counted
	a.counted = a.sent
	active, complaining := clients.complaints(now, a.lately*lossLimit)
	a.lately *= adaptDecay
	switch {
	case complaining > 0 && complaining*2 > active:
		if now.Sub(a.reduced) >= adaptRest {
			a.set(max(float64(a.rate)*4/5, float64(min(a.cap/floorPart, startRate))), now)
			a.reduced, a.phase = now, probing
		}
	case a.phase == leaping:
		a.set(float64(a.rate)*5/4+1, now)
	case now.Sub(a.reduced) >= adaptRest:
		a.set(float64(a.rate)+float64(min(a.cap, 8*a.rate))/stepPart+1, now)
	}
}

// mayBegin says whether a chunk that nobody was sent yet may be sent: whether
// the clients have room for it. Most of them must, all those that are as fast as
// most, and the others, as long as that costs little time.
func (a *adapter) mayBegin(now time.Time, clients *table, begins int) bool {
	spent := now.Sub(a.tried)
	a.tried = now
	if a.spending {
		a.patience -= spent
	} else {
		a.patience = min(a.patience+time.Duration(patienceShare*float64(spent)), patienceMax)
	}
	a.spending = false
	voters, full, wait, must := 0, 0, false, false
	for _, e := range clients.rows {
		if !e.here(now) {
			continue
		}
		voters++
		v := &e.view
		if !v.reports(now, a.every) || v.room(begins, now) > int(v.r.Buffers/32) {
			continue
		}
		full++
		wait = wait || !a.lags(e)
		must = must || a.equal(e)
	}
	switch {
	case must || 2*full > voters:
	case wait && a.patience > 0:
		a.spending = true
	default:
		a.closed = time.Time{}
		return true
	}
	if a.closed.IsZero() {
		a.closed = now
	}
	if now.Sub(a.closed) >= closedFor {
		a.closed = now
		return true
	}
	return false
}

// lags says whether a client is left behind: it loses, or has no room for, much
// more than most do.
func (a *adapter) lags(e *entry) bool { return e.view.trouble > a.usual+troubled }

// equal says whether a client installs about as fast as most and loses little:
// waiting for room in it costs nothing in the end.
func (a *adapter) equal(e *entry) bool {
	return float64(e.view.r.Speed) >= alike*a.typical && e.view.loses <= troubled
}

// weigh takes a client's report into account.
func (a *adapter) weigh(e *entry, r wire.Report, rec *recent, clients *table, now time.Time) {
	e.view.report(r, rec, a.step, uint64(a.began), now)
	a.usual = a.median(clients, now, func(v *view) float64 { return v.trouble })
	a.typical = a.median(clients, now, func(v *view) float64 { return float64(v.r.Speed) })
}

// median is the lower median of what the clients report.
func (a *adapter) median(clients *table, now time.Time, of func(*view) float64) float64 {
	a.takes = a.takes[:0]
	for _, e := range clients.rows {
		if e.here(now) && e.view.reports(now, a.every) {
			a.takes = append(a.takes, of(&e.view))
		}
	}
	if len(a.takes) == 0 {
		return 0
	}
	slices.Sort(a.takes)
	return a.takes[(len(a.takes)-1)/2]
}
