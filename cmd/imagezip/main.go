package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"loadnode/cmd/internal/dropin"
	"loadnode/cmd/internal/outfile"
	"loadnode/transfer/disk"
	"loadnode/transfer/imagezip"
)

func main() { dropin.Main(run) }

var about = dropin.About{Name: "imagezip", Speaks: "writes ndz V1, V3 and V4", Usage: usage, Mistake: 1}

// run is the whole program. It returns the exit code: 0, or 1 for any error.
func run(ctx context.Context, args []string, std dropin.Streams) int {
	s, err := parse(args)
	if err != nil {
		return about.Explain(err, std)
	}
	p := program{settings: s, machine: thisMachine(), ctx: ctx, stdin: std.In, stdout: std.Out, stderr: std.Err}
	if err := p.capture(); err != nil {
		about.Fail(ctx, err, std)
		return 1
	}
	return 0
}

type program struct {
	settings
	machine        machine
	ctx            context.Context
	stdin          io.Reader
	stdout, stderr io.Writer
}

func (p *program) capture() error {
	if p.input == "-" {
		return p.write(func(w io.Writer) (imagezip.Stats, error) {
			return imagezip.CaptureStream(p.ctx, p.stdin, w, p.options)
		})
	}
	src, err := disk.Open(p.input, disk.Options{ReadOnly: true})
	if err != nil {
		return err
	}
	defer src.Close()
	if !p.options.Unclean {
		if err := p.machine.inUse(p.input); err != nil {
			return fmt.Errorf("%w: what is in use changes while it is read; unmount it, or use --force if nothing writes to it", err)
		}
	}
	if err := p.readBase(); err != nil {
		return err
	}
	if p.info {
		plan, err := imagezip.Examine(p.ctx, src, p.options)
		if err == nil {
			p.describe(p.stdout, plan)
		}
		return err
	}
	if p.output != "-" && sameFile(p.input, p.output) {
		return fmt.Errorf("%s is input and output", p.input)
	}
	return p.write(func(w io.Writer) (imagezip.Stats, error) {
		return imagezip.Capture(p.ctx, src, w, p.options)
	})
}

func (p *program) readBase() error {
	if p.base == "" {
		return nil
	}
	f, err := os.Open(p.base)
	if err != nil {
		return err
	}
	defer f.Close()
	if p.options.Base, err = imagezip.ReadSignature(f); err != nil {
		return fmt.Errorf("%s: %w", p.base, err)
	}
	return nil
}

func sameFile(a, b string) bool {
	x, err := os.Stat(a)
	if err != nil {
		return false
	}
	y, err := os.Stat(b)
	return err == nil && os.SameFile(x, y)
}

// write opens the output, lets capture write the image, and only then puts the file in its place. Signature and UUID
// follow: they mean nothing without the image.
func (p *program) write(capture func(io.Writer) (imagezip.Stats, error)) error {
	begin := time.Now()
	var stats imagezip.Stats
	if p.debug > 1 {
		p.options.Progress = p.progress()
	}
	err := p.toOutput(p.output, func(f *os.File, w io.Writer) (err error) {
		if p.options.Version == 1 && f != nil {
			p.options.Totals = f
		}
		if p.dots {
			w = &dots{w: w, stderr: p.stderr}
			defer fmt.Fprintln(p.stderr)
		}
		stats, err = capture(w)
		return err
	})
	if err != nil {
		return err
	}
	if err := p.writeBeside(stats); err != nil {
		return err
	}
	p.report(stats, time.Since(begin))
	return nil
}

// writeBeside writes what belongs to an image but is not in it.
func (p *program) writeBeside(stats imagezip.Stats) error {
	if stats.Signature != nil {
		err := p.toOutput(p.signature, func(_ *os.File, w io.Writer) error {
			_, err := stats.Signature.WriteTo(w)
			return err
		})
		if err != nil {
			return fmt.Errorf("signature: %w", err)
		}
	}
	if p.options.Version != 4 || p.output == "-" {
		return nil
	}
	if plain, err := outfile.Plain(p.output); err != nil || !plain {
		return err
	}
	return p.toOutput(p.output+".uuid", func(_ *os.File, w io.Writer) error {
		_, err := fmt.Fprintf(w, "%x\n", p.options.UUID)
		return err
	})
}

// toOutput lets run write a file, which is given as *os.File as well unless it is stdout.
func (p *program) toOutput(path string, run func(*os.File, io.Writer) error) error {
	if path == "-" {
		return run(nil, p.stdout)
	}
	plain, err := outfile.Plain(path)
	if err != nil {
		return err
	}
	if !plain {
		return toDevice(path, run)
	}
	out, err := outfile.New(path)
	if err != nil {
		return err
	}
	defer out.Discard()
	f, err := os.OpenFile(out.Temp, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := run(f, f); err != nil {
		return err
	}
	if !p.noSync {
		if err := f.Sync(); err != nil {
			return err
		}
	}
	if err := f.Close(); err != nil {
		return err
	}
	return out.Commit()
}

// toDevice writes to /dev/null or a pipe. An image is no disk, so disks are refused.
func toDevice(path string, run func(*os.File, io.Writer) error) error {
	st, err := os.Stat(path)
	if err != nil {
		return err
	}
	if st.Mode().Type() == os.ModeDevice {
		return fmt.Errorf("%s is a disk: the output is an image file (to write an image to a disk, use imageunzip)", path)
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := run(f, f); err != nil {
		return err
	}
	return f.Close()
}
