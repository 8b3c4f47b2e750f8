package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"loadnode/transfer/disk"
	"loadnode/transfer/disk/ptable"
	"loadnode/transfer/grow"
	"loadnode/transfer/install"
	"loadnode/transfer/ndz"
)

// toSlice writes into one partition of a disk, or of a file that stands for one (§6). Nothing outside the partition is
// touched, but its type if -D says so, when all else is done.
func (p *program) toSlice(ctx context.Context, in io.Reader) (install.Result, error) {
	if err := disk.Check(p.output, 0, 0, true); err != nil {
		return install.Result{}, err
	}
	target, err := disk.Open(p.output, disk.Options{Regular: true, Direct: p.direct})
	if err != nil {
		return install.Result{}, err
	}
	defer target.Close()
	table, err := ptable.Read(target, target.Size())
	if err != nil {
		return install.Result{}, fmt.Errorf("%s: %w: -s needs a disk with partitions", p.output, err)
	}
	for _, note := range table.Notes {
		fmt.Fprintf(p.stderr, "imageunzip: %s: %s\n", p.output, note)
	}
	part, ok := table.Partition(p.slice)
	switch {
	case !ok:
		return install.Result{}, fmt.Errorf("%s has no partition %d", p.output, p.slice)
	case part.Extended():
		return install.Result{}, fmt.Errorf("partition %d of %s is the extended one: it holds other partitions, no data", p.slice, p.output)
	}
	if p.kind != nil {
		if err := table.SetType(p.slice, *p.kind); err != nil { // before anything is written; put on the disk at the end
			return install.Result{}, fmt.Errorf("%s: %w", p.output, err)
		}
	}
	room := int64(part.Sectors) * ndz.SectorSize
	if p.need > room && !p.clip {
		return install.Result{}, fmt.Errorf("%w: it describes %d bytes, partition %d of %s has %d; --clip would write only what fits", install.ErrTooLarge, p.need, p.slice, p.output, room)
	}
	cfg := p.config(target)
	cfg.Offset, cfg.Limit, cfg.FillRest = int64(part.Start)*ndz.SectorSize, room, false
	if p.max > 0 {
		cfg.Limit = min(cfg.Limit, p.max)
	}
	var cut clipped
	if p.clip {
		cut.Target, cut.end = target, cfg.Offset+room
		cfg.Target, cfg.Limit = &cut, 0
	}
	res, err := p.install(ctx, in, cfg)
	if lost := cut.lost.Load(); lost > 0 {
		res.BytesWritten -= lost
		fmt.Fprintf(p.stderr, "imageunzip: warning: %d bytes of data do not fit partition %d and are lost: what is in it is not whole\n", lost, p.slice)
	}
	if err != nil {
		return res, fmt.Errorf("%w; partition %d of %s is incomplete", err, p.slice, p.output)
	}
	if p.kind != nil {
		if err := table.Write(target); err != nil {
			return res, fmt.Errorf("the image is written, but the type of partition %d of %s is not set: %w", p.slice, p.output, err)
		}
		p.reread(target)
	}
	return res, target.Close()
}

// reread tells the kernel that the partition table has changed. The disk is right if it does not listen.
func (p *program) reread(target disk.Target) {
	if r, ok := target.(interface{ Reread() error }); ok {
		if err := r.Reread(); err != nil {
			fmt.Fprintf(p.stderr, "imageunzip: %v\n", err)
		}
	}
}

// grow makes the last partition of the output larger, after a whole disk was written.
func (p *program) grow(ctx context.Context) error {
	res, err := grow.Disk(ctx, p.output, grow.Options{Size: *p.size})
	for _, note := range res.Notes {
		fmt.Fprintf(p.stderr, "%s: %s\n", p.output, note)
	}
	if err != nil {
		return fmt.Errorf("the image is written; %w", err)
	}
	if res.After != res.Before {
		fmt.Fprintf(p.stderr, "%s: partition %d has %d bytes now (it had %d)\n", p.output, res.Partition, res.After, res.Before)
	}
	if res.FilesystemGrown {
		fmt.Fprintf(p.stderr, "%s: its %s filesystem was made as large as it\n", p.output, res.Filesystem)
	}
	return nil
}

// patient reads again what could not be read, up to retries times in a row.
type patient struct {
	io.Reader
	retries int
}

func (r patient) Read(b []byte) (int, error) {
	for try := 0; ; try++ {
		n, err := r.Reader.Read(b)
		if n > 0 || err == nil || errors.Is(err, io.EOF) || try >= r.retries {
			if n > 0 && !errors.Is(err, io.EOF) {
				err = nil // it comes again with the next call
			}
			return n, err
		}
	}
}

// same lets chunks pass whose UUID is the one that was asked for, or that of the first chunk that had one (V4, §7).
type same struct {
	want  *[16]byte // -u
	first *[16]byte
}

func (s *same) check(index int, h ndz.Header) error {
	switch {
	case h.Version < 4 && s.want != nil:
		return fmt.Errorf("chunk %d is of an image of version %d, which has no UUID: -u cannot be checked", index, h.Version)
	case h.Version < 4:
		return nil
	case s.want != nil && h.UUID != *s.want:
		return fmt.Errorf("chunk %d belongs to the image with UUID %x, -u asks for %x", index, h.UUID, *s.want)
	case s.first == nil:
		s.first = &h.UUID
	case h.UUID != *s.first:
		return fmt.Errorf("chunk %d belongs to the image with UUID %x, the chunks before it to %x", index, h.UUID, *s.first)
	}
	return nil
}
