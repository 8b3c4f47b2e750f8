package mcast

// arrivals are the datagrams on their way to an end of a Network, and those
// which have arrived and wait in its receive queue. Times only go forward.
type arrivals struct {
	line     []arrival // in the order of arrival
	head     int       // what is before it was taken
	here     int       // what is before it has arrived
	waiting  int       // have arrived and were not dropped
	overruns uint64
}

// arrival is a datagram and when it arrives. Without data it was dropped.
type arrival struct {
	at int64
	d  Datagram
}

// put adds a datagram that arrives at a time, which is not before now.
func (a *arrivals) put(now, at int64, d Datagram, limit int) {
	if at <= now && a.here == len(a.line) && a.waiting >= limit {
		a.overruns++ // nobody may ever take: do not collect what is dropped
		return
	}
	a.line = append(a.line, arrival{at, d})
	// Late ones are few and not late by much, so the place is near.
	for i := len(a.line) - 1; i > a.here && a.line[i-1].at > at; i-- {
		a.line[i], a.line[i-1] = a.line[i-1], a.line[i]
	}
}

// admit moves what has arrived into the receive queue, so far as that holds it.
func (a *arrivals) admit(now int64, limit int) {
	for a.here < len(a.line) && a.line[a.here].at <= now {
		if a.waiting < limit {
			a.waiting++
		} else {
			a.line[a.here].d = Datagram{}
			a.overruns++
		}
		a.here++
	}
}

// take removes what waits.
func (a *arrivals) take(now int64, ds []Datagram, limit int) (n int) {
	a.admit(now, limit)
	for n < len(ds) && a.head < a.here {
		if d := &a.line[a.head].d; d.Data != nil {
			ds[n] = *d
			*d = Datagram{}
			a.waiting--
			n++
		}
		a.head++
	}
	switch {
	case a.head == len(a.line):
		a.line, a.head, a.here = a.line[:0], 0, 0
	case a.head > 4096 && a.head > len(a.line)/2:
		k := copy(a.line, a.line[a.head:])
		clear(a.line[k:])
		a.line, a.here, a.head = a.line[:k], a.here-a.head, 0
	}
	return n
}

// next is when the next datagram arrives.
func (a *arrivals) next() (at int64, ok bool) {
	if a.here == len(a.line) {
		return 0, false
	}
	return a.line[a.here].at, true
}
