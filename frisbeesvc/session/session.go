package session

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"time"

	"loadnode/transfer/mcast"
	"loadnode/transfer/server"
)

// recently is how long after its last word a client counts as present.
const recently = 30 * time.Second

// Image is what is sent. Check is asked about every chunk that was read,
// before any of it leaves.
type Image interface {
	io.ReaderAt
	Size() int64
	Check(chunk int, data []byte) error
}

// Config says what is sent where.
type Config struct {
	Image   Image
	Address Address
	Local   netip.Addr // own address; chooses the interface
	Rate    int64      // bit/s on the wire; 0: server.DefaultRate
	// Limiter is the session's share of the link; nil if it has the link for itself.
	Limiter server.Limiter
	// Listen opens the group; server.Listen if nil.
	Listen func(mcast.Options) (mcast.Conn, error)
}

// Session is an image on its address. It neither ends by itself when nobody
// listens, nor owns the image.
type Session struct {
	conn   mcast.Conn
	server *server.Server
	cancel context.CancelFunc
	done   chan struct{}
	err    error
}

// Start opens the address and begins to serve. A busy port is
// mcast.ErrPortInUse.
func Start(cfg Config) (*Session, error) {
	listen := cfg.Listen
	if listen == nil {
		listen = server.Listen
	}
	conn, err := listen(mcast.Options{Group: cfg.Address.Group, Port: cfg.Address.Port, Local: cfg.Local})
	if err != nil {
		return nil, fmt.Errorf("serve on %v: %w", cfg.Address, err)
	}
	srv, err := server.New(server.Config{Conn: conn, Image: cfg.Image, Rate: cfg.Rate, Limiter: cfg.Limiter, Check: cfg.Image.Check})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("serve on %v: %w", cfg.Address, err), conn.Close())
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &Session{conn: conn, server: srv, cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(s.done)
		s.err = srv.Run(ctx)
	}()
	return s, nil
}

// Done is closed when the session has ended.
func (s *Session) Done() <-chan struct{} { return s.done }

// Err is why the session has ended, after Done: nil after Close, a
// *server.DamagedError when a chunk was bad.
func (s *Session) Err() error {
	<-s.done
	if errors.Is(s.err, context.Canceled) {
		return nil
	}
	return s.err
}

// Close ends the session, waits for it and frees its address.
func (s *Session) Close() error {
	s.cancel()
	err := s.conn.Close() // wakes whoever waits on it
	<-s.done
	return err
}

// Stats are the counters of the server.
func (s *Session) Stats() server.Stats { return s.server.Stats() }

// Heard grows whenever a client says anything.
func (s *Session) Heard() uint64 {
	st := s.server.Stats()
	return st.Joins + st.Leaves + st.Requests + st.PartialRequests + st.Reports
}

// Clients is how many clients that have not left were heard lately.
func (s *Session) Clients() int {
	n, since := 0, time.Now().Add(-recently)
	for _, c := range s.server.Clients() {
		if c.Left.IsZero() && c.LastSeen.After(since) {
			n++
		}
	}
	return n
}
