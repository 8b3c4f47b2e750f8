package tftp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path"
	"strings"
	"time"

	"github.com/pin/tftp/v3"
)

// Bounds of what is served at once, and for how long a peer may be silent.
const (
	DefaultParallel = 64
	timeout         = time.Second
	retries         = 6
	maxName         = 255
)

// Errors that a peer is told.
var (
	// ErrName is told to whoever asks for what is not a name in the directory.
	ErrName = errors.New("not the name of a file")
	// ErrBusy is told when too many transfers run.
	ErrBusy = errors.New("too many transfers, ask again")
	// ErrReadOnly is told to whoever wants to write.
	ErrReadOnly = errors.New("this service is for reading only")
)

// Config says what to serve.
type Config struct {
	Root *os.Root
	// Make returns a file that is made for who asks; ok is false for names that
	// are those of real files. It may be nil.
	Make func(name string, from netip.Addr) (content []byte, ok bool, err error)
	// Asked is told of every file that is about to be sent, Ended of the end of
	// the transfer, but not where only the size of a file was wanted. Both may be
	// nil.
	Asked    func(name string, from netip.Addr)
	Ended    func(name string, from netip.Addr, bytes int64, err error)
	Parallel int // transfers at once; 0: DefaultParallel
}

// Server serves files.
type Server struct {
	cfg   Config
	slots chan struct{}
}

// New makes a server.
func New(cfg Config) (*Server, error) {
	if cfg.Root == nil {
		return nil, errors.New("tftp: no directory")
	}
	if cfg.Parallel <= 0 {
		cfg.Parallel = DefaultParallel
	}
	return &Server{cfg: cfg, slots: make(chan struct{}, cfg.Parallel)}, nil
}

// Serve answers what comes by conn until ctx ends; then it closes conn, breaks
// off what is being sent, and returns when all of it has ended.
func (s *Server) Serve(ctx context.Context, conn net.PacketConn) error {
	srv := tftp.NewServer(func(name string, rf io.ReaderFrom) error { return s.send(ctx, name, rf) },
		func(string, io.WriterTo) error { return ErrReadOnly })
	srv.SetTimeout(timeout)
	srv.SetRetries(retries)
	done := make(chan error, 1)
	go func() { done <- srv.Serve(conn) }()
	select {
	case err := <-done:
		return fmt.Errorf("tftp: %w", err)
	case <-ctx.Done():
	}
	srv.Shutdown()
	<-done
	return nil
}

// send handles one request.
func (s *Server) send(ctx context.Context, asked string, rf io.ReaderFrom) (err error) {
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	default:
		return ErrBusy
	}
	var from netip.Addr
	out, ok := rf.(tftp.OutgoingTransfer)
	if !ok {
		return errors.New("not a transfer")
	}
	peer := out.RemoteAddr()
	if a, ok := netip.AddrFromSlice(peer.IP); ok {
		from = a.Unmap()
	}
	name, err := Name(asked)
	if err != nil {
		return err
	}
	content, size, err := s.open(name, from)
	if err != nil {
		return err
	}
	defer content.Close()
	out.SetSize(size)
	if s.cfg.Asked != nil {
		s.cfg.Asked(name, from)
	}
	n, err := rf.ReadFrom(&until{ctx, content})
	if s.cfg.Ended != nil && !declined(err) {
		s.cfg.Ended(name, from, n, err)
	}
	return err
}

// declined reports whether the peer said in place of fetching the first block
// that it does not want it: firmware asks for the size in this way, and loaders
// that do not like an option ask again without. The library has no type for it.
func declined(err error) bool {
	return err != nil && strings.HasPrefix(err.Error(), "sending block 0: code=")
}

// open finds what a name stands for.
func (s *Server) open(name string, from netip.Addr) (io.ReadCloser, int64, error) {
	if s.cfg.Make != nil {
		b, ok, err := s.cfg.Make(name, from)
		switch {
		case err != nil:
			return nil, 0, err
		case ok:
			return io.NopCloser(bytes.NewReader(b)), int64(len(b)), nil
		}
	}
	f, err := s.cfg.Root.Open(name)
	if err != nil {
		return nil, 0, fmt.Errorf("%s: no such file", name) // the peer need not know more
	}
	st, err := f.Stat()
	if err != nil || !st.Mode().IsRegular() {
		f.Close()
		return nil, 0, fmt.Errorf("%s: no such file", name)
	}
	return f, st.Size(), nil
}

// until is a reader that ends with a context.
type until struct {
	ctx context.Context
	r   io.Reader
}

func (u *until) Read(p []byte) (int, error) {
	if err := u.ctx.Err(); err != nil {
		return 0, err
	}
	return u.r.Read(p)
}

// Name makes the name of a file in the directory of what firmware asks for:
// with a slash before it, or with those of Windows.
func Name(asked string) (string, error) {
	if len(asked) > maxName || strings.ContainsFunc(asked, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return "", ErrName
	}
	name := path.Clean(strings.TrimLeft(strings.ReplaceAll(asked, `\`, "/"), "/"))
	if name == "." || name == ".." || strings.HasPrefix(name, "../") || strings.HasPrefix(name, "/") {
		return "", ErrName
	}
	return name, nil
}
