package nodeset_test

import (
	"errors"
	"io/fs"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"loadnode/handler/nodeset"
)

var files = map[string]string{
	"two.txt":     "# the good ones\nn1-1\nn2-2   # here\r\n\n",
	"set":         "[1..2,3]  1-3, \n fit7\n",
	"minus":       "all ~n1-1",
	"none":        "# nobody\n",
	"topo.rb":     "# Topology name: x\ndefTopology('x', [[1,1],[1,2]])\n",
	"no-topo.rb":  "defTopology('x', [])",
	"bad-topo.rb": "defTopology('x', [[1..99999999,1]])",
	"nested":      "@two.txt",
	"bad":         "[1",
	"-":           "n3-3",
	"big":         strings.Repeat("x", nodeset.MaxFile+1),
	"long":        strings.Repeat("abcdefghij ", nodeset.MaxExpr/11-10),
	"a/b-c.d":     "n4-4",
}

func readFile(name string) ([]byte, error) {
	text, ok := files[name]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return []byte(text), nil
}

func TestExpand(t *testing.T) {
	for expr, want := range map[string]string{
		"":                     "",
		"all":                  "all",
		"[1,1] n-2 1-3 -a":     "[1,1] n-2 1-3 -a",
		"@two.txt":             "(n1-1 n2-2)",
		"-":                    "(n3-3)",
		"- fit1":               "(n3-3) fit1",
		"@set,@two.txt\tfit8":  "([1..2,3] 1-3 fit7),(n1-1 n2-2)\tfit8",
		"all ~@two.txt":        "all ~(n1-1 n2-2)",
		"all ~@none":           "all ~()",
		"all ~@no-topo.rb":     "all ~()",
		"@minus ~-":            "(all ~n1-1) ~(n3-3)",
		"@topo.rb":             "([1,1] [1,2])",
		"(@a/b-c.d)":           "((n4-4))",
		"[1,@two.txt]":         "[1,@two.txt]", // refused by Parse
		"n1@two.txt":           "n1@two.txt",
		"[[1,1],[2,2]] - ~-":   "[[1,1],[2,2]] (n3-3) ~(n3-3)",
		"~1,2 - @two.txt,-,~-": "~1,2 (n3-3) (n1-1 n2-2),(n3-3),~(n3-3)",
	} {
		got, err := nodeset.Expand(expr, readFile)
		require.NoError(t, err, expr)
		require.Equal(t, want, got)
	}
	for expr, want := range map[string]string{
		"@nowhere":      "nodes from nowhere: file does not exist",
		"@":             "@ needs the name of a file",
		"all @ two.txt": "node set, column 5: @ needs",
		"@none":         "nodes from none: node set is empty",
		"@no-topo.rb":   "node set is empty",
		"@nested":       "nodes from nested: node set, column 1: files (@name)",
		"@bad":          "nodes from bad: node set, column 1: the bracket is not closed",
		"@bad-topo.rb":  "names 99999999 nodes",
		"@big":          "node set too large",
		"@long @long":   "the whole expression may have 262144 bytes",
	} {
		_, err := nodeset.Expand(expr, readFile)
		require.ErrorContains(t, err, want, expr)
	}
	_, err := nodeset.Expand("-", func(name string) ([]byte, error) {
		require.Equal(t, "-", name)
		return nil, errors.New("terminal gone")
	})
	require.EqualError(t, err, "nodes from standard input: terminal gone")
}

func FuzzExpand(f *testing.F) {
	f.Add("all ~@f,-", "n1-1 # x\n[1,2]")
	f.Add("(@f)", "defTopology('x', [[1,1]])")
	f.Fuzz(func(t *testing.T, expr, content string) {
		out, err := nodeset.Expand(expr, func(string) ([]byte, error) { return []byte(content), nil })
		if err != nil {
			return
		}
		if set, err := nodeset.Parse(out); err == nil {
			require.NotContains(t, set.String(), "@", "a server never sees a file")
		}
	})
}
