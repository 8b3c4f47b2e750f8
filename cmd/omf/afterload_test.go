package main

import (
	le "encoding/binary"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"loadnode/agent/sim"
	"loadnode/events"
	"loadnode/transfer/ndz"
	"loadnode/transfer/ndz/ndztest"
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

// TestResize: the request's wish reaches the disk, and what was done the people who asked.
func TestResize(t *testing.T) {
	t.Parallel()
	b, _ := newBench(t, "2x1")
	const start, sectors, disk = 64, 4000, 16 << 20 // of the partition; bytes of n1-1's disk
	table := make([]byte, 512)
	copy(table[446:], []byte{0, 0, 0, 0, 0xda, 0, 0, 0})
	le.LittleEndian.PutUint32(table[454:], start)
	le.LittleEndian.PutUint32(table[458:], sectors)
	table[510], table[511] = 0x55, 0xaa
	require.NoError(t, os.WriteFile(filepath.Join(b.state, "images", "disk.ndz"), ndztest.Image(t, start+sectors,
		ndztest.Run{Sector: 0, Data: table}, ndztest.Run{Sector: start, Data: ndztest.Noise(7, 8*ndz.SectorSize)}), 0o644))
	path := sim.DiskPath(filepath.Join(b.state, roleSim), "n1-1")
	require.NoError(t, os.WriteFile(path, nil, 0o644))
	require.NoError(t, os.Truncate(path, disk))

	text := b.ok("load", "n1-1", "disk.ndz", "--resize", "max")
	require.Contains(t, text, "1 node: partition 1 grown from 2.0 MiB to 16.0 MiB but not its filesystem")
	got, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Len(t, got, disk)
	require.EqualValues(t, disk/512-start, le.LittleEndian.Uint32(got[458:]))
	id := strings.Fields(text[strings.LastIndex(text, "job "):])[1]
	require.Contains(t, b.ok("job", "show", id), "partition 1 grown")
	var d events.JobDetail
	require.NoError(t, json.Unmarshal([]byte(b.ok("job", "show", id, "-o", "json")), &d))
	require.EqualValues(t, 16<<20-start*512, d.Result.Results[0].Grown.After)

	r := b.omf("load", "n2-1", "disk.ndz", "--hostname-from-node")
	require.Equal(t, exitFailed, r.code, r.stderr)
	require.Contains(t, r.stdout, "without --personalise")
	_, err = os.Stat(sim.DiskPath(filepath.Join(b.state, roleSim), "n2-1"))
	require.ErrorIs(t, err, fs.ErrNotExist, "refused before anything is written")
}
