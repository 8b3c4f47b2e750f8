package handler_test

import (
	"sync"
	"time"
)

// leaping is a clock that goes on like the system's and can leap ahead.
type leaping struct {
	mu      sync.Mutex
	ahead   time.Duration
	waiting map[*time.Timer]*leapTimer
}

type leapTimer struct {
	due time.Time
	d   time.Duration
	c   chan time.Time
}

func newLeaping() *leaping { return &leaping{waiting: map[*time.Timer]*leapTimer{}} }

func (l *leaping) Now() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return time.Now().Add(l.ahead)
}

func (l *leaping) After(d time.Duration) <-chan time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	w := &leapTimer{due: time.Now().Add(l.ahead + d), d: d, c: make(chan time.Time, 1)}
	var t *time.Timer
	t = time.AfterFunc(max(d, 0), func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.fire(t)
	})
	l.waiting[t] = w
	return w.c
}

// fire is called with l.mu held.
func (l *leaping) fire(t *time.Timer) {
	if w := l.waiting[t]; w != nil {
		delete(l.waiting, t)
		w.c <- time.Now().Add(l.ahead)
	}
}

// leap moves the time ahead; whoever waited for a time before then wakes up.
func (l *leaping) leap(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ahead += d
	now := time.Now().Add(l.ahead)
	for t, w := range l.waiting {
		if !w.due.After(now) {
			t.Stop()
			l.fire(t)
		}
	}
}

// waits reports whether somebody waits for a time of such a length.
func (l *leaping) waits(least, most time.Duration) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, w := range l.waiting {
		if w.d >= least && w.d <= most {
			return true
		}
	}
	return false
}

// forget drops whoever waits: those of a handler that has ended are there
// still.
func (l *leaping) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for t := range l.waiting {
		t.Stop()
	}
	clear(l.waiting)
}
