package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"loadnode/cmd/internal/outfile"
	"loadnode/transfer/disk"
	"loadnode/transfer/imagezip"
	"loadnode/transfer/ndz"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run is the whole program. It returns the exit code: 0, or 1 for any error.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	s, err := parse(args)
	switch {
	case err != nil:
		fmt.Fprintf(stderr, "imagezip: %v\nTry imagezip -h.\n", err)
		return 1
	case s.help:
		fmt.Fprint(stdout, usage)
		return 0
	case s.version:
		fmt.Fprintf(stdout, "imagezip (loadnode), writes ndz V3\n")
		return 0
	}
	p := program{settings: s, ctx: ctx, stdin: stdin, stdout: stdout, stderr: stderr}
	if err := p.capture(); err != nil {
		if errors.Is(err, context.Canceled) && ctx.Err() != nil {
			err = context.Cause(ctx) // which signal it was
		}
		fmt.Fprintf(stderr, "imagezip: %v\n", err)
		return 1
	}
	return 0
}

type program struct {
	settings
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
	if err := disk.Check(p.input, 0, 0, true); errors.Is(err, disk.ErrMounted) && !p.options.Unclean {
		return fmt.Errorf("%w: unmount it, or use --force if it is mounted read-only", err)
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

func sameFile(a, b string) bool {
	x, err := os.Stat(a)
	if err != nil {
		return false
	}
	y, err := os.Stat(b)
	return err == nil && os.SameFile(x, y)
}

// write opens the output, lets capture write the image, and only then puts the file in its place.
func (p *program) write(capture func(io.Writer) (imagezip.Stats, error)) error {
	begin := time.Now()
	var stats imagezip.Stats
	run := func(w io.Writer) (err error) {
		if p.dots {
			w = &dots{w: w, stderr: p.stderr}
			defer fmt.Fprintln(p.stderr)
		}
		stats, err = capture(w)
		return err
	}
	if err := p.toOutput(run); err != nil {
		return err
	}
	if p.debug > 0 {
		p.describe(p.stderr, stats.Plan)
	}
	for _, note := range stats.Notes {
		fmt.Fprintf(p.stderr, "imagezip: warning: %s\n", note)
	}
	if stats.BadSectors > 0 {
		fmt.Fprintf(p.stderr, "imagezip: warning: %d sectors could not be read and are zeros in the image\n", stats.BadSectors)
	}
	elapsed := time.Since(begin)
	fmt.Fprintf(p.stderr, "%d of %d sectors in %d chunks, %d bytes of data in %.1f s (%.1f MB/s)\n", stats.Used, stats.Sectors, stats.Chunks,
		stats.DataBytes, elapsed.Seconds(), float64(stats.DataBytes)/1e6/elapsed.Seconds())
	return nil
}

func (p *program) toOutput(run func(io.Writer) error) error {
	if p.output == "-" {
		return run(p.stdout)
	}
	plain, err := outfile.Plain(p.output)
	if err != nil {
		return err
	}
	if !plain {
		return p.toDevice(run)
	}
	out, err := outfile.New(p.output)
	if err != nil {
		return err
	}
	defer out.Discard()
	f, err := os.OpenFile(out.Temp, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := run(f); err != nil {
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
func (p *program) toDevice(run func(io.Writer) error) error {
	st, err := os.Stat(p.output)
	if err != nil {
		return err
	}
	if st.Mode().Type() == os.ModeDevice {
		return fmt.Errorf("%s is a disk: the output is an image file (to write an image to a disk, use imageunzip)", p.output)
	}
	f, err := os.OpenFile(p.output, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := run(f); err != nil {
		return err
	}
	return f.Close()
}

func (p *program) describe(w io.Writer, plan imagezip.Plan) {
	fmt.Fprintf(w, "%s: %s", p.input, plan.Kind)
	if plan.Label != "" {
		fmt.Fprintf(w, " %q", plan.Label)
	}
	fmt.Fprintf(w, ", %d sectors: %d to save (%d bytes), %d free, %d free in runs too short to leave out\n",
		plan.Sectors, plan.Used, plan.Used*ndz.SectorSize, plan.Free, plan.Forgotten)
}

// dots shows a dot for each chunk written.
type dots struct {
	w      io.Writer
	stderr io.Writer
}

func (d *dots) Write(p []byte) (int, error) {
	fmt.Fprint(d.stderr, ".")
	return d.w.Write(p)
}
