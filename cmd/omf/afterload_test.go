package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"loadnode/events"
)

func TestResizeForms(t *testing.T) {
	for _, c := range []struct {
		f    afterLoad
		want string
		err  string
	}{
		{f: afterLoad{}},
		{f: afterLoad{resize: "max"}, want: "max"},
		{f: afterLoad{resize: "80%"}, want: "80%"},
		{f: afterLoad{omfResize: "0"}, want: "max"},
		{f: afterLoad{omfResize: "0%"}, want: "max"},
		{f: afterLoad{omfResize: "20"}, want: "20G"},
		{f: afterLoad{omfResize: "20%"}, want: "80%"},
		{f: afterLoad{omfResize: "100%"}, err: "want 0, a number of GB"},
		{f: afterLoad{omfResize: "+1"}, err: "want 0, a number of GB"},
		{f: afterLoad{omfResize: "x"}, err: "want 0, a number of GB"},
		{f: afterLoad{resize: "0"}, err: "want max"},
		{f: afterLoad{resize: "max", omfResize: "0"}, err: "two forms of one thing"},
	} {
		var r events.LoadRequest
		err := c.f.fill(&r)
		if c.err != "" {
			require.ErrorContains(t, err, c.err)
			continue
		}
		require.NoError(t, err)
		require.Equal(t, c.want, r.Resize)
		require.Nil(t, r.Personalise)
	}
}

func TestPersonaliseFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "who.yaml")
	fill := func(text string, f afterLoad) (events.LoadRequest, error) {
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
		f.file = file
		var r events.LoadRequest
		return r, f.fill(&r)
	}
	var r events.LoadRequest
	require.NoError(t, (&afterLoad{hostname: true}).fill(&r))
	require.Equal(t, &events.Personalise{Hostname: "{node}"}, r.Personalise)

	const text = "reset_machine_id: true\nremove_host_keys: true\nuser: ubuntu\nauthorized_keys:\n- ssh-ed25519 AAAA me\nseed:\n  user_data: |\n    #cloud-config\n"
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	r = events.LoadRequest{}
	require.NoError(t, (&afterLoad{file: file, hostname: true}).fill(&r))
	require.Equal(t, &events.Personalise{
		Hostname: "{node}", ResetMachineID: true, RemoveHostKeys: true, User: "ubuntu", AuthorizedKeys: []string{"ssh-ed25519 AAAA me"},
		Seed: &events.Seed{UserData: "#cloud-config\n"},
	}, r.Personalise)
	for bad, says := range map[string]string{
		"":                             "it says nothing",
		"host: x":                      "keys are hostname",
		"hostname: [a]":                "keys are hostname",
		"hostname: _":                  "inner hyphens",
		"- a":                          "cannot unmarshal",
		strings.Repeat("#", 300<<10):   "more than",
		"reset_machine_id: false\n":    "nothing is asked for",
		"seed: {user_data: \"\\0\"}\n": "no text",
	} {
		_, err := fill(bad, afterLoad{})
		require.ErrorContains(t, err, says, bad)
	}
	_, err := fill("hostname: a\n", afterLoad{hostname: true})
	require.ErrorContains(t, err, "has a hostname already")
}

// FuzzPersonaliseFile: what is read passes through a request unchanged.
func FuzzPersonaliseFile(f *testing.F) {
	for _, s := range []string{"hostname: '{node}'", "seed: {user_data: x}", "authorized_keys: [a b]", "a: &a [*a]"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := parsePersonalise(text)
		if err == nil {
			require.NotNil(t, p)
			_ = p.Check()
		}
	})
}
