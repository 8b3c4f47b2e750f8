package main

import (
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"time"

	"loadnode/cmd/internal/dropin"
	"loadnode/cmd/internal/getopt"
	"loadnode/transfer/client"
	"loadnode/transfer/install"
)

const usage = `frisbee -m GROUP -p PORT [options] DISK

Loads an .ndz image from a multicast group onto a disk, or into a file.

  -m ADDRESS    the group; the address of the server for unicast mode
  -p PORT       UDP port
  -i ADDRESS    own address, which chooses the interface
  -S ADDRESS    take the image from this server only
  -z            make free space zero, to the end of a disk
  -T SECONDS    give up when, after joining, no data comes for so long
  -r SECONDS    wait a random time up to this before joining
  -R CHUNKS     how many chunks are on order at a time (default 6)
  -O            ask for chunks in order
  -C MEGABYTES  memory for chunks that arrive (default 64)
  -W MEGABYTES  memory for data on its way to the disk
  -M MEGABYTES  memory in all, instead of -C and -W
  -n            one thread writes
  -f            write past the page cache (O_DIRECT)
  -k KILOBYTES  socket buffer
  -q            no progress
  -d            figures instead of progress
  -v, -h        version, help
  --manifest F  check every chunk against a manifest before it is written
  --read-back   read everything again from the medium at the end, and compare
  --join-timeout SECONDS  give up when no server answers for so long
`

func options() []getopt.Option {
	const (
		slices = "partitions of a disk cannot be chosen yet: give the partition's own device"
		master = "the master server is not supported: ask the image service for group and port"
		v4     = "encrypted and signed images are not supported: use --manifest to check an image"
	)
	refused := map[string]string{
		"b": "broadcast is not supported, use a multicast group",
		"s": slices, "D": slices,
		"F": master, "Q": master, "B": master, "X": master, "P": master,
		"u": v4, "c": v4, "e": v4,
		"N": "storing an image without expanding it is not supported: fetch it by HTTP",
		"I": "a delay of repeated requests is not supported: it follows the server's pace",
		"K": "IGMP keep-alives are not supported: the kernel answers the querier of the network",
		"H": "heartbeats are sent when the server asks for them (its option -H)",
		"t": "packet traces are not supported: use tcpdump", "U": "packet traces are not supported: use tcpdump",
		"E": "an event server is not supported",
	}
	list := []getopt.Option{{Name: "manifest", Arg: true}, {Name: "read-back"}, {Name: "join-timeout", Arg: true}, {Name: "faults", Arg: true}}
	for c, why := range refused {
		list = append(list, getopt.Option{Name: c, Refused: why})
	}
	for _, c := range "mpiSTrRCWMk" {
		list = append(list, getopt.Option{Name: string(c), Arg: true})
	}
	for _, c := range "zOnfqd" {
		list = append(list, getopt.Option{Name: string(c)})
	}
	return list
}

// settings are a command line, understood.
type settings struct {
	output               string
	group, local, server netip.Addr
	port                 uint16
	fill                 install.Fill
	stall, join, delay   time.Duration
	readAhead            int
	inOrder              bool
	memory               int64 // for chunks, bytes
	workers              int
	direct               bool
	buffer               int
	quiet, debug         bool
	manifest             string
	readBack             bool
	faults               *faults // nil: none
}

// dataMemory is what a worker takes for the data of a chunk, in megabytes.
const dataMemory = 9

func parse(args []string) (settings, error) {
	s := settings{workers: min(runtime.GOMAXPROCS(0), 4), memory: client.DefaultMemory}
	operands, err := dropin.Parse(args, options(), s.set)
	if err != nil {
		return s, err
	}
	switch {
	case len(operands) != 1:
		return s, fmt.Errorf("%d operands, want DISK", len(operands))
	case !s.group.IsValid():
		return s, errors.New("option -m is missing: which group?")
	case s.port == 0:
		return s, errors.New("option -p is missing: which port?")
	}
	s.output = operands[0]
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
	seconds := func() time.Duration { return time.Duration(number(0, 1e9)) * time.Second }
	switch f.Name {
	case "m":
		s.group = address()
	case "i":
		s.local = address()
	case "S":
		s.server = address()
	case "p":
		s.port = uint16(number(1, 65535))
	case "z":
		s.fill = install.Zero
	case "T":
		s.stall = seconds()
	case "join-timeout":
		s.join = seconds()
	case "r":
		s.delay = seconds()
	case "R":
		s.readAhead = int(number(1, 1024))
	case "O":
		s.inOrder = true
	case "C":
		s.memory = number(client.MinMemory>>20, 131072) << 20
	case "W":
		s.workers = workersIn(number(1, 131072))
	case "M":
		all := number(client.MinMemory>>20+dataMemory, 131072)
		s.workers = workersIn(all / 2)
		s.memory = (all - int64(s.workers)*dataMemory) << 20
	case "n":
		s.workers = 1
	case "f":
		s.direct = true
	case "k":
		s.buffer = int(number(16, 1<<20)) << 10
	case "q":
		s.quiet = true
	case "d":
		s.debug = true
	case "manifest":
		s.manifest = f.Value
	case "faults":
		s.faults, err = parseFaults(f.Value)
	case "read-back":
		s.readBack = true
	}
	return err
}

// workersIn is how many workers fit into so many megabytes; one always does.
func workersIn(mb int64) int {
	return int(max(1, min(int64(min(runtime.GOMAXPROCS(0), 4)), mb/dataMemory)))
}
