package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
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
func legacyBench(t *testing.T) (b *bench, old *legacytest.Node, want []byte) {
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
        {x: 2, y: 1, ip: 127.66.2.1, agent: legacy, disk: /dev/hda, legacy: {port: %d},
         power: {driver: exec, command: [%s, "{action}", "{node}"]}}
    grid: {x: 2, y: 1}
`, old.Port(), script), 0o644))
	b, want = newBench(t, "1x1", "--inventory", list, "--checkin", "20s")
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
	b, old, want := legacyBench(t)
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

// TestMixedJob loads a modern and a legacy node in one job and one session.
func TestMixedJob(t *testing.T) {
	t.Parallel()
	b, old, want := legacyBench(t)
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
