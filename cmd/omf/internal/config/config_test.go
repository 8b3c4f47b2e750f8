package config_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"loadnode/cmd/omf/internal/config"
)

func write(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

func TestLayers(t *testing.T) {
	sys, user := t.TempDir(), t.TempDir()
	main := write(t, sys, "loadnode.yaml", "version: 1\nserver: nats://a:1\ntestbed: main\nserve:\n  http: 127.0.0.1:1\n  roles: [nats, handler]\n")
	part := write(t, sys, "conf.d/10.yaml", "testbed: part\nserve: {http: \"127.0.0.1:2\"}\n")
	write(t, sys, "conf.d/ignored.txt", "nonsense: 1\n")
	own := write(t, user, "loadnode.yaml", "serve:\n  grid: 2x2\n")

	c, err := config.Load(config.Source{System: sys, User: user, Environ: []string{"LOADNODE_SERVE_GRID=3x3", "LOADNODE_OUTPUT=json", "LOADNODE_UNRELATED=1", "HOME=/x"}})
	require.NoError(t, err)
	require.Equal(t, config.Value{Text: "nats://a:1", Origin: main + ":2"}, c.Get(config.KeyServer))
	require.Equal(t, config.Value{Text: "part", Origin: part + ":1"}, c.Get(config.KeyTestbed))
	require.Equal(t, config.Value{Text: "127.0.0.1:2", Origin: part + ":2"}, c.Get(config.KeyServeHTTP))
	require.Equal(t, "nats,handler", c.Get(config.KeyRoles).Text)
	require.Equal(t, config.Value{Text: "3x3", Origin: "environment LOADNODE_SERVE_GRID"}, c.Get(config.KeyGrid))
	require.Equal(t, config.OriginDefault, c.Get(config.KeyNATSListen).Origin)

	require.NoError(t, c.Set(config.KeyTestbed, "flagged", "flag --testbed"))
	require.Equal(t, "flag --testbed", c.Get(config.KeyTestbed).Origin)
	require.ErrorIs(t, c.Set("nothing", "", ""), config.ErrKey)

	c, err = config.Load(config.Source{System: sys, User: user, Environ: []string{"LOADNODE_CONFIG=" + own}})
	require.NoError(t, err)
	require.Equal(t, "default", c.Get(config.KeyTestbed).Text, "only the named file is read")
	require.Equal(t, own+":2", c.Get(config.KeyGrid).Origin)
}

func TestStrict(t *testing.T) {
	for name, tc := range map[string]struct{ text, want string }{
		"misspelt":       {"server: x\nsrver: y\n", "loadnode.yaml:2: srver: no such setting; did you mean server?"},
		"misspelt below": {"serve:\n  htpp: y\n", "loadnode.yaml:2: serve.htpp: no such setting; did you mean serve.http?"},
		"foreign":        {"databases: y\n", "databases: no such setting; omf config show lists them"},
		"twice":          {"server: a\nserver: b\n", "loadnode.yaml:2: server is set on line 1 already"},
		"version":        {"version: 2\n", "this program reads version 1"},
		"group as value": {"serve: 1\n", "want a mapping of settings"},
		"value as group": {"server: {a: b}\n", "want a plain value or a list of them"},
		"not a mapping":  {"[1,2]\n", "want a mapping of settings"},
		"two documents":  {"server: a\n---\nserver: b\n", "more than one document"},
		"not yaml":       {"server: [\n", "loadnode.yaml"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir, "loadnode.yaml", tc.text)
			_, err := config.Load(config.Source{System: dir})
			require.ErrorContains(t, err, tc.want)
		})
	}
	for name, text := range map[string]string{"empty": "", "comment": "# nothing\n", "null": "~\n"} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir, "loadnode.yaml", text)
			_, err := config.Load(config.Source{System: dir})
			require.NoError(t, err)
		})
	}
	_, err := config.Load(config.Source{Environ: []string{"LOADNODE_CONFIG=/does/not/exist.yaml"}})
	require.ErrorContains(t, err, "LOADNODE_CONFIG")
}

// FuzzFile feeds arbitrary files: an error or settings, never a panic.
func FuzzFile(f *testing.F) {
	f.Add([]byte("server: a\nserve: {http: b, roles: [x, y]}\n"))
	f.Add([]byte("a: &a [*a]\n"))
	f.Add([]byte("serve: {serve: {serve: {serve: {}}}}\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		dir := t.TempDir()
		require.NoError(t, os.WriteFile(filepath.Join(dir, "loadnode.yaml"), b, 0o600))
		c, err := config.Load(config.Source{System: dir})
		if err == nil {
			for _, s := range config.Settings() {
				require.NotEmpty(t, c.Get(s.Key).Origin)
			}
		}
	})
}
