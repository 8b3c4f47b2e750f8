package main

import (
	"errors"
	"fmt"
	"strconv"

	"loadnode/cmd/internal/getopt"
	"loadnode/transfer/imagezip"
	"loadnode/transfer/ndz"
)

const usage = `imagezip [options] INPUT OUTPUT
imagezip -i [options] INPUT

Captures the ext2, ext3 or ext4 filesystem on INPUT, without its free space, as an .ndz image. OUTPUT - is stdout.
With -r or -f, INPUT may be anything, and - is stdin.

  -l, -S 131  INPUT must be a Linux filesystem
  -r          raw: save every sector
  -f          file: as -r, and the size need not be a whole number of sectors
  -i          say what would be saved, write nothing
  -z LEVEL    zlib level, 0 to 9 (4)
  -c SECTORS  only so many sectors from the start
  -F SECTORS  shortest run of free sectors to leave out (64)
  -Z          save free runs shorter than that as zeros
  -x          leave out what lies behind the filesystem
  -X          save sectors that cannot be read as zeros
  -D          do not wait until the image is on the medium
  -3          ndz V3, the only version written; -N no relocations, which are never needed here
  -o          a dot for each chunk
  -d          more words; repeat for more
  -v, -h      version, help
  --force     capture a mounted or unclean filesystem all the same
`

const (
	wholeDisk = "partitions of a disk cannot be chosen yet: give the partition's own device, or use -r"
	signature = "delta images and signatures are not supported"
	v4        = "V4 images are not written: the manifest of the image service holds the checksums"
	otherFS   = "this filesystem is not understood: use -r to save every sector"
)

func options() []getopt.Option {
	list := []getopt.Option{
		{Name: "1", Refused: "V1 images cannot describe free space and are not written: V3 is read by every client since 2004"},
		{Name: "z", Arg: true}, {Name: "c", Arg: true}, {Name: "F", Arg: true}, {Name: "S", Arg: true}, {Name: "force"},
		{Name: "s", Refused: wholeDisk}, {Name: "I", Refused: wholeDisk}, {Name: "R", Refused: wholeDisk},
		{Name: "L", Refused: "relocations are not written"},
		{Name: "b", Refused: otherFS}, {Name: "n", Refused: otherFS}, {Name: "M", Refused: otherFS},
		{Name: "H", Refused: signature}, {Name: "U", Refused: signature}, {Name: "P", Refused: signature},
		{Name: "a", Refused: v4}, {Name: "e", Refused: v4}, {Name: "k", Refused: v4}, {Name: "u", Refused: v4},
	}
	for _, c := range "vhdiorflZDN3Xx" {
		list = append(list, getopt.Option{Name: string(c)})
	}
	return list
}

// settings are a command line, understood.
type settings struct {
	options             imagezip.Options
	input, output       string
	help, version, info bool
	dots, noSync        bool
	debug               int
}

func parse(args []string) (settings, error) {
	s := settings{options: imagezip.Options{Level: ndz.DefaultLevel, MinFree: imagezip.DefaultMinFree}}
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
	want := 2
	if s.info {
		want = 1
	}
	if len(operands) < want || len(operands) > 2 {
		return s, fmt.Errorf("%d operands, want %s", len(operands), map[int]string{1: "INPUT", 2: "INPUT and OUTPUT"}[want])
	}
	s.input = operands[0]
	if len(operands) > 1 {
		s.output = operands[1]
	}
	if s.input == "-" && (s.options.Kind != imagezip.Raw && s.options.Kind != imagezip.File || s.info) {
		return s, errors.New("stdin can only be captured with -r or -f, and not with -i")
	}
	return s, nil
}

func (s *settings) set(f getopt.Found) (err error) {
	o := &s.options
	switch f.Name {
	case "v":
		s.version = true
	case "h":
		s.help = true
	case "d":
		s.debug++
	case "i":
		s.info = true
	case "o":
		s.dots = true
	case "D":
		s.noSync = true
	case "r":
		return s.kind(imagezip.Raw)
	case "f":
		return s.kind(imagezip.File)
	case "l":
		return s.kind(imagezip.Ext)
	case "S":
		if f.Value != "131" {
			return fmt.Errorf("option -S %s: only 131 (Linux) is supported: %s", f.Value, otherFS)
		}
		return s.kind(imagezip.Ext)
	case "Z":
		o.ZeroShort = true
	case "X":
		o.SkipErrors = true
	case "x":
		o.OnlyFS = true
	case "force":
		o.Unclean = true
	case "z":
		o.Level, err = strconv.Atoi(f.Value)
		if err != nil || o.Level < 0 || o.Level > 9 {
			return fmt.Errorf("option -z %s: want 0 to 9", f.Value)
		}
		if o.Level == 0 {
			o.Level = ndz.Stored
		}
	case "c":
		o.MaxSectors, err = sectors(f)
		if err == nil && o.MaxSectors == 0 {
			return errors.New("option -c 0: nothing to capture")
		}
	case "F":
		o.MinFree, err = sectors(f)
	}
	return err
}

func (s *settings) kind(k imagezip.Kind) error {
	old := s.options.Kind
	if old != imagezip.Auto && old != k && (old == imagezip.Ext || k == imagezip.Ext) {
		return errors.New("-l and -S exclude -r and -f")
	}
	s.options.Kind = max(old, k) // -f implies -r
	return nil
}

func sectors(f getopt.Found) (uint64, error) {
	n, err := strconv.ParseUint(f.Value, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("option -%s %s: want a number of sectors", f.Name, f.Value)
	}
	return n, nil
}
