package install

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"loadnode/transfer/disk"
)

// keeper is a target that cannot discard.
type keeper struct{ disk.Target }

func TestDiscard(t *testing.T) {
	target, err := disk.Open(filepath.Join(t.TempDir(), "disk"), disk.Options{Create: true})
	require.NoError(t, err)
	defer target.Close()
	_, err = New(Config{Target: keeper{target}, Discard: true})
	require.ErrorIs(t, err, disk.ErrNoDiscard)
	if !target.(disk.Discarder).CanDiscard() {
		t.Skip("this filesystem cannot punch holes")
	}
	old := make([]byte, 1<<20)
	for i := range old {
		old[i] = 0xee
	}
	for _, fill := range []Fill{Skip, Zero, Pattern} {
		_, err = target.WriteAt(old, 0)
		require.NoError(t, err)
		in, err := New(Config{Target: target, Discard: true, Fill: fill, Pattern: 0xabababab})
		require.NoError(t, err)
		require.NoError(t, in.fill(context.Background(), 8192, 65536))
		want := byte(0) // a file punches holes; on a device Skip would promise nothing
		if fill == Pattern {
			want = 0xab
		}
		got := make([]byte, len(old))
		_, err = target.ReadAt(got, 0)
		require.NoError(t, err)
		for i, b := range got {
			if inside := i >= 8192 && i < 8192+65536; inside && b != want || !inside && b != 0xee {
				t.Fatalf("fill %d: byte %d is %#x", fill, i, b)
			}
		}
	}
}
