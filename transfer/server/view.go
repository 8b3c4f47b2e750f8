package server

import (
	"time"

	"loadnode/transfer/wire"
)

// view is what a server makes of a client's reports (REPORT).
type view struct {
	heard time.Time   // the last report came; zero: none ever did
	r     wire.Report // that was it
	place place
	known bool          // place is
	lag   time.Duration // how long the first block it has not seen is on its way
	low   time.Duration // the least lag lately: the way itself
	took  float64       // bit/s on the wire, which it received between its last two reports
	base  float64       // the part of the blocks it loses at any rate
	first bool          // base was measured
	// trouble is the part of the blocks it loses or has no room for, of late.
	trouble float64
	loses   float64 // the part it loses, of late
	vote    vote
	voted   time.Time
}

// vote is what a client's last report says of the rate.
type vote uint8

const (
	silent vote = iota // nothing
	fine               // it could be higher
	tooFast
)

const (
	// patientLag is how long blocks may wait between server and client: in
	// switches and in the client's receive queue.
	patientLag = 12 * time.Millisecond
	// chanceLoss is by how much the part of lost blocks may grow by chance.
	chanceLoss = 0.03
	// chanceMost is the largest part that can be lost by chance.
	chanceMost = 0.25
	// fillsUp and spills are how much of a receive queue, in 1/1000, may have been
	// in use where the rate shall grow, and where it shall not fall: the rest is
	// for the times in which a receiver is not scheduled.
	fillsUp, spills = 150, 400
	// fewBlocks are too few to judge by.
	fewBlocks = 64
	// troubled is from when on a client counts as lagging behind the others.
	troubled = 0.08
)

// report takes a report of a client. The rate last changed at step, when so many
// blocks had been sent.
func (v *view) report(r wire.Report, rec *recent, step time.Time, began uint64, now time.Time) {
	old, was := v.r, v.place
	again := v.known && r.Clock != old.Clock
	v.heard, v.r, v.vote, v.voted = now, r, silent, now
	if r.LastChunk < 0 {
		v.known = false
		return
	}
	v.place, v.known = rec.find(int(r.LastChunk), int(r.LastBlock))
	if !v.known {
		return // far behind, or a server that was restarted
	}
	lagged := v.lag
	v.lag = 0
	if !v.place.unseen.IsZero() {
		v.lag = now.Sub(v.place.unseen)
	}
	if !again {
		v.low = v.lag
		return
	}
	v.low = min(v.low+(v.lag-v.low)/32, v.lag)
	sent := int64(v.place.seq - was.seq)
	if sent < fewBlocks {
		return // also when it went backwards, by reordering
	}
	got := int64(r.Blocks - old.Blocks)
	loss := max(0, float64(sent-got)/float64(sent))
	noRoom := min(float64(r.NoRoom-old.NoRoom)/float64(sent), 1)
	v.took = float64(got) * WireBlock * 8 / (float64(r.Clock-old.Clock) / 1000)
	v.trouble += (loss + noRoom - v.trouble) / 2
	v.loses += (loss - v.loses) / 2
	if !v.first {
		v.base, v.first = min(loss, chanceMost), true
	}
	// Queues grow where blocks take longer to arrive than they took to be sent.
	stretched := time.Duration(r.Clock-old.Clock)*time.Millisecond > v.place.at.Sub(was.at)*21/20+time.Millisecond
	usual := v.base
	v.base = min(v.base+(loss-v.base)/64, loss, chanceMost)
	fresh := v.place.at.After(step)
	// Blocks of both rates tell little of either.
	pure := fresh && int64(began)-int64(was.seq) <= sent/8
	waits := v.lag - v.low
	switch {
	case waits > patientLag && stretched && (pure || v.lag > lagged+patientLag/2), pure && loss > usual*3/2+chanceLoss,
		fresh && r.Backlog > spills:
		v.vote = tooFast
	case pure && waits <= patientLag && r.Backlog <= fillsUp:
		v.vote = fine
	}
}

// reports says whether the client sends reports, so far as one can tell now.
func (v *view) reports(now time.Time, every time.Duration) bool {
	return !v.heard.IsZero() && now.Sub(v.heard) < max(4*every, time.Second)
}

// room estimates how many more chunks the client can take now: what it had when
// it reported, less what was sent since, and what it will have installed.
func (v *view) room(begins int, now time.Time) int {
	speed := float64(v.r.Speed) / 1000
	if v.r.Speed == 0 {
		speed = 1e6 // not known: no reason to wait for it
	}
	free := float64(v.r.Free) + min(speed*now.Sub(v.heard).Seconds(), float64(v.r.Received-v.r.Done)+float64(begins-v.place.begins))
	if v.known {
		free -= float64(begins - v.place.begins)
	}
	return int(max(free, 0))
}
