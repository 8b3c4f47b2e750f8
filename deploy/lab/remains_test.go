package lab_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"loadnode/deploy/lab"
)

// abandon is a process that makes a network, starts a program on it and ends
// without a word.
func abandon() error {
	n, err := lab.New(context.Background(), 2)
	if err != nil {
		return err
	}
	cmd := n.Hosts[1].Command(context.Background(), "sleep", "600")
	cmd.SysProcAttr = nil // as after a crash at the wrong moment: it lives on
	if err := cmd.Start(); err != nil {
		return err
	}
	fmt.Println(os.Getpid(), cmd.Process.Pid)
	return nil
}

// spaces of one process that exist now.
func spaces(t *testing.T, pid int) []string {
	t.Helper()
	names, err := filepath.Glob(fmt.Sprintf("/run/netns/loadnode-lab-%d-*", pid))
	require.NoError(t, err)
	return names
}

// TestNothingRemains: a network leaves nothing behind, and the next one removes
// what a process left that did not come to it.
func TestNothingRemains(t *testing.T) {
	n := network(t, 2)
	require.NotEmpty(t, spaces(t, os.Getpid()))
	require.NoError(t, n.Close())
	require.Empty(t, spaces(t, os.Getpid()))

	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), role+"=abandon")
	out, err := cmd.Output()
	require.NoError(t, err)
	var pid, left int
	_, err = fmt.Sscan(string(out), &pid, &left)
	require.NoError(t, err)
	require.Len(t, spaces(t, pid), 3)
	network(t, 2)
	require.Empty(t, spaces(t, pid))
	require.Eventually(t, func() bool {
		line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", left))
		return err != nil || len(line) == 0
	}, 10*time.Second, time.Millisecond, "its program still runs")
}
