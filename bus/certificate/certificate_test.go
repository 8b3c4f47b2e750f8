package certificate

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// hello makes a handshake with a server and returns its certificate, checked
// as clients do.
func hello(t *testing.T, conf *tls.Config, address, ca, name string, at time.Time) (*x509.Certificate, error) {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(address, "0"))
	require.NoError(t, err)
	defer l.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		c, err := l.Accept()
		if err != nil {
			return
		}
		s := tls.Server(c, conf)
		_ = s.Handshake() // the client's word counts
		_, _ = io.Copy(io.Discard, s)
		s.Close()
	}()
	defer func() { <-done }()
	pool := x509.NewCertPool()
	require.True(t, pool.AppendCertsFromPEM([]byte(ca)))
	c, err := tls.Dial("tcp", l.Addr().String(), &tls.Config{RootCAs: pool, ServerName: name, Time: func() time.Time { return at }})
	if err != nil {
		l.Close()
		return nil, err
	}
	defer c.Close()
	return c.ConnectionState().PeerCertificates[0], nil
}

func TestOwn(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tls")
	now := time.Now()
	open := func(names ...string) *Own {
		t.Helper()
		o, err := Open(Config{Dir: dir, Names: names, Now: func() time.Time { return now }})
		require.NoError(t, err)
		return o
	}
	o := open("127.0.0.1", "server.example")
	first, err := hello(t, o.TLS(), "127.0.0.1", o.CA(), "server.example", now)
	require.NoError(t, err)
	_, err = hello(t, o.TLS(), "127.0.0.1", o.CA(), "other.example", now)
	require.Error(t, err)
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, 2)
	for _, e := range entries {
		info, err := e.Info()
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), info.Mode().Perm(), e.Name())
	}

	// The next start has the same.
	again := open("127.0.0.1", "server.example")
	require.Equal(t, o.CA(), again.CA())
	same, err := hello(t, again.TLS(), "127.0.0.1", o.CA(), "server.example", now)
	require.NoError(t, err)
	require.Equal(t, first.SerialNumber, same.SerialNumber)

	// Another name, and an address that this machine had not at the start.
	more := open("127.0.0.1", "new.example")
	_, err = hello(t, more.TLS(), "127.0.0.1", o.CA(), "new.example", now)
	require.NoError(t, err)
	_, err = hello(t, more.TLS(), "127.0.0.77", o.CA(), "127.0.0.77", now)
	require.NoError(t, err)

	// In time before its end it is renewed while the server runs, under the
	// same authority.
	now = now.Add(serverLife - renewal + time.Hour)
	renewed, err := hello(t, more.TLS(), "127.0.0.1", o.CA(), "new.example", now)
	require.NoError(t, err)
	require.True(t, renewed.NotAfter.After(now.Add(serverLife-time.Minute)))
	kept := open("127.0.0.1", "new.example")
	require.Equal(t, o.CA(), kept.CA())

	// The authority ends: another.
	now = now.Add(authorityLife - serverLife)
	require.NotEqual(t, o.CA(), open("127.0.0.1").CA())

	require.NoError(t, os.WriteFile(filepath.Join(dir, serverFile), []byte("nonsense"), 0o600))
	_, err = Open(Config{Dir: dir})
	require.ErrorContains(t, err, "damaged")
	require.NoError(t, os.Remove(filepath.Join(dir, serverFile)))
	require.NoError(t, os.WriteFile(filepath.Join(dir, authorityFile), nil, 0o600))
	_, err = Open(Config{Dir: dir})
	require.ErrorContains(t, err, "damaged")
}

func TestFiles(t *testing.T) {
	made := func(name string) (string, []byte) {
		dir := t.TempDir()
		o, err := Open(Config{Dir: dir, Names: []string{name}})
		require.NoError(t, err)
		text, err := os.ReadFile(filepath.Join(dir, serverFile))
		require.NoError(t, err)
		return o.CA(), text
	}
	ca1, one := made("one.example")
	ca2, two := made("two.example")
	dir := t.TempDir()
	file, ca := filepath.Join(dir, "both.pem"), filepath.Join(dir, "ca.pem")
	require.NoError(t, os.WriteFile(file, one, 0o600))
	f, err := OpenFiles(file, file, nil)
	require.NoError(t, err)
	_, err = hello(t, f.TLS(), "127.0.0.1", ca1, "one.example", time.Now())
	require.NoError(t, err)
	// Half a change keeps the old one.
	require.NoError(t, os.WriteFile(file, two[:100], 0o600))
	require.NoError(t, os.Chtimes(file, time.Time{}, time.Now().Add(time.Minute)))
	_, err = hello(t, f.TLS(), "127.0.0.1", ca1, "one.example", time.Now())
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(file, two, 0o600))
	_, err = hello(t, f.TLS(), "127.0.0.1", ca2, "two.example", time.Now())
	require.NoError(t, err)

	_, err = OpenFiles(filepath.Join(dir, "absent"), file, nil)
	require.ErrorIs(t, err, os.ErrNotExist)
	require.NoError(t, os.WriteFile(ca, []byte(ca1), 0o600))
	text, err := ReadCA(ca)
	require.NoError(t, err)
	require.Equal(t, ca1, text)
	require.NoError(t, os.WriteFile(ca, []byte("nonsense"), 0o600))
	_, err = ReadCA(ca)
	require.ErrorContains(t, err, "no certificate in PEM")
	require.NoError(t, os.WriteFile(ca, append([]byte(ca1), make([]byte, maxPEM)...), 0o600))
	_, err = ReadCA(ca)
	require.ErrorContains(t, err, "more than")
}

func TestNames(t *testing.T) {
	require.Equal(t, "10.0.0.200", Names("10.0.0.200:4222")[0])
	require.Equal(t, "bus.example", Names("bus.example:4222")[0])
	for _, listen := range []string{"0.0.0.0:4222", "[::]:4222", ":4222", ""} {
		names := Names(listen)
		require.Contains(t, names, "127.0.0.1")
		require.NotContains(t, names, "0.0.0.0")
		require.NotContains(t, names, "::")
	}
}
