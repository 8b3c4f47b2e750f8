package events_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"loadnode/events"
)

func TestULID(t *testing.T) {
	// From the ULID specification: 1469918176385 ms is 01ARYZ6S41.
	id, err := events.NewULID(time.UnixMilli(1469918176385), bytes.NewReader(make([]byte, 10)))
	require.NoError(t, err)
	require.Equal(t, "01aryz6s410000000000000000", id)
	id, err = events.NewULID(time.UnixMilli(1<<48-1), bytes.NewReader(bytes.Repeat([]byte{0xff}, 10)))
	require.NoError(t, err)
	require.Equal(t, "7zzzzzzzzzzzzzzzzzzzzzzzzz", id)
	require.True(t, events.IsULID(id))
	_, err = events.NewULID(time.Now(), iotest.ErrReader(errors.New("no entropy")))
	require.ErrorContains(t, err, "no entropy")

	for _, bad := range []string{"", "x", "8zzzzzzzzzzzzzzzzzzzzzzzzz", "01aryz6s41000000000000000", "01aryz6s4100000000000000000", "01aryz6s41000000000000000i", "01aryz6s41000000000000000u", "01aryz6s41000000000000000.", "\x011aryz6s410000000000000000", "01aryz6s4100000000000000\xc3\xa9"} {
		require.False(t, events.IsULID(bad), bad)
	}
	require.True(t, events.IsULID("01ARYZ6S410000000000000000"))
}

func TestULIDOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ms := rapid.SliceOfN(rapid.Int64Range(0, 1<<48-1), 2, 20).Draw(t, "ms")
		slices.Sort(ms)
		ms = slices.Compact(ms)
		var ids []string
		for _, m := range ms {
			entropy := rapid.SliceOfN(rapid.Byte(), 10, 10).Draw(t, "entropy")
			id, err := events.NewULID(time.UnixMilli(m), bytes.NewReader(entropy))
			require.NoError(t, err)
			require.True(t, events.IsULID(id))
			require.True(t, events.IsULID(strings.ToUpper(id)))
			ids = append(ids, id)
		}
		require.True(t, slices.IsSorted(ids), ids)
	})
}

func TestJobIDs(t *testing.T) {
	require.Equal(t, "01aryz6s410000000000000000", events.JobIDForEvent("/cli", "01ARYZ6S410000000000000000"))
	// Derived ones must stay what they are: a redelivered request finds its
	// job by them, also after an upgrade.
	require.Equal(t, "1jqa80ns9vgqx9mwrxpm5hjbp2", events.JobIDForEvent("/script", "7"))
	require.Equal(t, "1ja7kp3pyxhrb3trxpxamf3z4k", events.JobIDForMessage("OMF_REQ", 7))
	seen := map[string]string{}
	for _, c := range [][2]string{{"a", "bc"}, {"ab", "c"}, {"", "abc"}, {"abc", ""}, {"a", "b"}, {"1:a;", ""}} {
		id := events.JobIDForEvent(c[0], c[1])
		require.True(t, events.IsULID(id))
		require.NotContains(t, seen, id)
		seen[id] = fmt.Sprint(c)
	}
	for seq := range uint64(100) {
		id := events.JobIDForMessage("OMF_REQ", seq)
		require.True(t, events.IsULID(id))
		require.NotContains(t, seen, id)
		seen[id] = fmt.Sprint(seq)
	}
	require.Equal(t, "j:n1-1:load.done:2", events.FactID("j", "n1-1", events.KindLoadDone, 2))
	require.Equal(t, "j:n1-1:reboot:1", events.EffectID("j", "n1-1", "reboot", 1))
	require.Equal(t, "/omf/de_2ffault/agent/omf_2enode1", events.Source("de/fault", "agent", "omf.node1"))
	require.Equal(t, "job/j", events.SubjectAttr("j", ""))
	require.Equal(t, "job/j/node/n", events.SubjectAttr("j", "n"))
}
