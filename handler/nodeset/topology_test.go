package nodeset_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"loadnode/handler/nodeset"
)

func TestParseTopology(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"defTopology('a:b', [[1,1],[1,2]])", "a:b = [1,1] [1,2]"},
		{"# Topology name: a\n# \n# what\n \ndefTopology('a', [[1,1]])\n", "a = [1,1]"},
		{"defTopology('a', [1..3,[1,2]])", "a = [1..3,[1,2]]"},
		{"defTopology('p-topo-success', 'omf.nicta.node1,omf.nicta.node2')", "p-topo-success = omf.nicta.node1 omf.nicta.node2"},
		{`defTopology("a", ["omf.nicta.node1", 'omf.nicta.node2'])`, "a = omf.nicta.node1 omf.nicta.node2"},
		{"defTopology('a', 'system:topo:all')", "a = system:topo:all"},
		{"defTopology('a') { |t|\n  t.addNode(1,2) # first\n  t.addNode(3, 4); t.addNode 5,6\n}\n", "a = [1,2] [3,4] [5,6]"},
		{"defTopology 'a' do |top|\r\n\ttop.addNode('sender',[1,1])\r\n\ttop.addNode(\"receiver\", 2, 3)\r\nend", "a = [1,1] [2,3]"},
		{"defTopology('a') { |t| t.addNode('omf.nicta.node1') t.addNode('s','omf.nicta.node2') t.addNode([1..2,3]) }", "a = omf.nicta.node1 omf.nicta.node2 [1..2,3]"},
		{"defTopology('a', [[1,1]]) { |t| t.addNode(1,2) }", "a = [1,1] [1,2]"},
		{"defTopology('a', [\n  [1,1], # one\n  [2,2]  # two\n])", "a = [1,1] [2,2]"},
		{"defTopology('a', [])", "a = "},
		{"defTopology('a', '')", "a = "},
		{"defTopology('a')", "a = "},
		{"defTopology('a') do |t| end", "a = "},
		{"defTopology('a', [[1,1]])\ndefTopology('b', [[2,2]]);", "a = [1,1], b = [2,2]"},
	} {
		all, err := nodeset.ParseTopology([]byte(c.text))
		require.NoError(t, err, c.text)
		var got []string
		for _, tp := range all {
			got = append(got, tp.Name+" = "+tp.Set.String())
		}
		require.Equal(t, c.want, strings.Join(got, ", "))
	}
}

func TestParseTopologyRefuses(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"", "line 1: the file defines no topology"},
		{"# nothing\n", "defines no topology"},
		{"defTopology('a', [[1,1]])\nsystem('rm -rf /')", "line 2: not understood: system('rm -rf /')"},
		{"\n\ndefTopology('a') { |t|\n  (1..8).each { |x| t.addNode(x,1) }\n}", "line 4: not understood: (1..8).each"},
		{"defTopology('a') { |t|\n  x = 5\n}", "line 2: not understood: x = 5"},
		{"defTopology('a') { |t| t.addNode(x,1) }", "not understood: x,1"},
		{"defTopology('a') { |t| t.addNode(1+1,1) }", "not understood"},
		{"defTopology('a') { |t| t.addNode(1..2,1) }", "not understood"},
		{"defTopology('a') { |t| u.addNode(1,1) }", "not understood: u.addNode"},
		{"defTopology('a') { |t| t.addLink(1,1) }", "not understood"},
		{"defTopology('a') { |t| t.addNode() }", "not understood"},
		{"defTopology('a') { |t| t.addNode('s', []) }", "addNode names no node"},
		{"defTopology('a') { |t|\n t.addNode(1,1)\n", "line 3: the definition is not complete"},
		{"defTopology('a') { t.addNode(1,1) }", "not understood"},
		{"defTopology('a') { |t| end", "not understood: end"},
		{"defTopology('a') do |t| }", "not understood: }"},
		{"defTopology(a, [[1,1]])", "not understood: a,"},
		{"defTopology('a', [[1,1]]", "not complete"},
		{"defTopology('a', \n[[1,1],\n[4..2,1]])", "line 3: 4..2: the range runs backwards"},
		{"defTopology('a', [1])", "a node is [x,y]"},
		{"defTopology('a', [['x',1]])", "unexpected '\\''"},
		{"defTopology('a', ['x',[1,1]])", "not understood"},
		{"defTopology('a', ['x' 'y'])", "not understood"},
		{"defTopology('a', [[1..99999999,1]])", "names 99999999 nodes"},
		{"defTopology('a', '1-60000')\ndefTopology('b', '1-60000')", "line 2: in '1-60000': 1-60000 names 120000 nodes"},
		{"defTopology('a', '~x')", "in '~x'"},
		{"defTopology('a', 'x y,')", "in 'x y,': nothing after the comma"},
		{"defTopology('a', '@/etc/passwd')", "in '@/etc/passwd'"},
		{"defTopology('a', \"#{`id`}\")", "not understood"},
		{"defTopology('a', 'b\\'c')", "not understood"},
		{"defTopology('a', 'b", "not closed"},
		{"defTopology('a\n', 'b')", "not understood"},
		{"defTopology('../a', [[1,1]])", "has no '/'"},
		{"defTopology('', [[1,1]])", "1 to 256 bytes"},
		{strings.Repeat("defTopology('a', [[1,1]])\n", 65), "line 65: more than 64 definitions"},
		{strings.Repeat(" ", nodeset.MaxFile+1), "bytes"},
		{"defTopology('a', " + strings.Repeat("[", 1000), "nested"},
	} {
		all, err := nodeset.ParseTopology([]byte(c.text))
		var pe *nodeset.ParseError
		require.ErrorAs(t, err, &pe, "%.60q", c.text)
		require.ErrorContains(t, err, c.want)
		require.Positive(t, pe.Line)
		require.Nil(t, all)
		require.Less(t, len(err.Error()), 300)
	}
}

func TestTopologies(t *testing.T) {
	tb := grid(3, 3)
	tb.active = []string{"n2-2", "n1-1", "n9-9"}
	tb.topologies = map[string]string{
		"test:two":   "defTopology('test:two', [[1,1],[2,2]])",
		"test:outer": "defTopology('other', 'test:two n3-3 n7-7')",
		"renamed":    "defTopology('old', [[3,1]])",
		"several":    "defTopology('x', [[1,1]])\ndefTopology('several', [[1,2]])",
		"neither":    "defTopology('x', [[1,1]])\ndefTopology('y', [[1,2]])",
		"loop:a":     "defTopology('loop:a', 'loop:b')",
		"loop:b":     "defTopology('loop:b', 'loop:a')",
		"dangling":   "defTopology('dangling', 'no:such')",
		"ruby":       "puts 'hello'",
		"locked":     "locked",
		"empty:set":  "defTopology('empty:set', [])",
		"n1-1":       "defTopology('n1-1', [[3,3]])",
	}
	for i := range 10 {
		tb.topologies[fmt.Sprintf("deep:%d", i)] = fmt.Sprintf("defTopology('deep:%d', 'deep:%d')", i, i+1)
	}
	for _, c := range []struct{ expr, want, missing string }{
		{"test:two", "n1-1 n2-2", ""},
		{"test:outer", "n1-1 n2-2 n3-3", "n7-7"},
		{"system:topo:all ~test:outer", "n1-2 n1-3 n2-1 n2-3 n3-1 n3-2", "~n7-7"},
		{"renamed", "n3-1", ""},
		{"several", "n1-2", ""},
		{"system:topo:active", "n2-2 n1-1", "n9-9"},
		{"[3,3] system:topo:active,test:two", "n3-3 n2-2 n1-1", "n9-9"},
		{"empty:set", "", ""},
		{"n1-1", "n1-1", ""},                // a node before a topology
		{"renamed n1-2", "n1-2", "renamed"}, // not a lone word
		{"no_such", "", "no_such"},
	} {
		nodes, missing := resolve(t, c.expr, tb)
		require.Equal(t, list(c.want), append([]string(nil), nodes...), c.expr)
		require.Equal(t, list(c.missing), missing, c.expr)
	}
	for expr, want := range map[string]string{
		"no:such":         "no such topology: no:such (looked for the files no_such, no/such, no_such.rb, no/such.rb)",
		"system:topo:foo": "no such topology: system:topo:foo",
		"dangling":        "no such topology: no:such",
		"neither":         "its file defines only x, y",
		"loop:a":          "it uses itself",
		"deep:0":          "deeper than 8",
		"ruby":            "topology ruby: topology, line 1: not understood",
		"locked":          "permission denied",
	} {
		set, err := nodeset.Parse(expr)
		require.NoError(t, err)
		nodes, missing, err := set.Resolve(tb)
		require.ErrorContains(t, err, want)
		require.Nil(t, nodes)
		require.Nil(t, missing)
	}

	// Many words do not become many files.
	tb.asked = nil
	nodes, missing := resolve(t, strings.Repeat("typo1 typo2 ", 100), tb)
	require.Empty(t, nodes)
	require.Equal(t, []string{"typo1", "typo2"}, missing)
	require.Empty(t, tb.asked)
	var many strings.Builder
	for i := range 65 {
		name := fmt.Sprintf("t:%d", i)
		tb.topologies[name] = "defTopology('t', [[1,1]])"
		many.WriteString(name + " t:0 ")
	}
	set, err := nodeset.Parse(many.String())
	require.NoError(t, err)
	_, _, err = set.Resolve(tb)
	require.ErrorIs(t, err, nodeset.ErrTooLarge)
}

func TestFindTopology(t *testing.T) {
	require.Equal(t, []string{"a_b_c", "a/b/c", "a_b_c.rb", "a/b/c.rb"}, nodeset.TopologyFiles("a:b:c"))
	require.Equal(t, []string{"a", "a.rb"}, nodeset.TopologyFiles("a"))
	here := fstest.MapFS{
		"system_topo_active_grid.rb": {Data: []byte("1")},
		"both.rb":                    {Data: []byte("2")},
		"x/y/z.rb":                   {Data: []byte("3")},
	}
	repository := fstest.MapFS{
		"both":       {Data: []byte("4")},
		"a/b/c":      {Data: []byte("5")},
		"a/b/c.rb":   {Data: []byte("6")},
		"a/b.rb":     {Data: []byte("7")},
		"big":        {Data: make([]byte, nodeset.MaxFile+1)},
		"x/y/z.rb":   {Data: []byte("8")},
		"etc/passwd": {Data: []byte("9")},
	}
	for name, want := range map[string]string{
		"system:topo:active:grid": "1", "both": "4", "a:b:c": "5", "a:b": "7", "x:y:z": "3",
	} {
		text, err := nodeset.FindTopology(name, here, repository)
		require.NoError(t, err, name)
		require.Equal(t, want, string(text), name)
	}
	_, err := nodeset.FindTopology("nowhere:at:all", here, repository)
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, err = nodeset.FindTopology("a:b:c")
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, err = nodeset.FindTopology("big", here, repository)
	require.ErrorIs(t, err, nodeset.ErrTooLarge)
	for _, bad := range []string{"..:etc:passwd", "/etc/passwd", "a/b", "a::b", "", ".", "a:..", "a\x00", "a\\b"} {
		_, err := nodeset.FindTopology(bad, here, repository)
		require.ErrorIs(t, err, nodeset.ErrTopology, "%q", bad)
	}
}

// A pipe or a directory in the place of a file does not stop anything.
func TestFindTopologyPipe(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, syscall.Mkfifo(filepath.Join(dir, "a"), 0o600))
	require.NoError(t, os.Mkdir(filepath.Join(dir, "b"), 0o700))
	for _, name := range []string{"a", "b"} {
		_, err := nodeset.FindTopology(name, os.DirFS(dir))
		require.ErrorIs(t, err, fs.ErrNotExist)
	}
}

func TestWriteTopology(t *testing.T) {
	var b bytes.Buffer
	require.NoError(t, nodeset.WriteTopology(&b, "system:topo:active:grid", "nodes imaged\nby job 1", []string{"n1-1", "n1-2"}))
	require.Equal(t, "# Topology name: system:topo:active:grid\n# \n# nodes imaged\n# by job 1\n \ndefTopology('system:topo:active:grid', [[1,1],[1,2]])\n", b.String())

	b.Reset()
	require.NoError(t, nodeset.WriteTopology(&b, "p-topo-success", "", []string{"omf.nicta.node1", "n1-2"}))
	require.Equal(t, "# Topology name: p-topo-success\n \ndefTopology('p-topo-success', 'omf.nicta.node1,n1-2')\n", b.String())

	for _, bad := range []string{"a'); system('id", "", "a b"} {
		require.Error(t, nodeset.WriteTopology(&b, bad, "", nil))
	}
	require.ErrorIs(t, nodeset.WriteTopology(&b, "a", "", []string{"x','y"}), nodeset.ErrName)
	require.ErrorIs(t, nodeset.WriteTopology(&b, "a", "", []string{"x\ny"}), nodeset.ErrName)
	// A comment cannot become a definition.
	b.Reset()
	require.NoError(t, nodeset.WriteTopology(&b, "a", "x\ndefTopology('b', [[2,2]])\r\nq\r", []string{"n1-1"}))
	all, err := nodeset.ParseTopology(b.Bytes())
	require.NoError(t, err)
	require.Len(t, all, 1)
}

// Whatever nodes a result has, in whatever order: the file and the expression
// name them again.
func TestResultsComeBack(t *testing.T) {
	for _, tb := range []*testbed{grid(6, 6), fit()} {
		rapid.Check(t, func(t *rapid.T) {
			order := rapid.Permutation(tb.All()).Draw(t, "order")
			nodes := order[:rapid.IntRange(1, len(order)).Draw(t, "count")]

			got, missing := resolve(t, nodeset.Format(nodes), tb)
			require.Equal(t, nodes, got)
			require.Empty(t, missing)

			var b bytes.Buffer
			require.NoError(t, nodeset.WriteTopology(&b, "r:ok", "ok nodes, [9,9]", nodes))
			expr, err := nodeset.Expand("@ok", func(string) ([]byte, error) { return b.Bytes(), nil })
			require.NoError(t, err)
			got, missing = resolve(t, expr, tb)
			require.Equal(t, nodes, got)
			require.Empty(t, missing)

			expr, err = nodeset.Expand("all ~@ok", func(string) ([]byte, error) { return b.Bytes(), nil })
			require.NoError(t, err)
			got, _ = resolve(t, expr, tb)
			require.Len(t, got, len(tb.All())-len(nodes))
		})
	}
}

func FuzzTopology(f *testing.F) {
	for _, s := range []string{
		"defTopology('a:b', [[1,1],[1,2]])", "defTopology('a') { |t|\n  t.addNode(1,2) # x\n t.addNode('s',[1..2,1])\n}",
		"defTopology 'a' do |t| t.addNode 'x' end", "defTopology('a', ['x','y,z ~z'])", "# c\n;;", "defTopology('a', '([1,1]",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		all, err := nodeset.ParseTopology(text)
		if err != nil {
			var pe *nodeset.ParseError
			require.ErrorAs(t, err, &pe)
			require.Positive(t, pe.Line)
			require.Positive(t, pe.Column)
			return
		}
		for _, tp := range all {
			require.NoError(t, nodeset.CheckTopologyName(tp.Name))
			if plain := tp.Set.String(); plain != "" && len(plain) <= nodeset.MaxExpr {
				again, err := nodeset.Parse(plain)
				require.NoError(t, err, plain)
				require.Equal(t, tp.Set, again)
			}
		}
	})
}
