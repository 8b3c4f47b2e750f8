package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"loadnode/agent/legacy"
	"loadnode/agent/legacy/legacytest"
	"loadnode/agent/legacy/listener"
	"loadnode/agent/sim"
	"loadnode/events"
	"loadnode/transfer/imagezip"
)

// legacyBench is a server with one simulated node, n1-1, and one legacy node, old2-1, whose power is a script.
// Settings are more of those that its legacy: has, args more of those of omf serve.
func legacyBench(t *testing.T, settings string, args ...string) (b *bench, old *legacytest.Node, want []byte) {
	dir := t.TempDir()
	old = legacytest.Start(t, &legacytest.Node{
		Address: netip.MustParseAddr("127.66.2.1"), Disk: filepath.Join(dir, "hda"), System: "pxe:1.0.0", Boot: "5f2c6f3a", Execute: saving(filepath.Join(dir, "hda")),
	})
	fifo, script, list := filepath.Join(dir, "power"), filepath.Join(dir, "power.sh"), filepath.Join(dir, "inventory.yaml")
	require.NoError(t, syscall.Mkfifo(fifo, 0o600))
	require.NoError(t, os.WriteFile(script, []byte("#!/bin/sh\nif [ $1 = status ]; then echo unknown; else echo $1 > "+fifo+"; fi\n"), 0o755))
	pipe, err := os.OpenFile(fifo, os.O_RDWR, 0) // for writing too, so that it has no end
	require.NoError(t, err)
	t.Cleanup(func() { pipe.Close() })
	switched := make(chan struct{})
	go func() {
		defer close(switched)
		for in := bufio.NewScanner(pipe); in.Scan(); {
			switch in.Text() {
			case events.PowerReset, events.PowerCycle:
				old.Cut()
				old.On()
			case events.PowerOn:
				old.On()
			case events.PowerOff:
				old.Off()
			}
		}
	}()
	t.Cleanup(func() { pipe.Close(); <-switched })
	require.NoError(t, os.WriteFile(list, fmt.Appendf(nil, `
version: 1
testbeds:
  default:
    nodes:
      n1-1: {}
      old2-1:
        {x: 2, y: 1, ip: 127.66.2.1, agent: legacy, disk: /dev/hda, legacy: {port: %d%s},
         power: {driver: exec, command: [%s, "{action}", "{node}"]}}
    grid: {x: 2, y: 1}
`, old.Port(), settings, script), 0o644))
	b, want = newBench(t, "1x1", append([]string{"--inventory", list, "--checkin", "20s"}, args...)...)
	return b, old, want
}

// saving is imagezip and netcat on a legacy node.
func saving(disk string) func(context.Context, []string, func(stream, line string)) int {
	return func(ctx context.Context, words []string, print func(stream, line string)) int {
		err := func() error {
			data, err := os.ReadFile(disk)
			if err != nil {
				return err
			}
			conn, err := net.Dial("tcp", net.JoinHostPort(words[len(words)-2], words[len(words)-1]))
			if err != nil {
				return err
			}
			_, err = imagezip.Capture(ctx, io.NewSectionReader(bytes.NewReader(data), 0, int64(len(data))), conn, imagezip.Options{Level: 1})
			return errors.Join(err, conn.Close())
		}()
		if err != nil {
			print(legacy.Stderr, err.Error())
			return listener.Exit(1)
		}
		return 0
	}
}

// TestSaveOfLegacyNode: what a legacy node sends by netcat is an image when
// the image service says so, and nobody says that it was verified.
func TestSaveOfLegacyNode(t *testing.T) {
	t.Parallel()
	b, old, want := legacyBench(t, "")
	b.ok("load", "old2-1", "small.ndz", "-q")
	r := b.omf("save", "old2-1", "old.ndz", "-o", "json")
	require.Zero(t, r.code, "%s\n%s", r.stdout, r.stderr)
	o := decode[outcome](t, r.stdout)
	require.Equal(t, events.AssuranceUnverified, o.Results[0].Assurance)
	require.Len(t, o.Image.Digest, 64, "by the image service")
	require.Contains(t, strings.Join(old.Commands(), "\n"), "imagezip")
	b.ok("load", "n1-1", "old.ndz", "-q")
	require.Equal(t, want, b.disk("n1-1"))
}

// TestSaveToDirectory: as OMF 4.4 saves, to a directory that node and image
// service share. Half a file is no image, and nothing of it stays.
func TestSaveToDirectory(t *testing.T) {
	t.Parallel()
	shared := t.TempDir()
	b, old, want := legacyBench(t, `, nfs: "frisbee:/export/images"`, "--save-dir", shared, "--load-attempts", "1")
	b.ok("load", "old2-1", "small.ndz", "-q")
	keep := int64(100_000)
	old.Saved = func(nfs, name, device string) listener.Program {
		return func(ctx context.Context, print func(stream, line string)) int {
			if err := captured(ctx, old.Disk, filepath.Join(shared, name), keep); err != nil || nfs != "frisbee:/export/images" || device != "/dev/hda" {
				print(legacy.Stderr, fmt.Sprint(err, nfs, device))
				return listener.Exit(1)
			}
			return 0
		}
	}
	r := b.omf("save", "old2-1", "old.ndz", "-o", "json")
	require.Equal(t, exitFailed, r.code, "%s\n%s", r.stdout, r.stderr)
	require.Contains(t, r.stdout, "truncated")
	require.NotContains(t, b.ok("images", "ls"), "old.ndz")

	keep = math.MaxInt64
	o := decode[outcome](t, b.ok("save", "old2-1", "old.ndz", "-o", "json"))
	require.Equal(t, events.AssuranceUnverified, o.Results[0].Assurance)
	b.ok("load", "n1-1", "old.ndz", "-q")
	require.Equal(t, want, b.disk("n1-1"))
	left, err := os.ReadDir(shared)
	require.NoError(t, err)
	require.Empty(t, left)
}

// captured writes the first bytes of the image of a disk.
func captured(ctx context.Context, disk, file string, keep int64) error {
	data, err := os.ReadFile(disk)
	if err != nil {
		return err
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	_, err = imagezip.Capture(ctx, io.NewSectionReader(bytes.NewReader(data), 0, int64(len(data))), f, imagezip.Options{Level: 1})
	if st, serr := f.Stat(); serr == nil && st.Size() > keep {
		err = errors.Join(err, f.Truncate(keep))
	}
	return errors.Join(err, f.Close())
}

// TestSaveWithoutDirectory: a node that saves to a directory needs an image
// service that has it.
func TestSaveWithoutDirectory(t *testing.T) {
	t.Parallel()
	b, old, _ := legacyBench(t, `, nfs: "frisbee:/export/images"`)
	r := b.omf("save", "old2-1", "old.ndz")
	require.Equal(t, exitRefused, r.code)
	require.Contains(t, r.stderr+r.stdout, "--save-dir")
	require.Zero(t, old.Reboots(), "refused before anything was done to it")
}

// TestMixedJob loads a modern and a legacy node in one job and one session.
func TestMixedJob(t *testing.T) {
	t.Parallel()
	b, old, want := legacyBench(t, "")
	jsonl := b.ok("load", "n1-1,old2-1", "small.ndz", "-o", "jsonl")
	require.Equal(t, want, b.disk("n1-1"))
	require.Equal(t, []string{
		"reboot.requested", "pxe.up", "load.started", "load.done", "shutdown.requested", "shutdown.done",
	}, kinds(t, jsonl, "old2-1"))
	require.Equal(t, []string{"job.requested", "job.accepted", "image.served", "job.finished"}, kinds(t, jsonl, ""))
	require.Contains(t, jsonl, `"assurance":"unverified"`)
	require.Equal(t, 1, old.Loads())
	got, err := os.ReadFile(old.Disk)
	require.NoError(t, err)
	require.Equal(t, want, got)
	require.Contains(t, strings.Join(old.Commands(), "\n"), "shutdown -h now")

	r := b.omf("load", "old2-1", "small.ndz", "--require-verified", "-o", "json")
	require.Equal(t, exitFailed, r.code, r.stderr)
	require.Contains(t, r.stdout, "verified")
	require.NoError(t, os.Remove(sim.DiskPath(filepath.Join(b.state, roleSim), "n1-1")))
}
