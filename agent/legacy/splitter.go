package legacy

import (
	"bytes"
	"strings"
)

// MaxBuffer bounds what a Splitter keeps, in bytes. An agent that says more without beginning a new message is no agent.
const MaxBuffer = 16 << 10

// QuietTime is how long a stream must be silent for its last message to count as complete, in milliseconds: agents send
// the pieces of a message in one write (§a.2).
const QuietTime = 80

// Splitter takes the stream of one agent apart into messages. They have no terminator and come glued: a message ends
// where the next one begins, where the stream ends, or when nothing more comes (§a.2).
type Splitter struct {
	senders []string
	buf     []byte
}

// NewSplitter makes a Splitter for an agent that signs with one of the names: its address, its name, its aliases. Names
// are compared as they are, since digits of the message before may be glued in front.
func NewSplitter(senders ...string) *Splitter { return &Splitter{senders: senders} }

// Write takes bytes of the stream and gives the messages that are complete because another one began behind them.
func (s *Splitter) Write(p []byte) []string {
	s.buf = append(s.buf, p...)
	out := s.split(false)
	if len(s.buf) > MaxBuffer {
		out = append(out, s.Flush()...)
	}
	return out
}

// Flush gives what is left: call it when the stream has been quiet for QuietTime, and at its end.
func (s *Splitter) Flush() []string {
	out := s.split(true)
	if rest := strings.Trim(string(s.buf), " \r\n\t\x00"); rest != "" {
		out = append(out, rest)
	}
	s.buf = s.buf[:0]
	return out
}

// Pending says whether something waits to be flushed.
func (s *Splitter) Pending() bool { return len(s.buf) > 0 }

// split cuts off the messages whose end is known. At the end of the stream (final) a quote that nobody closes was
// none: a single word may contain one (§a.3).
func (s *Splitter) split(final bool) []string {
	var out []string
	for {
		n := s.next(final)
		if n < 0 {
			return out
		}
		if text := strings.Trim(string(s.buf[:n]), " \r\n\t\x00"); text != "" {
			out = append(out, text)
		}
		s.buf = s.buf[:copy(s.buf, s.buf[n:])]
	}
}

// next is where the second message in the buffer begins, -1 if that is not known.
func (s *Splitter) next(final bool) int {
	b := s.buf
	from := 0
	if s.starts(b) {
		from = 1
	}
	closes := true // somewhere behind here a string may end
	for i := from; i < len(b); i++ {
		if closes && b[i] == '"' && i > 0 && b[i-1] == ' ' {
			end := s.closing(i)
			switch {
			case end >= 0:
				i = end
				continue
			case !final:
				return -1 // its end may still come
			}
			closes = false
		}
		if s.starts(b[i:]) {
			return i
		}
	}
	return -1
}

// closing is the index of the quote that closes the string which opens at open, -1 if there is none. It is followed
// by a blank, the end, or another message; others are part of the string.
func (s *Splitter) closing(open int) int {
	b := s.buf
	for i := open + 1; i < len(b); i++ {
		if b[i] != '"' || b[i-1] == '\\' {
			continue
		}
		if rest := b[i+1:]; len(rest) == 0 || rest[0] == ' ' || rest[0] == '\n' || s.starts(rest) {
			return i
		}
	}
	return -1
}

// starts says whether a message begins here: <known sender> <integer> <WORD>, and then a blank, the end, or another
// message.
func (s *Splitter) starts(b []byte) bool {
	after, ok := s.head(b)
	if !ok || len(after) == 0 || after[0] == ' ' || after[0] == '\n' {
		return ok
	}
	_, ok = s.head(after)
	return ok
}

// head gives what follows <known sender> <integer> <WORD>.
func (s *Splitter) head(b []byte) (after []byte, ok bool) {
	for _, sender := range s.senders {
		rest, ok := bytes.CutPrefix(b, []byte(sender+" "))
		if !ok {
			continue
		}
		n := 0
		for n < len(rest) && (rest[n] >= '0' && rest[n] <= '9' || n == 0 && rest[n] == '-') {
			n++
		}
		if n == 0 || n > 11 || n == len(rest) || rest[n] != ' ' {
			continue
		}
		for _, w := range words {
			if after, ok := bytes.CutPrefix(rest[n+1:], []byte(w)); ok {
				return after, true
			}
		}
	}
	return nil, false
}
