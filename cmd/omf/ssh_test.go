package main

import (
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"
)

func TestReadBanner(t *testing.T) {
	for in, want := range map[string]string{
		"SSH-2.0-OpenSSH_9.2\r\n":                      "SSH-2.0-OpenSSH_9.2",
		"welcome\r\nto SSH-\nSSH-1.99-x\nmore":         "SSH-1.99-x",
		"SSH-2.0-\x1b[2Jclear\n":                       "SSH-2.0-[2Jclear",
		strings.Repeat("x", maxBanner-8) + "\nSSH-2\n": "SSH-2",
	} {
		got, err := readBanner(iotest.OneByteReader(strings.NewReader(in)))
		require.NoError(t, err, in)
		require.Equal(t, want, got)
	}
	for _, in := range []string{"", "SSH-2.0-cut", "HTTP/1.1 400 Bad Request\r\n\r\n", strings.Repeat("x\n", maxBanner) + "SSH-2.0-late\n"} {
		_, err := readBanner(strings.NewReader(in))
		require.ErrorIs(t, err, errNoBanner)
	}
	_, err := readBanner(iotest.TimeoutReader(iotest.OneByteReader(strings.NewReader("SSH-2.0-x\n"))))
	require.ErrorIs(t, err, iotest.ErrTimeout)
}

// FuzzSSHBanner: whatever a server says, what is returned is one printable line of its own words, and no more is read
// than is allowed.
func FuzzSSHBanner(f *testing.F) {
	for _, s := range []string{"SSH-2.0-OpenSSH_9.2\r\n", "hello\nSSH-2.0-x\n", "SSH-", "\x00\xff\nSSH-\x07\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, said string) {
		r := strings.NewReader(said)
		banner, err := readBanner(r)
		require.LessOrEqual(t, len(said)-r.Len(), maxBanner)
		if err != nil {
			require.ErrorIs(t, err, errNoBanner)
			require.Empty(t, banner)
			return
		}
		require.True(t, strings.HasPrefix(banner, "SSH-"))
		for _, c := range []byte(banner) {
			require.True(t, c >= ' ' && c <= '~')
		}
	})
}
