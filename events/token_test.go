package events_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"loadnode/events"
)

var tokenForm = regexp.MustCompile(`^[a-z0-9_-]+$`)

func TestEscape(t *testing.T) {
	for name, token := range map[string]string{
		"n1-2":             "n1-2",
		"default":          "default",
		"baseline-2.1.ndz": "baseline-2_2e1_2endz",
		"omf.nicta.node1":  "omf_2enicta_2enode1",
		"a_b":              "a_5fb",
		"Node":             "_4eode",
		"a/b":              "a_2fb",
		">":                "_3e",
		"*":                "_2a",
		"é":                "_c3_a9",
		"\x00\xff":         "_00_ff",
	} {
		require.Equal(t, token, events.Escape(name))
		back, err := events.Unescape(token)
		require.NoError(t, err)
		require.Equal(t, name, back)
	}
	for _, token := range []string{"a.b", "A", "_", "_2", "_2E", "_zz", "_61", "_2d", "a b", "é", ">", "a_"} {
		_, err := events.Unescape(token)
		require.ErrorIs(t, err, events.ErrToken, token)
	}
	for _, token := range []string{"", strings.Repeat("a", events.MaxNameLen+1)} {
		_, err := events.Unescape(token)
		require.ErrorIs(t, err, events.ErrName, token)
	}
	require.NoError(t, events.CheckName(strings.Repeat("a", events.MaxNameLen)))
}

// TestEscapeProperty: reversible, injective, and always one token.
func TestEscapeProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.SliceOfN(rapid.Byte(), 1, events.MaxNameLen)
		a, b := string(name.Draw(t, "a")), string(name.Draw(t, "b"))
		require.Regexp(t, tokenForm, events.Escape(a))
		require.LessOrEqual(t, len(events.Escape(a)), 3*len(a))
		back, err := events.Unescape(events.Escape(a))
		require.NoError(t, err)
		require.Equal(t, a, back)
		require.Equal(t, a == b, events.Escape(a) == events.Escape(b))
	})
}

func FuzzUnescape(f *testing.F) {
	f.Add("n1-2")
	f.Add("a_2eb")
	f.Add("_")
	f.Fuzz(func(t *testing.T, token string) {
		name, err := events.Unescape(token)
		if err == nil && events.Escape(name) != token {
			t.Fatalf("%q stands for %q, whose token is %q", token, name, events.Escape(name))
		}
	})
}
