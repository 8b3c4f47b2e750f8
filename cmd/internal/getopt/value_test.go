package getopt

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestNumber(t *testing.T) {
	for value, want := range map[string]int64{"0": 0, "-5": -5, "9": 9} {
		n, err := Found{"p", value}.Number(-5, 9)
		require.NoError(t, err)
		require.Equal(t, want, n)
	}
	for _, value := range []string{"", "x", "1.5", "0x1", " 1", "-6", "10", "99999999999999999999"} {
		_, err := Found{"port", value}.Number(-5, 9)
		require.ErrorContains(t, err, "option "+Found{"port", value}.String()+": want a number from -5 to 9", "%q", value)
	}
	require.Equal(t, "-p 7", Found{"p", "7"}.String())
	require.Equal(t, "--port 7", Found{"port", "7"}.String())
	require.Equal(t, "-d", Found{"d", ""}.String())
}

func TestIPv4(t *testing.T) {
	a, err := Found{"m", "239.1.2.3"}.IPv4()
	require.NoError(t, err)
	require.Equal(t, netip.AddrFrom4([4]byte{239, 1, 2, 3}), a)
	for _, value := range []string{"", "eth0", "1.2.3", "1.2.3.4:5", "::1", "::ffff:1.2.3.4"} {
		_, err := Found{"m", value}.IPv4()
		require.ErrorContains(t, err, "want an IPv4 address", "%q", value)
	}
}

func TestUUID(t *testing.T) {
	want := [16]byte{0: 0x10, 15: 0xff}
	for _, value := range []string{"100000000000000000000000000000ff", "10000000-0000-0000-0000-0000000000FF"} {
		id, err := Found{"u", value}.UUID()
		require.NoError(t, err)
		require.Equal(t, want, id)
	}
	for _, value := range []string{"", "10", "x00000000000000000000000000000ff", "100000000000000000000000000000ff00"} {
		_, err := Found{"u", value}.UUID()
		require.ErrorContains(t, err, "want 32 hexadecimal digits", "%q", value)
	}
}
