package netboot

import (
	"sync"
	"time"
)

// logPause is how often a message is logged that strangers can bring about.
const logPause = 10 * time.Second

// limiter lets each kind of message through once in a while.
type limiter struct {
	mu   sync.Mutex
	last map[string]time.Time
	left map[string]int
}

// allow reports whether a message may be logged now, and how many were left out
// before it.
func (l *limiter) allow(msg string, now time.Time) (left int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.last == nil {
		l.last, l.left = map[string]time.Time{}, map[string]int{}
	}
	if at, there := l.last[msg]; there && now.Sub(at) < logPause {
		l.left[msg]++
		return 0, false
	}
	left = l.left[msg]
	l.last[msg], l.left[msg] = now, 0
	return left, true
}
