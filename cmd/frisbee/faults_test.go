package main

import (
	"testing"

	"github.com/stretchr/testify/require"

	"loadnode/transfer/mcast"
)

func TestParseFaults(t *testing.T) {
	f, err := parseFaults("loss=0.05,reorder=1,duplicate=0,seed=7")
	require.NoError(t, err)
	require.Equal(t, &faults{mcast.Faults{Loss: 0.05, Reorder: 1}, 7}, f)
	for _, bad := range []string{"", "loss", "loss=2", "loss=-0.1", "loss=NaN", "seed=x", "delay=1", "loss=0.1,"} {
		_, err := parseFaults(bad)
		require.ErrorContains(t, err, "option faults", bad)
	}
	var none *faults
	require.Nil(t, none.damage(nil))
}
