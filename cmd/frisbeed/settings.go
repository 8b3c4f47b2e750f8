package main

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"loadnode/cmd/internal/dropin"
	"loadnode/cmd/internal/getopt"
	"loadnode/transfer/server"
	"loadnode/transfer/wire"
)

const usage = `frisbeed -m GROUP -p PORT [options] IMAGE

Serves an .ndz image to a multicast group, or to one client in unicast mode.

  -m ADDRESS    the group; the address of the client for unicast mode
  -p PORT       UDP port; LOW-HIGH takes the first free one, 0 any
  -i ADDRESS    own address, which chooses the interface
  -W RATE       so many bit/s on the wire, all overheads counted (default 300000000)
  -B BLOCKS     with -G, without -W: so many blocks at a time (default 16)
  -G MICROSEC   and as long from each time to the next (default 2000); 0 sends
                without any pacing
  -D            adapt the rate to what the clients lose and have room for, up to
                that of -W, or of -B and -G; without it the rate is fixed
  -T SECONDS    end after so long without requests (default 1800); 0 never;
                negative: when the last client has left
  -R BLOCKS     read so many blocks of the image at a time (default: a chunk, 1024);
                chunks are read ahead in any case
  -K SECONDS    when nothing was heard for so long, join the group again, so that
                switches without a querier remember it
  -k KILOBYTES  socket buffers
  -A FILE       write ADDRESS:PORT of the group to a file when serving
  -H SECONDS    ask clients for their progress
  -d            say more
  -v, -h        version, help
  --manifest F  check every chunk against a manifest before it is sent
  --raw         serve a file that is not an .ndz image
`

func options() []getopt.Option {
	refused := map[string]string{
		"b": "broadcast is not supported, use a multicast group",
		"L": "is not supported (the original parses and ignores it)",
		"t": "packet traces are not supported: use tcpdump",
		"E": "an event server is not supported",
		"S": "the master server is not supported: use the image service",
	}
	list := []getopt.Option{{Name: "manifest", Arg: true}, {Name: "raw"}}
	for c, why := range refused {
		list = append(list, getopt.Option{Name: c, Refused: why})
	}
	for _, c := range "mpiWBGTRKkAH" {
		list = append(list, getopt.Option{Name: string(c), Arg: true})
	}
	for _, c := range "Dd" {
		list = append(list, getopt.Option{Name: string(c)})
	}
	return list
}

// settings are a command line, understood.
type settings struct {
	image        string
	group, local netip.Addr
	low, high    uint16 // ports; 0 and 0 for any
	rate         int64
	burst        int
	gap          time.Duration
	dynamic      bool
	piece        int // bytes of a read
	keepAlive    time.Duration
	idle         time.Duration
	untilLeft    bool
	buffer       int
	addressFile  string
	ask          time.Duration
	manifest     string
	raw          bool
	debug        bool
}

func parse(args []string) (settings, error) {
	s := settings{burst: 16, gap: 2 * time.Millisecond, idle: 30 * time.Minute, piece: wire.ChunkSize}
	given := map[string]bool{}
	operands, err := dropin.Parse(args, options(), func(f getopt.Found) error {
		given[f.Name] = true
		return s.set(f)
	})
	if err != nil {
		return s, err
	}
	switch {
	case len(operands) != 1:
		return s, fmt.Errorf("%d operands, want IMAGE", len(operands))
	case !s.group.IsValid():
		return s, errors.New("option -m is missing: which group?")
	case !given["p"]:
		return s, errors.New("option -p is missing: which port?")
	}
	if !given["W"] && (given["B"] || given["G"]) {
		s.rate = server.BurstRate(s.burst, s.gap)
	} else {
		s.burst = 0
	}
	s.image = operands[0]
	return s, nil
}

func (s *settings) set(f getopt.Found) (err error) {
	number := func(low, high int64) (n int64) {
		n, err = f.Number(low, high)
		return n
	}
	address := func() (a netip.Addr) {
		a, err = f.IPv4()
		return a
	}
	switch f.Name {
	case "m":
		s.group = address()
	case "i":
		s.local = address()
	case "p":
		low, high, isRange := strings.Cut(f.Value, "-")
		l, e1 := strconv.ParseUint(low, 10, 16)
		h, e2 := l, error(nil)
		if isRange {
			h, e2 = strconv.ParseUint(high, 10, 16)
		}
		if e1 != nil || e2 != nil || l > h || isRange && l == 0 {
			return fmt.Errorf("option -p %s: want a port, LOW-HIGH or 0", f.Value)
		}
		s.low, s.high = uint16(l), uint16(h)
	case "W":
		s.rate = number(1000, 1e12)
	case "B":
		s.burst = int(number(1, 1e6))
	case "G":
		s.gap = time.Duration(number(0, 1e9)) * time.Microsecond
	case "T":
		n := number(-1e9, 1e9)
		s.untilLeft = n < 0
		s.idle = time.Duration(max(n, 0)) * time.Second
	case "D":
		s.dynamic = true
	case "R":
		s.piece = int(number(1, wire.BlocksPerChunk)) * wire.BlockSize
	case "K":
		s.keepAlive = time.Duration(number(0, 1e9)) * time.Second
	case "k":
		s.buffer = int(number(16, 1<<20)) << 10
	case "A":
		s.addressFile = f.Value
	case "H":
		s.ask = time.Duration(number(1, 86400)) * time.Second
	case "manifest":
		s.manifest = f.Value
	case "raw":
		s.raw = true
	case "d":
		s.debug = true
	}
	return err
}
