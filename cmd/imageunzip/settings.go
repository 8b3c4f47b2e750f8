package main

import (
	"errors"
	"fmt"
	"runtime"
	"strconv"

	"loadnode/cmd/internal/getopt"
	"loadnode/transfer/install"
)

const usage = `imageunzip [options] IMAGE OUTPUT
imageunzip -C|-N [options] IMAGE

Writes an .ndz image to a disk or file. IMAGE - is stdin, OUTPUT - is stdout. Several images one after the other in
IMAGE are written one over the other.

  -z            make free space zero, to the end of a disk
  -p PATTERN    fill free space with a 32-bit number, such as 0xdeadbeef, to the end of a disk
  -C            write nothing, print the CRC-32 of the expanded image
  -N            write nothing, do not decompress: check the headers only
  -I            leave free space out of what goes to stdout
  -n            one thread
  -W MEGABYTES  limit of memory for data on its way (0: no limit)
  -o, -O        a dot for each chunk, for each GB
  -d            a line for each chunk
  -v, -h        version, help
  --manifest F  check every chunk against a manifest before it is written
  --read-back   read everything again from the medium at the end, and compare
`

const (
	slices    = "partitions of a disk cannot be chosen yet: give the partition's own device"
	v4        = "encrypted and signed images are not supported: use --manifest to check an image"
	notNeeded = "is not supported"
)

func options() []getopt.Option {
	list := []getopt.Option{
		{Name: "p", Arg: true}, {Name: "W", Arg: true}, {Name: "manifest", Arg: true}, {Name: "read-back"},
		{Name: "s", Refused: slices}, {Name: "D", Refused: slices},
		{Name: "c", Refused: v4}, {Name: "a", Refused: v4}, {Name: "e", Refused: v4}, {Name: "k", Refused: v4}, {Name: "u", Refused: v4},
		{Name: "f", Refused: "direct I/O " + notNeeded}, {Name: "E", Refused: "TRIM " + notNeeded},
		{Name: "r", Refused: "retrying reads " + notNeeded}, {Name: "M", Refused: "a highest sector " + notNeeded},
	}
	for _, c := range "vdhzoOnCNI" {
		list = append(list, getopt.Option{Name: string(c)})
	}
	return list
}

// settings are a command line, understood.
type settings struct {
	input, output    string
	fill             install.Fill
	pattern          uint32
	crc, headers     bool
	noGaps, readBack bool
	manifest         string
	workers          int
	help, version    bool
	dots, bigDots    bool
	debug            int
}

// chunkMemory is what a chunk on its way takes: itself and its data, in megabytes.
const chunkMemory = 9

func parse(args []string) (settings, error) {
	s := settings{workers: runtime.GOMAXPROCS(0)}
	found, operands, err := getopt.Parse(args, options())
	if err != nil {
		return s, err
	}
	for _, f := range found {
		if err := s.set(f); err != nil {
			return s, err
		}
	}
	if s.help || s.version {
		return s, nil
	}
	if s.crc && s.headers {
		return s, errors.New("-C needs the data that -N leaves alone")
	}
	want := 2
	if s.crc || s.headers {
		want = 1
	}
	if len(operands) != want {
		return s, fmt.Errorf("%d operands, want %s", len(operands), map[int]string{1: "IMAGE", 2: "IMAGE and OUTPUT"}[want])
	}
	s.input = operands[0]
	if want == 2 {
		s.output = operands[1]
	}
	if s.noGaps && s.output != "-" {
		return s, errors.New("-I is for stdout: elsewhere free space keeps its place")
	}
	return s, nil
}

func (s *settings) set(f getopt.Found) error {
	switch f.Name {
	case "v":
		s.version = true
	case "h":
		s.help = true
	case "d":
		s.debug++
	case "o":
		s.dots = true
	case "O":
		s.bigDots = true
	case "n":
		s.workers = 1
	case "C":
		s.crc = true
	case "N":
		s.headers = true
	case "I":
		s.noGaps = true
	case "read-back":
		s.readBack = true
	case "manifest":
		s.manifest = f.Value
	case "z", "p":
		if s.fill != install.Skip {
			return errors.New("free space can be filled with one thing only: -z or -p")
		}
		s.fill = install.Zero
		if f.Name == "p" {
			v, err := strconv.ParseUint(f.Value, 0, 32)
			if err != nil {
				return fmt.Errorf("option -p %s: want a number of 32 bits", f.Value)
			}
			s.fill, s.pattern = install.Pattern, uint32(v)
		}
	case "W":
		mb, err := strconv.ParseUint(f.Value, 10, 31)
		if err != nil {
			return fmt.Errorf("option -W %s: want megabytes", f.Value)
		}
		if mb > 0 {
			s.workers = max(1, min(s.workers, int(mb)/chunkMemory))
		}
	}
	return nil
}
