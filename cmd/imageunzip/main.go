package main

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"time"

	"loadnode/cmd/internal/dropin"
	"loadnode/cmd/internal/outfile"
	"loadnode/transfer/disk"
	"loadnode/transfer/install"
	"loadnode/transfer/ndz"
)

func main() { dropin.Main(run) }

var about = dropin.About{Name: "imageunzip", Speaks: "reads ndz V1 to V4", Usage: usage, Mistake: 1}

// run is the whole program. It returns the exit code: 0, or 1 for any error.
func run(ctx context.Context, args []string, std dropin.Streams) int {
	s, err := parse(args)
	if err != nil {
		return about.Explain(err, std)
	}
	p := program{settings: s, stdout: std.Out, stderr: std.Err}
	err = p.expand(ctx, std.In)
	if err == nil && p.size != nil {
		err = p.grow(ctx)
	}
	if err != nil {
		about.Fail(ctx, err, std)
		return 1
	}
	return 0
}

type program struct {
	settings
	stdout, stderr io.Writer
	known          *ndz.Manifest // nil without --manifest
	need           int64         // bytes of the described unit, 0 if not known before reading
}

func (p *program) expand(ctx context.Context, stdin io.Reader) error {
	if p.manifest != "" {
		m, err := dropin.Manifest(p.manifest)
		if err != nil {
			return err
		}
		p.known = m
	}
	in := stdin
	if p.input != "-" {
		f, err := os.Open(p.input)
		if err != nil {
			return err
		}
		defer f.Close()
		in = patient{f, p.retries}
		if st, err := f.Stat(); err == nil && st.Mode().IsRegular() {
			info, err := ndz.Inspect(f, st.Size()) // a look at all headers, before anything is touched
			if err != nil {
				return fmt.Errorf("%s: %w", p.input, err)
			}
			p.need = int64(info.Sectors)*ndz.SectorSize - int64(info.ShortTail)
			if p.max > 0 && p.need > p.max {
				return fmt.Errorf("%s describes %d sectors, -M allows %d", p.input, info.Sectors, p.max/ndz.SectorSize)
			}
		}
	}
	begin := time.Now()
	res, err := p.toOutput(ctx, in)
	if err != nil {
		return err
	}
	if res.Undescribed && p.fill != install.Skip {
		fmt.Fprintln(p.stderr, "imageunzip: warning: a V1 image does not describe all of its free space; what it leaves out was not filled")
	}
	elapsed := time.Since(begin).Seconds()
	fmt.Fprintf(p.stderr, "%d chunks, %d bytes written of %d described in %.1f s (%.1f MB/s)", res.Chunks, res.BytesWritten, res.BytesDescribed,
		elapsed, float64(res.BytesWritten)/1e6/elapsed)
	if res.Assurance == install.AssuranceReadBack {
		fmt.Fprint(p.stderr, ", read back and equal")
	}
	fmt.Fprintln(p.stderr)
	return nil
}

// toOutput sends the image where it belongs.
func (p *program) toOutput(ctx context.Context, in io.Reader) (install.Result, error) {
	switch {
	case p.headers:
		return p.pump(ctx, in, p.verify(headersOnly{}), 1, func() (install.Result, error) { return install.Result{}, nil })
	case p.crc:
		sum := crc32.NewIEEE()
		res, err := p.stream(ctx, in, sum, true)
		if err == nil {
			fmt.Fprintf(p.stdout, "%08x\n", sum.Sum32())
		}
		return res, err
	case p.slice > 0:
		return p.toSlice(ctx, in)
	case p.output == "-":
		return p.stream(ctx, in, p.stdout, !p.noGaps)
	}
	plain, err := outfile.Plain(p.output)
	if err != nil {
		return install.Result{}, err
	}
	if plain {
		if p.size != nil {
			return install.Result{}, errors.New("--resize is for disks: a new file is as long as the image, and has nothing to grow into")
		}
		return p.toFile(ctx, in)
	}
	st, err := os.Stat(p.output)
	if err != nil {
		return install.Result{}, err
	}
	if st.Mode().Type() == os.ModeDevice {
		return p.toDisk(ctx, in)
	}
	f, err := os.OpenFile(p.output, os.O_WRONLY, 0) // a pipe, /dev/null
	if err != nil {
		return install.Result{}, err
	}
	defer f.Close()
	res, err := p.stream(ctx, in, f, !p.noGaps)
	return res, errors.Join(err, f.Close())
}

// stream writes to what only goes forward.
func (p *program) stream(ctx context.Context, in io.Reader, out io.Writer, gaps bool) (install.Result, error) {
	switch {
	case p.readBack:
		return install.Result{}, errors.New("--read-back needs an output that can be read")
	case p.direct || p.discard || p.size != nil:
		return install.Result{}, errors.New("-f, -E and --resize are for disks and files, not for what only goes forward")
	}
	s := install.NewStream(out, p.pattern, gaps)
	return p.pump(ctx, in, p.verify(s), 1, s.Finish)
}

// toFile writes a new file, and puts it in its place when it is complete.
func (p *program) toFile(ctx context.Context, in io.Reader) (install.Result, error) {
	out, err := outfile.New(p.output)
	if err != nil {
		return install.Result{}, err
	}
	defer out.Discard()
	target, err := disk.Open(out.Temp, disk.Options{Regular: true, Direct: p.direct})
	if err != nil {
		return install.Result{}, err
	}
	defer target.Close()
	res, err := p.install(ctx, in, p.config(target))
	if err != nil {
		return res, err
	}
	if err := target.Close(); err != nil {
		return res, err
	}
	return res, out.Commit()
}

// toDisk writes a block device, after the safety gate.
func (p *program) toDisk(ctx context.Context, in io.Reader) (install.Result, error) {
	if err := disk.Check(p.output, p.need, ndz.SectorSize, false); err != nil {
		return install.Result{}, err
	}
	target, err := disk.Open(p.output, disk.Options{Direct: p.direct})
	if err != nil {
		return install.Result{}, err
	}
	defer target.Close()
	res, err := p.install(ctx, in, p.config(target))
	if err != nil {
		return res, fmt.Errorf("%w; %s is incomplete", err, p.output)
	}
	return res, target.Close()
}

func (p *program) config(target disk.Target) install.Config {
	return install.Config{Target: target, Manifest: p.known, Fill: p.fill, Pattern: p.pattern, Discard: p.discard, Limit: p.max,
		FillRest: (p.fill != install.Skip || p.discard) && target.Fixed() && p.max == 0, ReadBack: p.readBack}
}

func (p *program) install(ctx context.Context, in io.Reader, cfg install.Config) (install.Result, error) {
	installer, err := install.New(cfg)
	if err != nil {
		return install.Result{}, err
	}
	return p.pump(ctx, in, installer, p.workers, func() (install.Result, error) { return installer.Finish(ctx) })
}
