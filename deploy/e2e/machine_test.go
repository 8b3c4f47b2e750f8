package main

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// fakeMachine is one whose QEMU is a script.
func fakeMachine(t *testing.T, script string) *machine {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "qemu-system-x86_64"), []byte("#!/bin/sh\n"+script+"\n"), 0o755))
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	return &machine{name: "n1-1", index: 1, work: t.TempDir()}
}

// TestBreakDown: a QEMU that ends with an error is noticed at once, whoever
// waits for whatever.
func TestBreakDown(t *testing.T) {
	m := fakeMachine(t, "echo no such tap >&2; exit 1")
	told := make(chan error, 1)
	m.fail = func(err error) { told <- err }
	_, _ = m.power("on") // it may have ended already
	require.ErrorContains(t, <-told, "n1-1: QEMU: exit status 1: no such tap")
	require.ErrorContains(t, m.awaitOff(t.Context()), "no such tap")
	state, err := m.power("status")
	require.ErrorContains(t, err, "no such tap")
	require.Equal(t, "off", state)
}

// TestPower: a machine whose power is cut, or that switches itself off, has not
// broken down.
func TestPower(t *testing.T) {
	m := fakeMachine(t, "exec sleep 1000")
	require.Error(t, m.awaitOff(t.Context()), "it was never on")
	for _, step := range []struct{ action, want string }{
		{"status", "off"}, {"on", "on"}, {"on", "on"}, {"cycle", "on"}, {"reset", "on"}, {"status", "on"}, {"soft", "off"}, {"off", "off"},
	} {
		state, err := m.power(step.action)
		require.NoError(t, err)
		require.Equal(t, step.want, state, step.action)
	}
	require.Equal(t, 3, m.starts, "to switch on what is on changes nothing")
	_, err := m.power("up")
	require.ErrorContains(t, err, `power "up"`)

	m = fakeMachine(t, "exit 0")
	for range 2 {
		_, err := m.power("on")
		require.NoError(t, err)
		require.NoError(t, m.awaitOff(t.Context()))
	}
	require.Equal(t, 2, m.starts, "what has switched itself off can be switched on")

	ctx, cancel := context.WithCancel(t.Context())
	m = fakeMachine(t, "exec sleep 1000")
	_, err = m.power("on")
	require.NoError(t, err)
	cancel()
	require.ErrorIs(t, m.awaitOff(ctx), context.Canceled)
	_, err = m.power("off")
	require.NoError(t, err)
}
