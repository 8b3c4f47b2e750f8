package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"loadnode/cmd/internal/dropin"
	"loadnode/cmd/internal/outfile"
	"loadnode/transfer/client"
	"loadnode/transfer/disk"
	"loadnode/transfer/install"
	"loadnode/transfer/mcast"
	"loadnode/transfer/ndz"
)

// Exit codes of the original client (§5).
const (
	exitOK      = 0
	exitFailed  = 1 // usage, disk, damaged image
	exitPort    = 98
	exitStalled = 110
	exitNetwork = 255
)

func main() { dropin.Main(run) }

var about = dropin.About{Name: "frisbee", Speaks: "Frisbee subtypes 1 to 9, reads ndz V1 to V4", Usage: usage, Mistake: exitFailed}

// run is the whole program. It returns the exit code.
func run(ctx context.Context, args []string, std dropin.Streams) int {
	s, err := parse(args)
	if err != nil {
		return about.Explain(err, std)
	}
	p := program{settings: s, stdout: std.Out, stderr: std.Err, begin: time.Now()}
	err = p.load(ctx)
	if err == nil {
		return exitOK
	}
	about.Fail(ctx, err, std)
	return exitCode(err)
}

func exitCode(err error) int {
	var network *networkError
	switch {
	case errors.Is(err, mcast.ErrPortInUse):
		return exitPort
	case errors.Is(err, client.ErrStalled):
		return exitStalled
	case errors.As(err, &network), errors.Is(err, context.Canceled):
		return exitNetwork
	}
	return exitFailed
}

// networkError marks what the original ends with 255.
type networkError struct{ error }

func (e *networkError) Unwrap() error { return e.error }

type program struct {
	settings
	stdout, stderr io.Writer
	begin          time.Time
	known          *ndz.Manifest // nil without --manifest
}

// load opens the output and fills it.
func (p *program) load(ctx context.Context) error {
	if p.manifest != "" {
		m, err := dropin.Manifest(p.manifest)
		if err != nil {
			return err
		}
		p.known = m
	}
	plain, err := outfile.Plain(p.output)
	if err != nil {
		return err
	}
	if !plain {
		return p.toDisk(ctx)
	}
	if path, err := filepath.Abs(p.output); err == nil && strings.HasPrefix(path, "/dev/") {
		// The original makes a file there and fills the memory with it.
		return fmt.Errorf("%w: %s", disk.ErrNotFound, p.output)
	}
	return p.toFile(ctx)
}

// toDisk writes a block device, after the safety gate.
func (p *program) toDisk(ctx context.Context) error {
	var need int64
	if p.known != nil {
		need = p.known.Bytes()
	}
	if err := disk.Check(p.output, need, ndz.SectorSize, false); err != nil {
		return err
	}
	target, err := disk.Open(p.output, disk.Options{Direct: p.direct})
	if err != nil {
		return err
	}
	defer target.Close()
	if err := p.receive(ctx, target); err != nil {
		return fmt.Errorf("%w; %s is incomplete", err, p.output)
	}
	return target.Close()
}

// toFile writes a new file, and puts it in its place when it is complete.
func (p *program) toFile(ctx context.Context) error {
	out, err := outfile.New(p.output)
	if err != nil {
		return err
	}
	defer out.Discard()
	target, err := disk.Open(out.Temp, disk.Options{Regular: true, Direct: p.direct})
	if err != nil {
		return err
	}
	defer target.Close()
	if err := p.receive(ctx, target); err != nil {
		return err
	}
	if err := target.Close(); err != nil {
		return err
	}
	return out.Commit()
}

// receive runs the session and finishes the installation.
func (p *program) receive(ctx context.Context, target disk.Target) error {
	in, err := install.New(install.Config{Target: target, Manifest: p.known, Fill: p.fill,
		FillRest: p.fill != install.Skip && target.Fixed(), ReadBack: p.readBack})
	if err != nil {
		return err
	}
	conn, err := mcast.Open(mcast.Options{Group: p.group, Port: p.port, Local: p.local, ReadBuffer: p.buffer})
	if err != nil {
		return &networkError{err}
	}
	defer conn.Close()
	conn = p.faults.damage(conn)
	lines := &progressLines{Installer: in, p: p}
	chunks := 0
	if p.known != nil {
		chunks = len(p.known.Chunks)
	}
	c, err := client.New(client.Config{Conn: conn, Server: p.server, Chunks: chunks, Installer: lines, Workers: p.workers,
		Memory: p.memory, ReadAhead: p.readAhead, InOrder: p.inOrder, StartDelay: p.delay, JoinTimeout: p.join, StallTimeout: p.stall,
		Written: func() (uint64, uint64) {
			st := in.Stats()
			return uint64(st.BytesWritten), uint64(st.BytesCovered)
		}})
	if err != nil {
		return err
	}
	lines.client = c
	stats, err := c.Run(ctx)
	if p.debug {
		fmt.Fprintf(p.stderr, "%+v\n", stats)
	}
	if err != nil {
		return classify(err)
	}
	res, err := in.Finish(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintf(p.stderr, "Wrote %d bytes (%d actual)\n\n%d %d %d\n", res.BytesDescribed, res.BytesWritten, stats.Duplicates, stats.Lost, stats.Corrupt)
	if res.Assurance == install.AssuranceReadBack {
		fmt.Fprintln(p.stderr, "Read back and equal")
	}
	fmt.Fprintf(p.stdout, "\nLeft the team after %d seconds on the field!", int(time.Since(p.begin).Seconds()))
	return nil
}

// diskError marks errors of the installation, which are not the network's.
type diskError struct{ error }

func (e *diskError) Unwrap() error { return e.error }

// classify tells errors of the network from those of disk and image.
func classify(err error) error {
	var damaged *client.CorruptError
	var local *diskError
	if errors.As(err, &damaged) || errors.As(err, &local) {
		return err
	}
	return &networkError{err}
}
