package frisbeesvc

import (
	"encoding/base64"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParseContentRange(t *testing.T) {
	for in, want := range map[string]contentRange{
		"bytes 0-0/1":             {Total: 1},
		"bytes 5-9/10":            {First: 5, Last: 9, Total: 10},
		"bytes */77":              {Total: 77, Nothing: true},
		"bytes 0-1048575/2097152": {Last: 1048575, Total: 2097152},
	} {
		got, err := parseContentRange(in)
		require.NoError(t, err, in)
		require.Equal(t, want, got, in)
	}
	for _, in := range []string{
		"", "bytes", "bytes ", "bytes 0-0", "bytes 0-0/*", "bytes */*", "bytes 1-0/5", "bytes 0-5/5", "bytes -5/10", "bytes 5-/10",
		"bytes +1-2/3", "bytes 1-+2/3", "bytes 0-0/1 ", "bytes  0-0/1", "items 0-0/1", "BYTES 0-0/1", "bytes 0-0/0x10", "bytes 0--1/5",
		"bytes 0-0/9223372036854775807", "bytes 0-18446744073709551616/1", "bytes 0-0/1/2", "bytes 0-0-0/3", "bytes 1_0-11/20",
	} {
		_, err := parseContentRange(in)
		require.Error(t, err, "%q", in)
	}
}

func FuzzParseContentRange(f *testing.F) {
	for _, s := range []string{"bytes 0-0/1", "bytes 5-9/10", "bytes */77", "bytes 1-0/5", "bytes 0-0/9223372036854775807"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := parseContentRange(s)
		if err != nil {
			return
		}
		require.Less(t, r.Total, int64(1)<<62)
		if r.Nothing {
			require.Equal(t, contentRange{Total: r.Total, Nothing: true}, r)
			return
		}
		require.True(t, 0 <= r.First && r.First <= r.Last && r.Last < r.Total)
		back, err := parseContentRange(fmt.Sprintf("bytes %d-%d/%d", r.First, r.Last, r.Total))
		require.NoError(t, err)
		require.Equal(t, r, back)
	})
}

func FuzzParseReprDigest(f *testing.F) {
	good := reprDigest([]byte("x"))
	for _, s := range []string{good, "md5=:AA==:, " + good, "", ",", "sha-256=::", good + "," + good, "sha-256", "sha-256=:!:"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, err := parseReprDigest(s)
		if err != nil || d == nil {
			require.Nil(t, d)
			return
		}
		require.Contains(t, s, ":"+base64.StdEncoding.EncodeToString(d[:])+":")
	})
}

func FuzzPageQuery(f *testing.F) {
	for _, s := range []string{"", "from=1&n=2", "n=0", "from=-1", "from=1&from=2", "%zz", "n=99999999999"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		from, n, err := pageQuery(s)
		if err == nil {
			require.GreaterOrEqual(t, from, 0)
			require.True(t, 1 <= n && n <= maxPage)
		}
	})
}
