package legacy

// MaxSent is how many numbered commands or messages a sender keeps for those that missed them. The original controller
// keeps as many, for a whole session, and falls silent then (§a.2); here the oldest gives way.
const MaxSent = 200

// Sent numbers what one end of the multicast transport says, from 1, and keeps the last MaxSent for repetition (§a.7).
type Sent[T any] struct {
	last int
	kept []T
}

// Add gives the next thing its number.
func (s *Sent[T]) Add(thing T) (seq int) {
	if len(s.kept) == MaxSent {
		s.kept = append(s.kept[:0], s.kept[1:]...)
	}
	s.kept = append(s.kept, thing)
	s.last++
	return s.last
}

// Next is the number that Add will give.
func (s *Sent[T]) Next() int { return s.last + 1 }

// Last is the number that was given last; 0: none.
func (s *Sent[T]) Last() int { return s.last }

// Get is what has a number, if it is still kept.
func (s *Sent[T]) Get(seq int) (thing T, ok bool) {
	i := seq - (s.last - len(s.kept)) - 1
	if i < 0 || i >= len(s.kept) {
		return thing, false
	}
	return s.kept[i], true
}

// window is how far back Received can tell a late message from a repeated one.
const window = 64

// Received follows the numbers of one sender on the multicast transport. Other than the original, which throws away all
// that follows a gap (§a.7), it takes whatever it has not had, and counts what is missing.
type Received struct {
	last    int
	had     uint64 // bit i: last-i has come
	missing int
}

// Take says whether the message with this number is new. Numbers below 1 say nothing and are never new.
func (r *Received) Take(seq int) (fresh bool) {
	switch back := r.last - seq; {
	case seq < 1 || back >= window:
		return false
	case back < 0:
		r.Expect(seq)
		r.had |= 1
		r.missing--
		return true
	case r.had&(1<<back) != 0:
		return false
	default:
		r.had |= 1 << back
		r.missing--
		return true
	}
}

// Expect notes that the sender has said seq messages: those that have not come are missing.
func (r *Received) Expect(seq int) {
	if ahead := seq - r.last; ahead > 0 {
		if ahead >= window {
			r.had = 0
		} else {
			r.had <<= ahead
		}
		r.missing += ahead
		r.last = seq
	}
}

// Last is the highest number known.
func (r *Received) Last() int { return r.last }

// Missing is how many messages have not come, although others or the sender's own count say that they were sent.
func (r *Received) Missing() int { return r.missing }
