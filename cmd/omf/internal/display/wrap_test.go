package display_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"loadnode/cmd/omf/internal/display"
)

func TestWrap(t *testing.T) {
	require.Equal(t, "one two\n  three", display.Wrap("one  two\nthree", 9, 2))
	require.Equal(t, "anything\nlonger", display.Wrap("anything longer", 3, 0), "a word is not broken")
	require.Empty(t, display.Wrap("  ", 9, 2))
	rapid.Check(t, func(rt *rapid.T) {
		text := rapid.StringMatching(`([a-zé…]{1,9}[ \n]{1,3}){0,20}`).Draw(rt, "text")
		width, indent := rapid.IntRange(1, 60).Draw(rt, "width"), rapid.IntRange(0, 20).Draw(rt, "indent")
		got := display.Wrap(text, width, indent)
		require.Equal(rt, strings.Fields(text), strings.Fields(got))
		for i, line := range strings.Split(got, "\n") {
			if i > 0 {
				require.True(rt, strings.HasPrefix(line, strings.Repeat(" ", indent)))
				line = line[indent:]
			}
			if strings.Contains(line, " ") {
				require.LessOrEqual(rt, indent+utf8.RuneCountInString(line), width)
			}
		}
	})
}
