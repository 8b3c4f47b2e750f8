package server

import (
	"net/netip"
	"time"

	"loadnode/transfer/wire"
)

// maxClients bounds the table; it is statistics, and clients that do not fit
// are served like all others (§4).
const maxClients = 1024

// activeFor is how long after its last datagram a client counts as active.
const activeFor = 5 * time.Second

// ClientInfo is what a server knows about one client.
type ClientInfo struct {
	Addr netip.Addr
	// ID is what the client called itself when it joined; 0 for one whose join
	// was not heard, for instance by a server which was restarted.
	ID       uint32
	Joined   time.Time // zero if its join was not heard
	LastSeen time.Time
	Left     time.Time // zero while it is there
	// Elapsed is what the client says it took.
	Elapsed time.Duration
	// Requests counts datagrams, Blocks what they asked for, Repairs those
	// blocks of them that had been sent while the client was listening.
	Requests, Blocks, Repairs uint64
	// Progress as reported, if the client reports it: chunks received and
	// installed, bytes written.
	ChunksReceived, ChunksInstalled uint32
	BytesWritten                    uint64
	// Stats is the client's last word (LEAVE2); Version 0 means there was none.
	Stats wire.Stats
}

// entry is a row of the table.
type entry struct {
	ClientInfo
	// came is when this client, by its id, joined for the first time: it may
	// repeat that after an outage. Zero if its join was not heard.
	came   time.Time
	asked  time.Time // for reports, the last time
	asks   int       // how often
	losses float64   // repairs, decaying
	missed int       // chunks that had been begun when it came
	round  uint64    // of the plan's clock, when it came
	view   view
}

// here says whether the client is active.
func (e *entry) here(now time.Time) bool {
	return e.Left.IsZero() && now.Sub(e.LastSeen) < activeFor
}

type key struct {
	addr netip.Addr
	id   uint32
}

// table holds the clients. It is guarded by Server.mu.
type table struct {
	rows   map[key]*entry
	latest map[netip.Addr]*entry // requests carry no id: they count for the last who joined
	joined bool                  // somebody ever did
}

func newTable() *table {
	return &table{rows: map[key]*entry{}, latest: map[netip.Addr]*entry{}}
}

// join notes a join; a client that repeats it has not been listening before.
func (t *table) join(addr netip.Addr, id uint32, now time.Time) *entry {
	e := t.row(addr, id, now)
	if e.came.IsZero() {
		e.came = now
	}
	e.Joined, e.LastSeen, e.Left = now, now, time.Time{}
	t.latest[addr] = e
	t.joined = true
	return e
}

// touch notes a sign of life and gives the row.
func (t *table) touch(addr netip.Addr, now time.Time) *entry {
	e := t.latest[addr]
	if e == nil {
		e = t.row(addr, 0, now)
		t.latest[addr] = e
	}
	e.LastSeen = now
	return e
}

// leave notes that a client is done.
func (t *table) leave(addr netip.Addr, id uint32, elapsed time.Duration, now time.Time) *entry {
	e := t.row(addr, id, now)
	e.LastSeen, e.Left, e.Elapsed = now, now, elapsed
	if l := t.latest[addr]; l != nil && l.ID == 0 && l != e {
		l.Left = now // the nameless one was this one
	}
	return e
}

func (t *table) row(addr netip.Addr, id uint32, now time.Time) *entry {
	k := key{addr, id}
	if e := t.rows[k]; e != nil {
		return e
	}
	if len(t.rows) >= maxClients {
		t.evict()
	}
	e := &entry{ClientInfo: ClientInfo{Addr: addr, ID: id, LastSeen: now}}
	t.rows[k] = e
	return e
}

// evict makes room: first who has left, then who was silent longest.
func (t *table) evict() {
	var worst *entry
	for _, e := range t.rows {
		if worst == nil || e.expendable(worst) {
			worst = e
		}
	}
	delete(t.rows, key{worst.Addr, worst.ID})
	if t.latest[worst.Addr] == worst {
		delete(t.latest, worst.Addr)
	}
}

// expendable says whether e should be forgotten rather than o.
func (e *entry) expendable(o *entry) bool {
	if gone := !e.Left.IsZero(); gone != !o.Left.IsZero() {
		return gone
	}
	return e.LastSeen.Before(o.LastSeen)
}

// remaining counts the clients that have not left, of those seen after t.
func (t *table) remaining(after time.Time) int {
	n := 0
	for _, e := range t.rows {
		if e.Left.IsZero() && e.LastSeen.After(after) {
			n++
		}
	}
	return n
}

// complaints counts the active clients and those among them which asked for
// more than limit blocks again lately, and ages the counts.
func (t *table) complaints(now time.Time, limit float64) (active, complaining int) {
	for _, e := range t.rows {
		if e.here(now) {
			active++
			if e.losses > limit && e.losses >= 1 {
				complaining++
			}
		}
		e.losses *= adaptDecay
	}
	return active, complaining
}

// count counts the active clients which send reports, and those which do not.
func (t *table) count(now time.Time, every time.Duration) (reporting, mute int) {
	for _, e := range t.rows {
		switch {
		case !e.here(now):
		case e.view.reports(now, every):
			reporting++
		default:
			mute++
		}
	}
	return reporting, mute
}

func (t *table) list() []ClientInfo {
	out := make([]ClientInfo, 0, len(t.rows))
	for _, e := range t.rows {
		out = append(out, e.ClientInfo)
	}
	return out
}
