package tftp_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	client "github.com/pin/tftp/v3"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"loadnode/handler/netboot/tftp"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start serves a directory on loopback until the test ends.
func start(t *testing.T, cfg tftp.Config) string {
	t.Helper()
	s, err := tftp.New(cfg)
	require.NoError(t, err)
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, conn) }()
	t.Cleanup(func() { cancel(); require.NoError(t, <-done) })
	return conn.LocalAddr().String()
}

func get(t *testing.T, at, name string, blksize int) ([]byte, int64, error) {
	t.Helper()
	c, err := client.NewClient(at)
	require.NoError(t, err)
	if blksize > 0 {
		c.SetBlockSize(blksize)
	}
	c.RequestTSize(true)
	in, err := c.Receive(name, "octet")
	if err != nil {
		return nil, 0, err
	}
	size := int64(-1)
	if n, ok := in.(client.IncomingTransfer).Size(); ok {
		size = n
	}
	var b bytes.Buffer
	_, err = in.WriteTo(&b)
	return b.Bytes(), size, err
}

func TestServe(t *testing.T) {
	dir := t.TempDir()
	loader := bytes.Repeat([]byte("loader "), 5000)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "undionly.kpxe"), loader, 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(filepath.Dir(dir), "secret"), []byte("x"), 0o644))
	require.NoError(t, os.Symlink("../secret", filepath.Join(dir, "link")))
	require.NoError(t, os.Mkdir(filepath.Join(dir, "sub"), 0o755))
	root, err := os.OpenRoot(dir)
	require.NoError(t, err)
	t.Cleanup(func() { root.Close() })
	var mu sync.Mutex
	ended := map[string]int64{}
	at := start(t, tftp.Config{
		Root: root,
		Make: func(name string, from netip.Addr) ([]byte, bool, error) {
			switch name {
			case "pxelinux.cfg/made":
				return []byte("for " + from.String()), true, nil
			case "pxelinux.cfg/refused":
				return nil, false, errors.New("not yours")
			}
			return nil, false, nil
		},
		Ended: func(name string, _ netip.Addr, n int64, err error) {
			if err == nil {
				mu.Lock()
				defer mu.Unlock()
				ended[name] = n
			}
		},
	})
	for _, name := range []string{"undionly.kpxe", "/undionly.kpxe", `\undionly.kpxe`, "./sub/../undionly.kpxe"} {
		for _, blksize := range []int{0, 1428} {
			got, size, err := get(t, at, name, blksize)
			require.NoError(t, err, name)
			require.Equal(t, loader, got)
			require.EqualValues(t, len(loader), size)
		}
	}
	got, _, err := get(t, at, "pxelinux.cfg/made", 0)
	require.NoError(t, err)
	require.Equal(t, "for 127.0.0.1", string(got))
	for name, want := range map[string]string{
		"nothing": "no such file", "link": "no such file", "sub": "no such file", "../secret": "not the name of a file",
		"/../secret": "not the name of a file", `..\secret`: "not the name of a file", "pxelinux.cfg/refused": "not yours",
	} {
		_, _, err := get(t, at, name, 0)
		require.ErrorContains(t, err, want, name)
	}
	c, err := client.NewClient(at)
	require.NoError(t, err)
	out, err := c.Send("new", "octet")
	if err == nil {
		_, err = out.ReadFrom(strings.NewReader("x"))
	}
	require.ErrorContains(t, err, tftp.ErrReadOnly.Error())
	require.NoFileExists(t, filepath.Join(dir, "new"))
}

// TestSize: who asks for the size of a file and then declines it, as firmware
// does, has not broken a transfer off.
func TestSize(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "loader"), []byte("loader"), 0o644))
	root, err := os.OpenRoot(dir)
	require.NoError(t, err)
	t.Cleanup(func() { root.Close() })
	ended := make(chan error, 2)
	at := start(t, tftp.Config{Root: root, Ended: func(_ string, _ netip.Addr, _ int64, err error) { ended <- err }})
	c, err := net.ListenPacket("udp4", "127.0.0.1:0")
	require.NoError(t, err)
	defer c.Close()
	to, err := net.ResolveUDPAddr("udp4", at)
	require.NoError(t, err)
	_, err = c.WriteTo([]byte("\x00\x01loader\x00octet\x00tsize\x000\x00blksize\x001468\x00"), to)
	require.NoError(t, err)
	buf := make([]byte, 1500)
	n, from, err := c.ReadFrom(buf)
	require.NoError(t, err)
	require.Equal(t, "\x00\x06", string(buf[:2]), "the options, acknowledged")
	require.Contains(t, string(buf[:n]), "tsize\x006\x00")
	_, err = c.WriteTo([]byte("\x00\x05\x00\x08User aborted the transfer\x00"), from)
	require.NoError(t, err)
	_, _, err = get(t, at, "loader", 0)
	require.NoError(t, err)
	require.NoError(t, <-ended, "only of the transfer that took place")
}

// TestBusy: what is over the bound is refused at once, and those that run go on.
func TestBusy(t *testing.T) {
	root, err := os.OpenRoot(t.TempDir())
	require.NoError(t, err)
	t.Cleanup(func() { root.Close() })
	inside, release := make(chan struct{}), make(chan struct{})
	at := start(t, tftp.Config{Root: root, Parallel: 1, Make: func(string, netip.Addr) ([]byte, bool, error) {
		inside <- struct{}{}
		<-release
		return []byte("done"), true, nil
	}})
	first := make(chan error, 1)
	go func() {
		_, _, err := get(t, at, "a", 0)
		first <- err
	}()
	<-inside
	_, _, err = get(t, at, "b", 0)
	require.ErrorContains(t, err, tftp.ErrBusy.Error())
	close(release)
	require.NoError(t, <-first)
}

func FuzzName(f *testing.F) {
	for _, s := range []string{"undionly.kpxe", "/a/b", `\a\b`, "../x", "a/../../x", "", "\x00", ".."} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		name, err := tftp.Name(s)
		if err == nil && (!filepath.IsLocal(name) || name == "." || strings.Contains(name, `\`)) {
			t.Fatalf("%q became %q", s, name)
		}
	})
}
