package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"loadnode/transfer/client"
	"loadnode/transfer/install"
	"loadnode/transfer/mcast"
	"loadnode/transfer/ndz"
	"loadnode/transfer/server"
	"loadnode/transfer/wire"
)

// roleVariable makes this program one end of a measurement: its value is the
// role, its argument the configuration. A role says "ready", waits for a line
// ("go"), does its work, until its input ends if it is a server, and prints its
// result.
const roleVariable = "LOADNODE_BENCH_ROLE"

const group = "239.192.99.1"

func play(role string) error {
	in := bufio.NewReader(os.Stdin)
	begin := func() error {
		fmt.Println("ready")
		_, err := in.ReadString('\n')
		return err
	}
	config := []byte(os.Args[1])
	var result any
	var err error
	switch role {
	case "serve":
		var c serving
		if err = json.Unmarshal(config, &c); err == nil {
			result, err = c.play(begin, in)
		}
	case "receive":
		var c receiving
		if err = json.Unmarshal(config, &c); err == nil {
			result, err = c.play(begin)
		}
	case "ask":
		var c asking
		if err = json.Unmarshal(config, &c); err == nil {
			result, err = c.play(begin, in)
		}
	case "install":
		var c installing
		if err = json.Unmarshal(config, &c); err == nil {
			result, err = c.play(begin)
		}
	default:
		err = fmt.Errorf("no such role")
	}
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(result)
}

// cpu is the processor time of this process so far, seconds.
func cpu() float64 {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}

// serving is a process with one session on each port.
type serving struct {
	Local string
	Ports []uint16
	File  string
	Rate  int64 // bit/s, of each session
	Fixed bool
	Link  int64  // bit/s that the sessions share, 0: no bound
	Mode  string // of mcast
	Until uint64 // end when so many blocks were sent; 0: when the input ends
}

// served is what came of it.
type served struct {
	CPU      float64 // seconds, while serving
	Sessions []server.Stats
	Mode     string // in use
}

func (c *serving) play(begin func() error, in io.Reader) (out served, err error) {
	f, err := os.Open(c.File)
	if err != nil {
		return out, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return out, err
	}
	local, err := netip.ParseAddr(c.Local)
	if err != nil {
		return out, err
	}
	shares, err := share(c.Link, len(c.Ports))
	if err != nil {
		return out, err
	}
	var servers []*server.Server
	for i, port := range c.Ports {
		o := mcast.Options{Group: netip.MustParseAddr(group), Port: port, Local: local}
		if err := setMode(&o, c.Mode); err != nil {
			return out, err
		}
		conn, err := server.Listen(o)
		if err != nil {
			return out, err
		}
		defer conn.Close()
		out.Mode = mode(conn)
		s, err := server.New(server.Config{Conn: conn, Image: image{f, st.Size()}, Rate: c.Rate, Fixed: c.Fixed, Limiter: shares[i]})
		if err != nil {
			return out, err
		}
		servers = append(servers, s)
	}
	if err := begin(); err != nil {
		return out, err
	}
	before := cpu()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var all sync.WaitGroup
	for _, s := range servers {
		all.Go(func() { _ = s.Run(ctx) }) // ends with ctx; else the clients' figures show it
	}
	if c.Until > 0 {
		for servers[0].Stats().BlocksSent < c.Until {
			time.Sleep(time.Millisecond)
		}
	} else {
		_, err = io.Copy(io.Discard, in)
	}
	out.CPU = cpu() - before
	cancel()
	all.Wait()
	for _, s := range servers {
		out.Sessions = append(out.Sessions, s.Stats())
	}
	return out, err
}

// image is a file of known size.
type image struct {
	*os.File
	size int64
}

func (i image) Size() int64 { return i.size }

// receiving is a client that loads an image some times in succession.
type receiving struct {
	Local, Server string
	Port          uint16
	Inflate       bool // else chunks are thrown away as they are
	Times         int
}

// received is what came of it.
type received struct {
	Seconds []float64 // of each load
	CPU     float64   // seconds, of all
	Last    client.Progress
}

func (c *receiving) play(begin func() error) (out received, err error) {
	local, err := netip.ParseAddr(c.Local)
	if err != nil {
		return out, err
	}
	from, err := netip.ParseAddr(c.Server)
	if err != nil {
		return out, err
	}
	if err := begin(); err != nil {
		return out, err
	}
	before := cpu()
	for range c.Times {
		o := mcast.Options{Group: netip.MustParseAddr(group), Port: c.Port, Local: local}
		conn, err := mcast.Open(o)
		if err != nil {
			return out, err
		}
		var in client.Installer = discard{}
		if c.Inflate {
			if in, err = install.New(install.Config{Target: null{}}); err != nil {
				return out, err
			}
		}
		cl, err := client.New(client.Config{Conn: conn, Server: from, Installer: in, JoinTimeout: 10 * time.Second, StallTimeout: 30 * time.Second})
		if err != nil {
			return out, err
		}
		st, err := cl.Run(context.Background())
		if err != nil {
			return out, err
		}
		if err := conn.Close(); err != nil {
			return out, err
		}
		out.Seconds = append(out.Seconds, st.Elapsed.Seconds())
		out.Last = st.Progress
	}
	out.CPU = cpu() - before
	return out, nil
}

// asking asks for all chunks of an image again and again until its input ends,
// and takes no block of them.
type asking struct {
	Local, Server string
	Port          uint16
	Chunks        int
}

// askEvery is the time between two requests: less than the fastest server needs
// for a chunk, and enough for a busy one to read them.
const askEvery = 250 * time.Microsecond

func (c *asking) play(begin func() error, in io.Reader) (struct{}, error) {
	none := struct{}{}
	local, err := netip.ParseAddr(c.Local)
	if err != nil {
		return none, err
	}
	to, err := netip.ParseAddr(c.Server)
	if err != nil {
		return none, err
	}
	conn, err := mcast.Open(mcast.Options{Group: netip.MustParseAddr(group), Port: c.Port, Local: local, Ignore: server.Ignore()})
	if err != nil {
		return none, err
	}
	defer conn.Close()
	if err := begin(); err != nil {
		return none, err
	}
	enough := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, in)
		enough <- err
	}()
	tick := time.NewTicker(askEvery)
	defer tick.Stop()
	for i := 0; ; i = (i + 1) % c.Chunks {
		p := wire.Packet{Type: wire.TypeRequest, Subtype: wire.Request, Source: local.As4(), Chunk: int32(i), Count: wire.BlocksPerChunk}
		// To the server alone: the switch may not have noticed yet that it is in the group.
		if err := conn.SendTo(netip.AddrPortFrom(to, c.Port), p.Append(nil)); err != nil {
			return none, err
		}
		select {
		case <-tick.C:
		case err := <-enough:
			return none, err
		}
	}
}

// discard is an Installer that does nothing.
type discard struct{}

func (discard) Install(context.Context, int, []byte) error { return nil }

// null is a disk that is infinitely fast and keeps nothing.
type null struct{}

func (null) ReadAt(b []byte, _ int64) (int, error)  { clear(b); return len(b), nil }
func (null) WriteAt(b []byte, _ int64) (int, error) { return len(b), nil }
func (null) Size() int64                            { return 1 << 50 }
func (null) Fixed() bool                            { return true }
func (null) Extend(int64) error                     { return nil }
func (null) Zero(int64, int64) error                { return nil }
func (null) Sync() error                            { return nil }
func (null) Close() error                           { return nil }

// installing inflates an image from memory to nowhere.
type installing struct {
	File    string
	Workers int
	Times   int
}

// installed is what came of it.
type installed struct{ Seconds, CPU float64 }

func (c *installing) play(begin func() error) (out installed, err error) {
	data, err := os.ReadFile(c.File)
	if err != nil {
		return out, err
	}
	chunks := len(data) / wire.ChunkSize
	if err := begin(); err != nil {
		return out, err
	}
	before, begun := cpu(), time.Now()
	for range c.Times {
		in, err := install.New(install.Config{Target: null{}, Chunks: chunks})
		if err != nil {
			return out, err
		}
		next := make(chan int)
		errs := make(chan error, c.Workers)
		for range c.Workers {
			go func() {
				var err error
				for i := range next {
					if err == nil {
						err = in.Install(context.Background(), i, data[i*ndz.ChunkSize:(i+1)*ndz.ChunkSize])
					}
				}
				errs <- err
			}()
		}
		for i := range chunks {
			next <- i
		}
		close(next)
		for range c.Workers {
			if err := <-errs; err != nil {
				return out, err
			}
		}
	}
	return installed{time.Since(begun).Seconds(), cpu() - before}, nil
}
