package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"loadnode/cmd/omf/internal/config"
	"loadnode/handler/inventory"
)

func TestImport(t *testing.T) {
	data := filepath.Join("internal", "migrate", "testdata")
	frisbee, others := filepath.Join(data, "frisbee.yaml"), filepath.Join(data, "others.yaml")
	dir := filepath.Join(t.TempDir(), "etc", "loadnode")

	r := omf(t, "", "import", frisbee, others, "--out", dir)
	require.Zero(t, r.code, r.stderr)
	settings, nodes := filepath.Join(dir, "loadnode.yaml"), filepath.Join(dir, "inventory.yaml")
	require.Equal(t, settings+"\n"+nodes+"\n", r.stdout)
	require.Contains(t, r.stderr, "frisbee.default.imageDir = /export/orbit/image → serve.images\n")
	require.Contains(t, r.stderr, "frisbee.sb1.colour = blue: this key is not known\n")
	_, err := inventory.Load(nodes)
	require.NoError(t, err)
	cfg, err := config.Load(config.Source{System: dir})
	require.NoError(t, err)
	require.Equal(t, nodes, cfg.Get(config.KeyInventory).Text)

	// Nothing is replaced unasked.
	require.NoError(t, os.WriteFile(settings, []byte("version: 1\n"), 0o600))
	r = omf(t, "", "import", frisbee, others, "--out", dir)
	require.Equal(t, exitRefused, r.code)
	require.Contains(t, r.stderr, "loadnode.yaml is there already; nothing was written")
	text, err := os.ReadFile(settings)
	require.NoError(t, err)
	require.Equal(t, "version: 1\n", string(text))
	require.Zero(t, omf(t, "", "import", frisbee, others, "--out", dir, "--force").code)
	text, err = os.ReadFile(settings)
	require.NoError(t, err)
	require.Contains(t, string(text), "images: /export/orbit/image")

	r = omf(t, "", "import", filepath.Join(data, "nodes.json"), "--testbed", "r2lab", "-o", "json")
	require.Zero(t, r.code, r.stderr)
	got := decode[imported](t, r.stdout)
	require.Equal(t, "r2lab", got.Testbed)
	require.Contains(t, got.Files["inventory.yaml"], "name_prefix: fit")
	require.NotEmpty(t, got.Taken)
	require.NotEmpty(t, got.Left)

	r = omf(t, "", "import", filepath.Join(data, "corner.rb"))
	require.Zero(t, r.code, r.stderr)
	first, second, ok := strings.Cut(r.stdout, "---\n")
	require.True(t, ok)
	require.Contains(t, first, "# loadnode.yaml\n")
	_, err = inventory.Parse([]byte(second))
	require.NoError(t, err)

	for want, args := range map[string][]string{
		"wants one or more FILEs": {"import"},
		"/does/not/exist":         {"import", "/does/not/exist"},
		"is not executed":         {"import", rubyFile(t)},
	} {
		r := omf(t, "", args...)
		require.Equal(t, exitUsage, r.code)
		require.Contains(t, r.stderr, want)
	}
}

// rubyFile is a topology that would do something if it were run.
func rubyFile(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "evil.rb")
	require.NoError(t, os.WriteFile(path, []byte("`touch /tmp/evil`\n"), 0o600))
	return path
}
