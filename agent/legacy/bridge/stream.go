package bridge

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"loadnode/agent/legacy"
)

// transport is the way to one agent and back.
type transport interface {
	// send sends a command as one write, with a number of its own if asked.
	send(numbered bool, c legacy.Command) error
	// receive waits for messages of the agent; its error is the end of the link.
	receive() ([]string, error)
	// close makes receive end.
	close()
	// ignore is the highest number which an agent that is enrolled now shall ignore.
	ignore() int
	// missing counts the agent's messages that are known to be lost.
	missing() int
	// shared says that all agents hear what is sent, and that any of it may be lost.
	shared() bool
}

// stream is a TCP connection: one agent, and nothing is lost.
type stream struct {
	conn   net.Conn
	split  *legacy.Splitter
	answer time.Duration
	buf    []byte

	mu  sync.Mutex
	seq int
}

func newStream(c net.Conn, name, address string, timing Timing) *stream {
	if t, ok := c.(*net.TCPConn); ok {
		_ = t.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: timing.Ping, Interval: timing.Ping / 2, Count: 3})
	}
	return &stream{conn: c, split: legacy.NewSplitter(address, name), answer: timing.Answer, buf: make([]byte, 4096)}
}

func (s *stream) send(numbered bool, c legacy.Command) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if numbered {
		s.seq++
		c.Seq = s.seq
	}
	line, err := c.Line()
	if err != nil {
		return err
	}
	_ = s.conn.SetWriteDeadline(time.Now().Add(s.answer))
	if _, err := s.conn.Write([]byte(line)); err != nil {
		return fmt.Errorf("%w: %w", errLost, err)
	}
	return nil
}

// receive takes the stream apart. What is left when nothing more comes for a moment is a message.
func (s *stream) receive() ([]string, error) {
	for {
		wait := time.Time{}
		if s.split.Pending() {
			wait = time.Now().Add(legacy.QuietTime * time.Millisecond)
		}
		_ = s.conn.SetReadDeadline(wait)
		n, err := s.conn.Read(s.buf)
		texts := s.split.Write(s.buf[:n])
		if err != nil {
			texts = append(texts, s.split.Flush()...)
		}
		var timeout net.Error
		if errors.As(err, &timeout) && timeout.Timeout() {
			err = nil
		}
		if len(texts) > 0 || err != nil {
			return texts, err
		}
	}
}

func (s *stream) close()       { s.conn.Close() }
func (s *stream) ignore() int  { return 0 }
func (s *stream) missing() int { return 0 }
func (s *stream) shared() bool { return false }
