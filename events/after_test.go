package events_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"loadnode/events"
)

func TestParseResize(t *testing.T) {
	for in, want := range map[string]events.Resize{
		"max": {}, "80%": {Percent: 80}, "100%": {Percent: 100}, "512": {Bytes: 512}, "20G": {Bytes: 20 << 30}, "1T": {Bytes: 1 << 40}, "8388607T": {Bytes: 8388607 << 40},
	} {
		got, err := events.ParseResize(in)
		require.NoError(t, err, in)
		require.Equal(t, want, got)
	}
	for _, bad := range []string{"", "0", "0%", "101%", "-1", "1.5G", "G", "%", "20g", "20GB", "maximum", "8388608T", "99999999999999999999", "1 G", "+1"} {
		_, err := events.ParseResize(bad)
		require.ErrorContains(t, err, "want max", bad)
	}
}

func FuzzParseResize(f *testing.F) {
	for _, s := range []string{"max", "80%", "20G", "0", "1T"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := events.ParseResize(s)
		if err == nil {
			require.GreaterOrEqual(t, r.Bytes, int64(0))
			require.True(t, r.Percent >= 0 && r.Percent <= 100)
			require.False(t, r.Bytes > 0 && r.Percent > 0)
		}
	})
}

func TestPersonaliseCheck(t *testing.T) {
	key := "ssh-ed25519 AAAAC3 me@here"
	for _, good := range []*events.Personalise{
		nil, {Hostname: "{node}"}, {Hostname: "x-{node}.example.org", ResetMachineID: true}, {RemoveHostKeys: true},
		{AuthorizedKeys: []string{key}, User: "ubuntu"}, {Seed: &events.Seed{UserData: "#cloud-config\n"}},
	} {
		require.NoError(t, good.Check())
	}
	for says, bad := range map[string]*events.Personalise{
		"nothing is asked for": {},
		"inner hyphens":        {Hostname: "-{node}"},
		"longer than 253":      {Hostname: strings.Repeat("a.", 127)},
		"want a name":          {User: "../root", AuthorizedKeys: []string{key}},
		"gets no keys":         {User: "ubuntu", ResetMachineID: true},
		"at most 64":           {AuthorizedKeys: make([]string, 65)},
		"is no line":           {AuthorizedKeys: []string{key, key + "\n" + key}},
		"the seed has":         {Seed: &events.Seed{UserData: strings.Repeat("x", events.MaxSeed+1)}},
		"the seed is no text":  {Seed: &events.Seed{MetaData: "a\x00"}},
	} {
		require.ErrorContains(t, bad.Check(), says)
	}
	name, err := (&events.Personalise{Hostname: "{node}.tb"}).HostnameOf("omf.nicta_node1")
	require.NoError(t, err)
	require.Equal(t, "omf.nicta-node1.tb", name)
	_, err = (&events.Personalise{Hostname: "{node}"}).HostnameOf("---")
	require.Error(t, err)
}
