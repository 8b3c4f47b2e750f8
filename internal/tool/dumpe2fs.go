package tool

import (
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var freeBlocks = regexp.MustCompile(`(?m)^  Free blocks: (.*)$`)

// FreeBlocks are the runs of free blocks in what dumpe2fs says, first and last block of each. With bigalloc these are the
// first blocks of free clusters.
func FreeBlocks(t testing.TB, said string) (runs [][2]uint64) {
	t.Helper()
	for _, m := range freeBlocks.FindAllStringSubmatch(said, -1) {
		for part := range strings.SplitSeq(m[1], ", ") {
			if part == "" {
				continue
			}
			from, to, isRun := strings.Cut(part, "-")
			if !isRun {
				to = from
			}
			a, err := strconv.ParseUint(from, 10, 64)
			require.NoError(t, err)
			b, err := strconv.ParseUint(to, 10, 64)
			require.NoError(t, err)
			runs = append(runs, [2]uint64{a, b})
		}
	}
	return runs
}
