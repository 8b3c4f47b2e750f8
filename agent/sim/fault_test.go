package sim

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParseFault(t *testing.T) {
	for text, want := range map[string]Fault{
		"noboot":               {Kind: NoBoot},
		"noboot:n1-1":          {Kind: NoBoot, Nodes: []string{"n1-1"}},
		"die:n1-1, n1-2":       {Kind: Die, Nodes: []string{"n1-1", "n1-2"}},
		"loss=2:n1-1":          {Kind: Loss, Number: 2, Nodes: []string{"n1-1"}},
		"loss=0.5":             {Kind: Loss, Number: 0.5},
		"slowdisk":             {Kind: SlowDisk, Number: defaultSlowDisk},
		"slowdisk=1000000:*":   {Kind: SlowDisk, Number: 1e6},
		"writeerr=1048577":     {Kind: WriteErr, Number: 1048577},
		"reorder":              {Kind: Reorder},
		"flip:omf.nicta.node1": {Kind: Flip, Nodes: []string{"omf.nicta.node1"}},
		"cut":                  {Kind: Cut, Number: defaultCut},
		"cut=10:n1-1":          {Kind: Cut, Number: 10, Nodes: []string{"n1-1"}},
		"lie":                  {Kind: Lie, What: LieDigest},
		"lie=count":            {Kind: Lie, What: LieCount},
		"lie=sound:n1-1":       {Kind: Lie, What: LieSound, Nodes: []string{"n1-1"}},
	} {
		got, err := ParseFault(text)
		require.NoError(t, err, text)
		require.Equal(t, want, got, text)
		again, err := ParseFault(got.String())
		require.NoError(t, err, text)
		require.Equal(t, got, again, text)
	}
	for text, why := range map[string]string{
		"":               "no such kind",
		"melt":           "no such kind",
		"noboot=1":       "takes no value",
		"loss":           "not a number",
		"loss=":          "not a number",
		"loss=100":       "from 0 to 99",
		"loss=-1":        "from 0 to 99",
		"loss=NaN":       "from 0 to 99",
		"writeerr=x":     "not a number",
		"writeerr=1.5":   "not the number of a byte",
		"slowdisk=0":     "from 1",
		"lie=everything": "nobody tells lies",
		"cut=100":        "from 0 to 99",
		"lie=":           "nobody tells lies",
		"flip:":          "empty node name",
		"flip:a,,b":      "empty node name",
	} {
		_, err := ParseFault(text)
		require.ErrorIs(t, err, ErrFault, text)
		require.ErrorContains(t, err, why, text)
		require.ErrorContains(t, err, "writeerr=BYTE", "an error lists the kinds")
	}
}

func FuzzParseFault(f *testing.F) {
	for _, s := range []string{"noboot", "loss=2:n1-1", "lie=count:a,b", "writeerr=9007199254740992", "slowdisk=1e12", ":", "=:"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := ParseFault(text)
		if err != nil {
			return
		}
		again, err := ParseFault(got.String())
		require.NoError(t, err)
		require.Equal(t, got, again)
	})
}
