package main

import (
	"errors"
	"fmt"
	"runtime"
	"strconv"

	"loadnode/cmd/internal/dropin"
	"loadnode/cmd/internal/getopt"
	"loadnode/transfer/disk/ptable"
	"loadnode/transfer/grow"
	"loadnode/transfer/install"
	"loadnode/transfer/ndz"
)

const usage = `imageunzip [options] IMAGE OUTPUT
imageunzip -C|-N [options] IMAGE

Writes an .ndz image to a disk or file. IMAGE - is stdin, OUTPUT - is stdout. Several images one after the other in
IMAGE are written one over the other.

  -z            make free space zero, to the end of a disk
  -p PATTERN    fill free space with a 32-bit number, such as 0xdeadbeef, to the end of a disk
  -s N          write into partition N of the disk (MBR or GPT), and nowhere else; an image that is larger is refused
  -D TYPE       with -s: set the type of the partition afterwards: a number, a GUID or a name such as linux, swap
  -E            discard free space (TRIM). Alone this promises nothing of its content; with -z it is zero afterwards
  -f            write around the page cache (O_DIRECT)
  -M SECTORS    refuse an image that describes more
  -r N          read again up to N times what could not be read of IMAGE
  -u UUID       refuse chunks of another image than this one (V4 images, 32 hexadecimal digits)
  -C            write nothing, print the CRC-32 of the expanded image (as in gzip and zip; free space as zeros or -p)
  -N            write nothing, do not decompress: check the headers only
  -I            leave free space out of what goes to stdout
  -n            one thread
  -W MEGABYTES  limit of memory for data on its way (0: no limit)
  -o, -O        a dot for each chunk, for each GB
  -d            a line for each chunk
  -v, -h        version, help
  --clip        with -s: of an image that is larger than the partition write what fits, and say how much is lost
  --resize SIZE make the last partition of the disk and its filesystem larger afterwards: 20G, 50%, or 0 for all there is
  --manifest F  check every chunk against a manifest before it is written
  --read-back   read everything again from the medium at the end, and compare
`

const v4 = "encrypted and signed images are not supported: use --manifest to check an image"

func options() []getopt.Option {
	list := []getopt.Option{
		{Name: "p", Arg: true}, {Name: "W", Arg: true}, {Name: "manifest", Arg: true}, {Name: "read-back"},
		{Name: "s", Arg: true}, {Name: "D", Arg: true}, {Name: "u", Arg: true}, {Name: "r", Arg: true}, {Name: "M", Arg: true},
		{Name: "resize", Arg: true}, {Name: "clip"},
		{Name: "c", Refused: v4}, {Name: "a", Refused: v4}, {Name: "e", Refused: v4}, {Name: "k", Refused: v4},
	}
	for _, c := range "dzoOnCNIfE" {
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
	slice            int          // -s, 0 without
	kind             *ptable.Type // -D
	uuid             *[16]byte    // -u
	max              int64        // -M in bytes, 0 without
	retries          int          // -r
	direct, discard  bool
	clip             bool
	size             *grow.Size // --resize
	dots, bigDots    bool
	debug            int
}

// chunkMemory is what a chunk on its way takes: itself and its data, in megabytes.
const chunkMemory = 9

func parse(args []string) (settings, error) {
	s := settings{workers: runtime.GOMAXPROCS(0)}
	operands, err := dropin.Parse(args, options(), s.set)
	if err != nil {
		return s, err
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
	return s, s.agree()
}

// agree looks for options that do not go together.
func (s *settings) agree() error {
	nothing := s.crc || s.headers
	switch {
	case s.kind != nil && s.slice == 0:
		return errors.New("-D sets the type of the partition that -s names")
	case s.clip && s.slice == 0:
		return errors.New("--clip is for partitions: -s")
	case s.clip && (s.readBack || s.max > 0 || s.fill == install.Pattern):
		return errors.New("--clip does not go with --read-back, -M or -p: what is lost could not be told from what is right")
	case s.slice > 0 && (nothing || s.output == "-"):
		return errors.New("-s needs a disk to write to")
	case s.size != nil && s.slice > 0:
		return errors.New("--resize is for images of whole disks, -s for images of partitions")
	case s.size != nil && nothing:
		return errors.New("--resize needs a disk to write to")
	}
	return nil
}

func (s *settings) set(f getopt.Found) (err error) {
	number := func(low, high int64) (n int64) {
		n, err = f.Number(low, high)
		return n
	}
	switch f.Name {
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
	case "f":
		s.direct = true
	case "clip":
		s.clip = true
	case "E":
		s.discard = true
	case "s":
		s.slice = int(number(1, 1<<11-1))
	case "M":
		s.max = number(1, 1<<40-1) * ndz.SectorSize
	case "r":
		s.retries = int(number(0, 1<<16-1))
	case "D":
		t, err := ptable.ParseType(f.Value)
		if err != nil {
			return fmt.Errorf("option -D: %w", err)
		}
		s.kind = &t
	case "u":
		var id [16]byte
		id, err = f.UUID()
		s.uuid = &id
	case "resize":
		size, err := grow.ParseSize(f.Value)
		if err != nil {
			return fmt.Errorf("option --resize: %w", err)
		}
		s.size = &size
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
		if mb := number(0, 1<<31-1); mb > 0 {
			s.workers = max(1, min(s.workers, int(mb)/chunkMemory))
		}
	}
	return err
}
