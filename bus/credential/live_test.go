package credential_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"loadnode/bus/credential"
	"loadnode/events"
)

func TestLive(t *testing.T) {
	var live credential.Live[int]
	one := credential.User{Kind: events.CredentialNode, Testbed: "default", Node: "n1-1", Boot: "b1"}
	other, lasting := one, one
	other.Boot, lasting.Boot = "b2", ""
	for i := range 10 {
		forgotten, ok := live.Admit(one, i)
		require.True(t, ok)
		if i < 8 {
			require.Empty(t, forgotten)
		} else {
			require.Equal(t, []int{i - 8}, forgotten)
		}
		_, ok = live.Admit(lasting, 100+i)
		require.True(t, ok)
	}
	_, ok := live.Admit(other, 20)
	require.True(t, ok)
	require.Equal(t, []int{2, 3, 4, 5, 6, 7, 8, 9}, live.Revoke(one))
	require.Empty(t, live.Revoke(one))
	_, ok = live.Admit(one, 11)
	require.False(t, ok, "who was checked before it was revoked")
	require.Equal(t, []int{20}, live.Revoke(other), "another boot is another credential")
	require.Empty(t, live.Revoke(lasting), "lasting credentials are not revoked, and not counted")
}
