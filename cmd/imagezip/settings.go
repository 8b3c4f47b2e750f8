package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"loadnode/cmd/internal/dropin"
	"loadnode/cmd/internal/getopt"
	"loadnode/transfer/imagezip"
	"loadnode/transfer/ndz"
)

const usage = `imagezip [options] INPUT OUTPUT
imagezip -i [options] INPUT

Captures INPUT as an .ndz image: a disk with all its partitions (MBR with logical ones, or GPT), or one filesystem. Free
space of ext2, ext3, ext4, XFS, FAT, NTFS and Linux swap is left out; whatever else is found is saved whole. What is on
a partition is recognised by what lies there, not by its type. OUTPUT - is stdout; INPUT - is stdin, with -r or -f.

What to capture:
  -s N        only partition N of the disk, as an image for any partition (imageunzip -s)
  -r          raw: save every sector
  -f          file: as -r, and the size need not be a whole number of sectors
  -l          INPUT must be an ext2, ext3, ext4 or XFS filesystem
  -n          INPUT must be an NTFS filesystem
  -S TYPE     INPUT must be what this MBR type (decimal) stands for: 131 as -l, 7 as -n, 6, 11, 12, 14 ... FAT, 130 swap;
              142 (LVM), 253 (RAID) and others are saved whole
  --disk      INPUT must be a disk with a partition table
  -I N        leave out what is on partition N (may be repeated)
  -R N        save partition N whole (may be repeated)
  -c SECTORS  only so many sectors from the start
  -x          leave out what lies behind a filesystem in its partition
  -F SECTORS  shortest run of free sectors to leave out (64)
  -Z          save free runs shorter than that as zeros
  -X          save sectors that cannot be read as zeros
  --force     capture what is mounted; unclean filesystems are saved whole
  --drop-zeros
              leave out blocks of zeros as well: ONLY for images that will be installed with zero fill (imageunzip -z)
  -H FILE     delta: leave out what the base image with this signature has; it is installed over that image, without
              zero fill
  -P PERCENT  with -H: no delta if it is not smaller than this part of the whole

How to write it:
  -z LEVEL    zlib level, 0 to 9 (4)
  -1          ndz V1, without free space around regions; not to stdout
  -3          ndz V3, the default
  -u HEX      ndz V4 with this UUID, 32 hexadecimal digits, which is written to OUTPUT.uuid as well
  -U FILE     write the signature of the image, for later deltas
  -D          do not wait until the image is on the medium
  -N, -L      without, with relocations: none are needed but for LILO and BSD labels; -L refuses those
  -i          say what would be saved, write nothing
  -o          a dot for each chunk
  -d          more words; twice: progress
  -v, -h      version, help

Exit code: 0, or 1 for any error. A file OUTPUT appears under its name only when it is complete.
`

const (
	ufs = "FreeBSD filesystems and disklabels are not understood: use -r, or -R N for a partition of a disk, to save every sector"
	v4  = "signed and encrypted images are not written, today's OpenSSL could not read them: the manifest of the image service holds the checksums (omf image), and files are encrypted by other means (age, gpg)"
)

func options() []getopt.Option {
	list := []getopt.Option{
		{Name: "force"}, {Name: "disk"}, {Name: "drop-zeros"},
		{Name: "b", Refused: ufs}, {Name: "M", Refused: ufs},
		{Name: "a", Refused: v4}, {Name: "e", Refused: v4}, {Name: "k", Refused: v4},
	}
	for _, c := range "zcFSsIRHUPu" {
		list = append(list, getopt.Option{Name: string(c), Arg: true})
	}
	for _, c := range "diorflnZDNL13Xx" {
		list = append(list, getopt.Option{Name: string(c)})
	}
	return list
}

// settings are a command line, understood.
type settings struct {
	options         imagezip.Options
	input, output   string
	base, signature string // files
	info            bool
	dots, noSync    bool
	plain           bool // -3
	debug           int
}

func parse(args []string) (settings, error) {
	s := settings{options: imagezip.Options{Level: ndz.DefaultLevel, MinFree: imagezip.DefaultMinFree}}
	operands, err := dropin.Parse(args, options(), s.set)
	if err != nil {
		return s, err
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
	return s, s.check()
}

// check refuses options that contradict each other.
func (s *settings) check() error {
	o := &s.options
	streamed := s.input == "-"
	switch {
	case streamed && (o.Kind != imagezip.Raw && o.Kind != imagezip.File || s.info):
		return errors.New("stdin can only be captured with -r or -f, and not with -i")
	case streamed && (o.Partition != 0 || len(o.Ignore)+len(o.Whole) > 0 || s.base != ""):
		return errors.New("stdin cannot be positioned, which -s, -I, -R and -H need")
	case o.Kind == imagezip.Disk && o.Partition != 0:
		return errors.New("--disk is the whole disk, -s one partition of it")
	case o.Partition != 0 && o.MaxSectors > 0:
		return errors.New("-c is not for partitions (-s)")
	case o.Partition != 0 && len(o.Ignore) > 0:
		return errors.New("-I is for the partitions of a whole disk, not for -s")
	case o.Version == 1 && s.output == "-":
		return errors.New("V1 (-1) cannot be written to stdout: the header of each chunk holds the number of all chunks, which is known at the end")
	case s.plain && o.Version == 1, o.UUID != [16]byte{} && (s.plain || o.Version == 1):
		return errors.New("-1, -3 and -u exclude each other")
	case o.Version == 1 && o.Kind == imagezip.File:
		return errors.New("V1 (-1) has no way to say that the last sector of a file (-f) is incomplete: use -r")
	case o.Threshold != 0 && s.base == "":
		return errors.New("-P is about a delta, which -H makes")
	case s.base != "" && s.signature != "":
		return errors.New("-U needs the whole image and -H makes a delta: write the signature in a run of its own (imagezip -U FILE INPUT /dev/null)")
	}
	o.Sign = s.signature != ""
	if o.UUID != [16]byte{} {
		o.Version = 4
	}
	return nil
}

func (s *settings) set(f getopt.Found) (err error) {
	o := &s.options
	switch f.Name {
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
	case "n":
		return s.kind(imagezip.NTFS)
	case "disk":
		return s.kind(imagezip.Disk)
	case "S":
		return s.bareType(f.Value)
	case "Z":
		o.ZeroShort = true
	case "X":
		o.SkipErrors = true
	case "x":
		o.OnlyFS = true
	case "force":
		o.Unclean = true
	case "drop-zeros":
		o.DropZeros = true
	case "L":
		o.Relocate = true
	case "1":
		o.Version = 1
	case "3":
		s.plain = true
	case "H":
		s.base = f.Value
	case "U":
		s.signature = f.Value
	default:
		return s.number(f)
	}
	return nil
}

// number sets options with an argument that is a number, decimal but for the UUID.
func (s *settings) number(f getopt.Found) (err error) {
	o := &s.options
	var n uint64
	switch f.Name {
	case "z":
		o.Level, err = strconv.Atoi(f.Value)
		if err != nil || o.Level < 0 || o.Level > 9 {
			return fmt.Errorf("option -z %s: want 0 to 9", f.Value)
		}
		if o.Level == 0 {
			o.Level = ndz.Stored
		}
		err = nil
	case "s":
		n, err = number(f, "a partition", 1, 1024)
		o.Partition = int(n)
	case "I":
		n, err = number(f, "a partition", 1, 1024)
		o.Ignore = append(o.Ignore, int(n))
	case "R":
		n, err = number(f, "a partition", 1, 1024)
		o.Whole = append(o.Whole, int(n))
	case "c":
		o.MaxSectors, err = number(f, "a number of sectors", 1, 1<<32)
	case "F":
		o.MinFree, err = number(f, "a number of sectors", 0, 1<<32)
	case "P":
		n, err = number(f, "a percentage", 1, 100)
		o.Threshold = int(n)
	case "u":
		if o.UUID, err = f.UUID(); err == nil && o.UUID == [16]byte{} {
			return fmt.Errorf("option %s: want digits that are not all zero", f)
		}
	}
	return err
}

// bareType takes INPUT for what an MBR type stands for (§8.3).
func (s *settings) bareType(text string) error {
	n, err := strconv.ParseUint(text, 10, 8)
	if err != nil || n == 0 {
		return fmt.Errorf("option -S %s: want the number of an MBR type, 1 to 255", text)
	}
	switch n {
	case 131:
		return s.kind(imagezip.Ext)
	case 7:
		return s.kind(imagezip.NTFS)
	case 1, 4, 6, 11, 12, 14, 239:
		return s.kind(imagezip.FAT)
	case 130:
		return s.kind(imagezip.Swap)
	case 5, 15, 133, 238:
		return fmt.Errorf("option -S %d: this type contains partitions: give the disk", n)
	case 165, 166, 169:
		return fmt.Errorf("option -S %d: %s", n, ufs)
	}
	return s.kind(imagezip.Raw)
}

func (s *settings) kind(k imagezip.Kind) error {
	old := s.options.Kind
	raw := func(k imagezip.Kind) bool { return k == imagezip.Raw || k == imagezip.File }
	if old != imagezip.Auto && old != k && !(raw(old) && raw(k)) {
		return errors.New("-l, -n, -S, --disk and -r or -f exclude each other")
	}
	s.options.Kind = max(old, k) // -f implies -r
	return nil
}

func number(f getopt.Found, what string, least, most uint64) (uint64, error) {
	n, err := strconv.ParseUint(f.Value, 10, 64)
	if err == nil && n >= least && n <= most {
		return n, nil
	}
	if digits := strings.TrimRight(f.Value, "abcdefghijklmnop"); (f.Name == "I" || f.Name == "R") && digits != f.Value {
		return 0, fmt.Errorf("option -%s %s: BSD partitions inside a partition are not understood: give the number alone", f.Name, f.Value)
	}
	return 0, fmt.Errorf("option -%s %s: want %s, %d to %d", f.Name, f.Value, what, least, most)
}
