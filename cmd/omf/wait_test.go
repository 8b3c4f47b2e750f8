package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// banner serves what a node of the test says on its port of SSH, and returns
// the port.
func banner(t *testing.T, address, text string) string {
	t.Helper()
	l, err := net.Listen("tcp", address)
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Write([]byte(text))
			conn.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	_, port, err := net.SplitHostPort(l.Addr().String())
	require.NoError(t, err)
	return port
}

func TestSSHBanner(t *testing.T) {
	for text, want := range map[string]string{
		"SSH-2.0-OpenSSH_9.2\r\n":              "SSH-2.0-OpenSSH_9.2",
		"welcome\r\nto it\nSSH-1.99-x y\n":     "SSH-1.99-x y",
		"":                                     "",
		"SSH-2.0-cut off":                      "",
		"HTTP/1.1 400 Bad Request\r\n\r\n":     "",
		fmt.Sprintf("%08999d\nSSH-2.0-x\n", 1): "",
	} {
		port := banner(t, "127.0.0.1:0", text)
		got, err := sshBanner(t.Context(), "127.0.0.1:"+port)
		require.Equal(t, want, got)
		require.Equal(t, want == "", err != nil)
	}
}

func TestWaitForNodes(t *testing.T) {
	t.Parallel()
	port := banner(t, "127.0.0.2:0", "SSH-2.0-here\r\n")
	banner(t, "127.0.0.3:"+port, "not yet\r\n")
	file := filepath.Join(t.TempDir(), "inventory.yaml")
	require.NoError(t, os.WriteFile(file, []byte(`{version: 1, testbeds: {default: {nodes: {
		n1-1: {ip: 127.0.0.2}, n2-1: {ip: 127.0.0.3}, n3-1: {}}}}}`), 0o600))
	b, _ := newBench(t, "2x1", "--inventory", file)
	wait := func(code int, args ...string) (waitReport, string) {
		t.Helper()
		r := b.omf(append([]string{"wait", "--ssh-port", port, "--every", "10ms", "-o", "json"}, args...)...)
		require.Equal(t, code, r.code, r.stderr)
		return decode[waitReport](t, r.stdout), r.stderr
	}
	b.ok("load", "n1-1,n2-1", "small.ndz", "--then", "stay", "--disk", "/dev/sda", "--timeout", "20s")
	r, _ := wait(exitOK, "n1-1,n2-1", "--for", "agent", "--timeout", "10s")
	require.Len(t, r.Nodes, 2)
	for _, n := range r.Nodes {
		require.True(t, n.Answers)
		require.Equal(t, waitAgent, n.By)
		require.NotEmpty(t, n.Boot)
	}
	r, text := wait(exitOK, "n1-1", "--for", "ssh")
	require.Equal(t, "SSH-2.0-here", r.Nodes[0].Banner)
	require.Equal(t, "127.0.0.2:"+port, r.Nodes[0].Address)
	require.Contains(t, text, "n1-1 answers: SSH-2.0-here")

	r, text = wait(exitTimeout, "n1-1,n2-1", "--for", "ssh", "--timeout", "1s")
	require.Equal(t, exitTimeout, r.Exit)
	require.True(t, r.Nodes[0].Answers)
	require.Equal(t, []string{"n2-1"}, r.Silent)
	require.Contains(t, r.Nodes[1].Error, "does not speak SSH")
	require.Contains(t, text, "1 of 2 nodes have not answered: n2-1")

	b.ok("tell", "offh", "n1-1,n2-1")
	r, _ = wait(exitTimeout, "all", "--timeout", "300ms")
	require.Equal(t, []string{"n2-1", "n3-1"}, r.Silent, "any: one has SSH, no agent is up")
	require.Equal(t, waitSSH, r.Nodes[0].By)

	refused := b.omf("wait", "all", "--for", "ssh")
	require.Equal(t, exitRefused, refused.code)
	require.Contains(t, refused.stderr, "neither ip nor hostname of n3-1")
	silent := b.omf("wait", "n3-1", "--for", "agent", "--timeout", "50ms", "-q")
	require.Equal(t, exitTimeout, silent.code)
	require.Equal(t, "omf: after 50ms 1 of 1 nodes have not answered: n3-1\n", silent.stderr)
	require.Equal(t, exitRefused, b.omf("wait", "nobody").code)
	for want, args := range map[string][]string{
		"wants NODES":         {"wait"},
		"want ssh, agent":     {"wait", "all", "--for", "telnet"},
		"cannot be negative":  {"wait", "all", "--timeout", "-1s"},
		"want at least 10ms":  {"wait", "all", "--every", "1ms"},
		"want 1 to 65535":     {"wait", "all", "--ssh-port", "0"},
		"invalid argument \"": {"wait", "all", "--ssh-port", "x"},
	} {
		r := b.omf(args...)
		require.Equal(t, exitUsage, r.code)
		require.Contains(t, r.stderr, want)
	}
}
