package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"time"

	"loadnode/cmd/internal/dropin"
	"loadnode/transfer/mcast"
	"loadnode/transfer/ndz"
	"loadnode/transfer/server"
)

// Exit codes of the original server (§4).
const (
	exitOK    = 0
	exitUsage = 1
	exitPort  = 98
	exitFatal = 255
)

func main() { dropin.Main(run) }

var about = dropin.About{Name: "frisbeed", Speaks: "Frisbee subtypes 1 to 8", Usage: usage, Mistake: exitUsage}

// run is the whole program. It returns the exit code.
func run(ctx context.Context, args []string, std dropin.Streams) int {
	s, err := parse(args)
	if err != nil {
		return about.Explain(err, std)
	}
	err = s.serve(ctx, std.Err)
	if err == nil {
		return exitOK
	}
	about.Fail(ctx, err, std)
	switch {
	case errors.Is(err, mcast.ErrPortInUse):
		return exitPort
	case errors.Is(err, errUsage), errors.Is(err, mcast.ErrOptions), errors.Is(err, server.ErrConfig):
		return exitUsage
	}
	return exitFatal
}

// errUsage is a mistake of the caller, such as an image that is not there.
var errUsage = errors.New("cannot serve")

// serve runs a session to its end, which is an error unless it was asked for.
func (s *settings) serve(ctx context.Context, stderr io.Writer) error {
	f, err := os.Open(s.image)
	if err != nil {
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	if !st.Mode().IsRegular() {
		return fmt.Errorf("%w: %s is not a regular file", errUsage, s.image)
	}
	check, err := s.checker(f, st.Size())
	if err != nil {
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	conn, err := s.listen()
	if err != nil {
		return err
	}
	defer conn.Close()
	cfg := server.Config{Conn: conn, Image: image{f, st.Size(), s.piece}, Rate: s.rate, Fixed: !s.dynamic, Burst: s.burst,
		Idle: s.idle, UntilLeft: s.untilLeft, Check: check, AskProgress: s.ask}
	srv, err := server.New(cfg)
	if err != nil {
		return fmt.Errorf("%s: %w", s.image, err)
	}
	fmt.Fprintf(stderr, "serving %s (%d chunks) on %v from %v\n", s.image, srv.Stats().Chunks, conn.Group(), conn.Addr().Addr())
	if s.addressFile != "" {
		if err := os.WriteFile(s.addressFile, []byte(conn.Group().String()+"\n"), 0o666); err != nil {
			return err
		}
	}
	begin := time.Now()
	err = s.run(ctx, srv, conn, stderr)
	s.summary(stderr, srv, time.Since(begin))
	switch {
	case errors.Is(err, server.ErrIdle), errors.Is(err, server.ErrAllLeft):
		fmt.Fprintf(stderr, "ended: %v\n", err)
		return nil
	case errors.Is(err, context.Canceled):
		return nil
	}
	return err
}

// run is the session, and what keeps its place in the group beside it.
func (s *settings) run(ctx context.Context, srv *server.Server, conn mcast.Conn, stderr io.Writer) error {
	r, ok := conn.(mcast.Rejoiner)
	if !ok || s.keepAlive == 0 {
		return srv.Run(ctx)
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(s.keepAlive)
		defer tick.Stop()
		heard := func() uint64 {
			st := srv.Stats()
			return st.Joins + st.Leaves + st.Requests + st.PartialRequests + st.Reports + st.Undecodable + st.BadSource
		}
		if err := keepAlive(ctx, tick.C, heard, r.Rejoin); err != nil {
			fmt.Fprintf(stderr, "frisbeed: no more keep-alives: %v\n", err)
		}
	}()
	err := srv.Run(ctx)
	cancel()
	<-done
	return err
}

// keepAliveTries is after how many errors in a row keep-alives end (§4).
const keepAliveTries = 6

// keepAlive joins the group again whenever nothing was heard between two ticks.
// It gives the last error when it gives up, nil at the end of ctx.
func keepAlive(ctx context.Context, tick <-chan time.Time, heard func() uint64, rejoin func() error) error {
	for last, failed := heard(), 0; ; {
		select {
		case <-ctx.Done():
			return nil
		case <-tick:
		}
		now := heard()
		if now != last {
			last = now
			continue
		}
		if err := rejoin(); err == nil {
			failed = 0
		} else if failed++; failed == keepAliveTries {
			return err
		}
	}
}

// image is a file with the size it had at the start, read in pieces.
type image struct {
	*os.File
	size  int64
	piece int
}

func (i image) Size() int64 { return i.size }

// ReadAt reads as the file, no more than a piece at a time.
func (i image) ReadAt(b []byte, off int64) (n int, err error) {
	for n < len(b) && err == nil {
		var k int
		k, err = i.File.ReadAt(b[n:min(n+i.piece, len(b))], off+int64(n))
		n += k
	}
	return n, err
}

// checker gives what is checked of each chunk before it is sent, after a look
// at the whole file.
func (s *settings) checker(f *os.File, size int64) (func(int, []byte) error, error) {
	if s.manifest != "" {
		m, err := dropin.Manifest(s.manifest)
		if err != nil {
			return nil, err
		}
		if m.Size != size {
			return nil, fmt.Errorf("%s has %d bytes, the manifest says %d", s.image, size, m.Size)
		}
		return m.CheckChunk, nil
	}
	if s.raw {
		return nil, nil
	}
	if _, err := ndz.Inspect(f, size); err != nil {
		return nil, fmt.Errorf("%s: %w (--raw serves any file of whole chunks)", s.image, err)
	}
	return func(_ int, chunk []byte) error {
		_, err := ndz.ParseHeader(chunk)
		return err
	}, nil
}

// anyPortTries bounds the search for a free port.
const anyPortTries = 100

// listen opens the group on the first port that is free.
func (s *settings) listen() (mcast.Conn, error) {
	o := mcast.Options{Group: s.group, Local: s.local, ReadBuffer: s.buffer, WriteBuffer: s.buffer}
	if s.low == 0 {
		var err error
		for range anyPortTries {
			o.Port = uint16(1024 + rand.IntN(65536-1024))
			var c mcast.Conn
			if c, err = server.Listen(o); !errors.Is(err, mcast.ErrPortInUse) {
				return c, err
			}
		}
		return nil, err
	}
	for port := int(s.low); ; port++ {
		o.Port = uint16(port)
		c, err := server.Listen(o)
		if !errors.Is(err, mcast.ErrPortInUse) || port == int(s.high) {
			return c, err
		}
	}
}

func (s *settings) summary(w io.Writer, srv *server.Server, took time.Duration) {
	st := srv.Stats()
	fmt.Fprintf(w, "%d blocks sent in %.1f s (%d more than once), %d joins, %d requests, %d of them partial\n",
		st.BlocksSent, took.Seconds(), st.Resent, st.Joins, st.Requests+st.PartialRequests, st.PartialRequests)
	if !s.debug {
		return
	}
	fmt.Fprintf(w, "rate now %d bit/s, reduced %d times; ignored: %d undecodable, %d with a wrong source, %d out of range, %d empty\n",
		st.Rate, st.Reductions, st.Undecodable, st.BadSource, st.OutOfRange, st.Empty)
	for _, c := range srv.Clients() {
		state := "left after " + c.Elapsed.String()
		if c.Left.IsZero() {
			state = "last heard " + c.LastSeen.Format(time.TimeOnly)
		}
		fmt.Fprintf(w, "client %v id %#x: %d requests for %d blocks, %d again; %s\n", c.Addr, c.ID, c.Requests, c.Blocks, c.Repairs, state)
	}
}
