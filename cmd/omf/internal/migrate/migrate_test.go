package migrate_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"loadnode/cmd/omf/internal/config"
	"loadnode/cmd/omf/internal/migrate"
	"loadnode/handler/inventory"
	"loadnode/internal/golden"
)

func read(t *testing.T, names ...string) []migrate.File {
	t.Helper()
	var files []migrate.File
	for _, n := range names {
		text, err := os.ReadFile(filepath.Join("testdata", n))
		require.NoError(t, err)
		files = append(files, migrate.File{Name: n, Text: text})
	}
	return files
}

// loads has our own readers take the result.
func loads(t *testing.T, r migrate.Result) (*inventory.Inventory, *config.Config) {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "loadnode.yaml"), r.Config, 0o600))
	cfg, err := config.Load(config.Source{System: dir})
	require.NoError(t, err, string(r.Config))
	require.Equal(t, r.Testbed, cfg.Get(config.KeyTestbed).Text)
	if len(r.Inventory) == 0 {
		require.Empty(t, cfg.Get(config.KeyInventory).Text)
		return nil, cfg
	}
	path := filepath.Join(dir, "inventory.yaml")
	require.NoError(t, os.WriteFile(path, r.Inventory, 0o600))
	inv, err := inventory.Load(path)
	require.NoError(t, err, string(r.Inventory))
	require.Equal(t, "/etc/x/inventory.yaml", cfg.Get(config.KeyInventory).Text)
	return inv, cfg
}

func TestGolden(t *testing.T) {
	for name, tc := range map[string]struct {
		testbed string
		files   []string
	}{
		"orbit":    {"", []string{"frisbee.yaml", "others.yaml", "corner.rb"}},
		"sb1":      {"sb1", []string{"frisbee.yaml", "others.yaml"}},
		"rhubarbe": {"r2lab", []string{"nodes.json"}},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := migrate.Convert(migrate.Config{Files: read(t, tc.files...), Testbed: tc.testbed, InventoryPath: "/etc/x/inventory.yaml"})
			require.NoError(t, err)
			loads(t, r)
			var b strings.Builder
			fmt.Fprintf(&b, "%s--- inventory\n%s--- report\n", r.Config, r.Inventory)
			for _, e := range r.Taken {
				fmt.Fprintf(&b, "taken %s:%d %s = %s -> %s; %s\n", e.File, e.Line, e.What, e.Value, e.To, e.Why)
			}
			for _, e := range r.Left {
				fmt.Fprintf(&b, "left %s:%d %s = %s; %s\n", e.File, e.Line, e.What, e.Value, e.Why)
			}
			golden.Equal(t, name+".golden", b.String())
			require.NotContains(t, b.String(), "geheim", "reports go into tickets")
		})
	}
}

// Every key of a file is in the report, whatever it is.
func TestNothingIsDropped(t *testing.T) {
	for _, name := range []string{"frisbee.yaml", "others.yaml"} {
		f := read(t, name)
		r, err := migrate.Convert(migrate.Config{Files: f})
		require.NoError(t, err)
		told := map[int]int{}
		for _, e := range append(r.Taken, r.Left...) {
			told[e.Line]++
		}
		for i, line := range strings.Split(string(f[0].Text), "\n") {
			if _, value, ok := strings.Cut(line, ": "); ok && value != "" {
				require.Equal(t, 1, told[i+1], "%s:%d: %s", name, i+1, line)
			}
		}
	}
}

func TestRhubarbe(t *testing.T) {
	r, err := migrate.Convert(migrate.Config{Files: read(t, "nodes.json"), Testbed: "r2lab", InventoryPath: "/etc/x/inventory.yaml"})
	require.NoError(t, err)
	inv, _ := loads(t, r)
	tb, ok := inv.Testbed("r2lab")
	require.True(t, ok)
	n, ok := tb.Node("fit01")
	require.True(t, ok)
	require.Equal(t, "192.168.3.1 00:03:1d:0e:03:19 native", fmt.Sprint(n.IP, " ", n.MAC, " ", n.Agent))
	name, ok := tb.View(nil).Numbered(2)
	require.True(t, ok)
	require.Equal(t, "fit02", name)
}

func TestAddresses(t *testing.T) {
	files := read(t, "others.yaml", "corner.rb")
	r, err := migrate.Convert(migrate.Config{Files: files, InventoryPath: "/etc/x/inventory.yaml", Addresses: "10.18"})
	require.NoError(t, err)
	inv, _ := loads(t, r)
	tb, _ := inv.Testbed("default")
	require.Len(t, tb.Nodes(), 4)
	for _, n := range tb.Nodes() {
		require.Equal(t, fmt.Sprintf("10.18.%d.%d", n.X, n.Y), n.IP.String())
		require.Equal(t, inventory.AgentLegacy, n.Agent)
	}
	for _, bad := range []string{"10", "10.18.1", "224.1", "x", "::1", "10.18 "} {
		_, err := migrate.Convert(migrate.Config{Files: files, Addresses: bad})
		require.ErrorIs(t, err, migrate.ErrInput, bad)
	}
}

func TestRefused(t *testing.T) {
	for want, f := range map[string]migrate.File{
		"a.yaml: the file is empty":         {Name: "a.yaml"},
		"a.yaml:2: anchors and aliases":     {Name: "a.yaml", Text: []byte("frisbee:\n  a: &x 1\n  b: *x\n")},
		"b.yaml:1: anchors and aliases":     {Name: "b.yaml", Text: []byte("a: &a [x, x]\nb: &b [*a, *a]\n")},
		"a.yaml:1: !ruby/object:Gem is not": {Name: "a.yaml", Text: []byte("frisbee: !ruby/object:Gem {a: b}\n")},
		"a.yaml:3: timeout is there twice":  {Name: "a.yaml", Text: []byte("frisbee:\n  timeout: 1\n  :timeout: 2\n")},
		"a.yaml: more than one document":    {Name: "a.yaml", Text: []byte("a: b\n---\na: b\n")},
		"nested deeper than 8":              {Name: "a.yaml", Text: []byte("a: " + strings.Repeat("[", 20) + strings.Repeat("]", 20))},
		"want services with their keys":     {Name: "a.yaml", Text: []byte("hello")},
		"more than 4194304 bytes":           {Name: "a.yaml", Text: make([]byte, migrate.MaxFile+1)},
		"it is not executed":                {Name: "a.rb", Text: []byte("system('reboot')\n")},
		"it begins like a list of JSON":     {Name: "a.json", Text: []byte("[1, 2")},
		"a.json:1: want a node":             {Name: "a.json", Text: []byte("[1, 2]")},
		"the node has no control hostname":  {Name: "a.json", Text: []byte(`[{"cmc": {"hostname": "x"}}]`)},
		"not a name for a node":             {Name: "a.json", Text: []byte(`[{"control": {"hostname": "a b"}}]`)},
		"makes no inventory":                {Name: "a.json", Text: []byte(`[{"control": {"hostname": "a", "ip": "10.0.0.1"}}, {"control": {"hostname": "b", "ip": "10.0.0.1"}}]`)},
		"a is there twice":                  {Name: "a.json", Text: []byte(`[{"control": {"hostname": "a", "ip": "10.0.0.1"}}, {"control": {"hostname": "a", "ip": "10.0.0.2"}}]`)},
		"the testbeds a, b; choose one":     {Name: "a.yaml", Text: []byte("frisbee: {testbed: {a: {timeout: 1}, b: {timeout: 2}}}")},
		"cannot be a testbed's name":        {Name: "a.yaml", Text: []byte("inventory: {testbed: {\"a b\": {x_max: 1, y_max: 1}}}")},
		"at most 65536 nodes are allowed":   {Name: "a.yaml", Text: []byte("inventory: {testbed: {a: {x_max: 65536, y_max: 65536}}}")},
	} {
		t.Run(want, func(t *testing.T) {
			_, err := migrate.Convert(migrate.Config{Files: []migrate.File{f}})
			require.ErrorIs(t, err, migrate.ErrInput)
			require.ErrorContains(t, err, want)
		})
	}
}

// FuzzConvert feeds arbitrary files: an error, or files that our own readers
// take, never a panic.
func FuzzConvert(f *testing.F) {
	for _, name := range []string{"frisbee.yaml", "others.yaml", "corner.rb", "nodes.json"} {
		text, err := os.ReadFile(filepath.Join("testdata", name))
		require.NoError(f, err)
		f.Add(name, text)
	}
	f.Add("a.yaml", []byte("frisbee: {testbed: {\"a\\nb\": {imageDir: \"/a\\tb\", x_max: 1, y_max: 1}}}"))
	f.Fuzz(func(t *testing.T, name string, text []byte) {
		r, err := migrate.Convert(migrate.Config{Files: []migrate.File{{Name: name, Text: text}}, InventoryPath: "/etc/x/inventory.yaml"})
		if err != nil {
			require.True(t, errors.Is(err, migrate.ErrInput))
			return
		}
		loads(t, r)
	})
}
