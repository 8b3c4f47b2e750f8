package nodeset_test

import (
	"fmt"
	"math"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"loadnode/handler/nodeset"
)

func resolve(t require.TestingT, expr string, v nodeset.View) (nodes, missing []string) {
	set, err := nodeset.Parse(expr)
	require.NoError(t, err, expr)
	nodes, missing, err = set.Resolve(v)
	require.NoError(t, err, expr)
	return nodes, missing
}

func list(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Fields(text)
}

func rectangle(x0, x1, y0, y1 int) string {
	var names []string
	for x := x0; x <= x1; x++ {
		for y := y0; y <= y1; y++ {
			names = append(names, nodeset.Name(x, y))
		}
	}
	return strings.Join(names, " ")
}

// OMF's language (omf-legacy c.3) on a grid of 20 by 20.
func TestGrid(t *testing.T) {
	tb := grid(20, 20)
	for _, c := range []struct{ expr, want, missing, plain string }{
		{"[1,1]", "n1-1", "", "[1,1]"},
		{"[1..4,2]", "n1-2 n2-2 n3-2 n4-2", "", "[1..4,2]"},
		{"[1..8,1..8]", rectangle(1, 8, 1, 8), "", "[1..8,1..8]"},
		{"[[1,1],[2,2]]", "n1-1 n2-2", "", "[1,1] [2,2]"},
		{"[[1,1],[2..6,1..2]]", "n1-1 " + rectangle(2, 6, 1, 2), "", "[1,1] [2..6,1..2]"},
		{"[2,[1,3]]", "n2-1 n2-3", "", "[2,[1,3]]"},
		{"[1..2,[1,3]]", "n1-1 n1-3 n2-1 n2-3", "", "[1..2,[1,3]]"},
		{"[[1,2],[3,4]]", "n1-2 n3-4", "", "[1,2] [3,4]"},
		{"[[1,2,4],[3,5]]", "n1-3 n1-5 n2-3 n2-5 n4-3 n4-5", "", "[[1,2,4],[3,5]]"},
		{"[[3,1],7]", "n3-7 n1-7", "", "[[3,1],7]"},
		{"[[1,1]]", "n1-1", "", "[1,1]"},
		{"[[[1,1],[2,2]],[3,3]]", "n1-1 n2-2 n3-3", "", "[1,1] [2,2] [3,3]"},
		{"1,1..2", "n1-1 n1-2", "", "[1,1..2]"}, // omf tell, omf stat
		{"[1,1],[2..3,4]", "n1-1 n2-4 n3-4", "", "[1,1] [2..3,4]"},
		{"2..3,[1,5]", "n2-1 n2-5 n3-1 n3-5", "", "[2..3,[1,5]]"},
		{"[1,2,3],4..5", rectangle(1, 3, 4, 5), "", "[[1,2,3],4..5]"},
		{"1..2,3..4", rectangle(1, 2, 3, 4), "", "[1..2,3..4]"},
		{"[ 1 , 2 ] [ [3,4] , [5,6] ]", "n1-2 n3-4 n5-6", "", "[1,2] [3,4] [5,6]"},
		{"[2,2] [1..2,1..2]", "n2-2 n1-1 n1-2 n2-1", "", "[2,2] [1..2,1..2]"},
		{"[007,8]", "n7-8", "", "[7,8]"},
		// Spellings of one node.
		{"n1-2", "n1-2", "", "n1-2"},
		{"n_1_2", "n1-2", "", "n_1_2"},
		{"node1-2", "n1-2", "", "node1-2"},
		{"node1_2", "n1-2", "", "node1_2"},
		{"[1,2] n1-2 n_1_2 node1-2", "n1-2", "", "[1,2] n1-2 n_1_2 node1-2"},
		// Outside of the grid.
		{"[9,9] [21,1] [1,21]", "n9-9", "n21-1 n1-21", "[9,9] [21,1] [1,21]"},
		{"[19..22,1]", "n19-1 n20-1", "n21-1 n22-1", "[19..22,1]"},
		{"n0-0 n_21_1 n21-1", "", "n0-0 n21-1", "n0-0 n_21_1 n21-1"},
		{"[99999999,1]", "", "n99999999-1", "[99999999,1]"},
		{"omf.nicta.node1", "", "omf.nicta.node1", "omf.nicta.node1"},
		{"10.18.1.2", "", "10.18.1.2", "10.18.1.2"},
		// Numbers count through the grid.
		{"1 20 21 401", "n1-1 n1-20 n2-1", "401", "1 20 21 401"},
		{"all ~[1..20,1..19]", strings.Join(column20(), " "), "", "all ~[1..20,1..19]"},
		{"[1..2,1..2] ~[1,1],[2,2]", "n1-2 n2-1", "", "[1..2,1..2] ~[1,1] ~[2,2]"},
		{"[1..2,1..2] ~1,1..2", "n2-1 n2-2", "", "[1..2,1..2] ~[1,1..2]"},
		{"[1..3,1] ~[9..21,1]", "n1-1 n2-1 n3-1", "~n21-1", "[1..3,1] ~[9..21,1]"},
		{"([1..2,1] ~n1-1) n3-1", "n2-1 n3-1", "", "([1..2,1] ~n1-1) n3-1"},
		{"[1..4,1] ~([1..2,1] ~n1-1)", "n1-1 n3-1 n4-1", "", "[1..4,1] ~([1..2,1] ~n1-1)"},
		{"[1,1] ~()", "n1-1", "", "[1,1] ~()"},
	} {
		t.Run(c.expr, func(t *testing.T) {
			nodes, missing := resolve(t, c.expr, tb)
			require.Equal(t, list(c.want), append([]string(nil), nodes...))
			require.Equal(t, list(c.missing), missing)
			set, err := nodeset.Parse(c.expr)
			require.NoError(t, err)
			require.Equal(t, c.plain, set.String())
			again, err := nodeset.Parse(set.String())
			require.NoError(t, err)
			require.Equal(t, set, again)
		})
	}
}

func column20() (names []string) {
	for x := 1; x <= 20; x++ {
		names = append(names, nodeset.Name(x, 20))
	}
	return names
}

// rhubarbe's language (README "node scope") on fit01 … fit37.
func TestRhubarbe(t *testing.T) {
	span := func(lo, hi int) (n []int) {
		for i := lo; i <= hi; i++ {
			n = append(n, i)
		}
		return n
	}
	for _, c := range []struct {
		expr    string
		want    []int
		missing string
	}{
		{"1 4 5", []int{1, 4, 5}, ""},
		{"5 4 1 4", []int{5, 4, 1}, ""},
		{"1 3 fit8 fit12", []int{1, 3, 8, 12}, ""},
		{"1-3 8-10", []int{1, 2, 3, 8, 9, 10}, ""},
		{"1-10-2", []int{1, 3, 5, 7, 9}, ""},
		{"1-9-2", []int{1, 3, 5, 7, 9}, ""},
		{"3-3", []int{3}, ""},
		{"3-5-100", []int{3}, ""},
		{"-a", span(1, 37), ""},
		{"all", span(1, 37), ""},
		{"system:topo:all", span(1, 37), ""},
		{"-a ~10-20", append(span(1, 9), span(21, 37)...), ""},
		{"-a ~4", append(span(1, 3), span(5, 37)...), ""},
		{"1-18 ~2-18-2", []int{1, 3, 5, 7, 9, 11, 13, 15, 17}, ""},
		{"1-4 ~2 2", []int{1, 3, 4, 2}, ""}, // left to right
		{"1-8 ~2,3,fit5", []int{1, 4, 6, 7, 8}, ""},
		{"1-8 ~2,~3", []int{1, 4, 5, 6, 7, 8}, ""},
		{"1-3,8,~2", []int{1, 3, 8}, ""},
		{"fit01,fit03", []int{1, 3}, ""},
		{"fit01 , fit3,\nfit003", []int{1, 3}, ""},
		{"fit1-3", []int{1, 2, 3}, ""},
		{"fit1-fit3", []int{1, 2, 3}, ""},
		{"fit1-10-2 ~fit3", []int{1, 5, 7, 9}, ""},
		{"faraday", []int{7}, ""},
		{"36-39", []int{36, 37}, "fit38 fit39"},
		{"1 fit38 fit-3 fitx n1-1 38", []int{1}, "fit38 fit-3 fitx n1-1"},
		{"-a ~99", span(1, 37), "~fit99"},
		{"1 ~(fit98 97)", []int{1}, "~fit98 ~fit97"},
		{"[1,1]", nil, "n1-1"},
		{"0", nil, "fit0"},
	} {
		t.Run(c.expr, func(t *testing.T) {
			nodes, missing := resolve(t, c.expr, fit())
			require.Equal(t, fits(c.want...), append([]string(nil), nodes...))
			require.Equal(t, list(c.missing), missing)
		})
	}
}

// What the parser refuses, and what it says.
func TestParseRefuses(t *testing.T) {
	for _, c := range []struct {
		expr string
		kind error
		want string
	}{
		{"", nodeset.ErrEmpty, "column 1: no node is named"},
		{" \t\n", nodeset.ErrEmpty, ""},
		{"[]", nodeset.ErrEmpty, "[] names no node"},
		{"[1,1] [[],[1,1]]", nodeset.ErrEmpty, "column 8"},
		{"()", nodeset.ErrEmpty, ""},
		{"1,2", nodeset.ErrAmbiguous, "column 1: 1,2 can be one node or two: write [1,2]"},
		{"1 , 2", nodeset.ErrAmbiguous, ""},
		{"2,[1,3]", nodeset.ErrAmbiguous, ""},
		{"all ~1,2", nodeset.ErrAmbiguous, "column 5: 1,2 can be"},
		{"~20", nodeset.ErrAmbiguous, "write all ~20"},
		{"~20 all", nodeset.ErrAmbiguous, ""},
		{"all ~(~20)", nodeset.ErrAmbiguous, ""},
		{"all,~4,fit7", nodeset.ErrAmbiguous, "does the ~ before reach the item at column 8"},
		{"[1]", nodeset.ErrSyntax, "[1] has 1 numbers; a node is [x,y]"},
		{"[1,2,3]", nodeset.ErrSyntax, "a node is [x,y]"},
		{"[1..4]", nodeset.ErrSyntax, "[1..4] is neither a pair"},
		{"[1..4,2..3,4]", nodeset.ErrSyntax, "neither a pair"},
		{"[[1,1],2..3,[1,2]]", nodeset.ErrSyntax, "neither"},
		{"[[1..2],[3,4]]", nodeset.ErrSyntax, "neither"},
		{"[1,1", nodeset.ErrSyntax, "not closed"},
		{"[1,", nodeset.ErrSyntax, "not closed"},
		{"[", nodeset.ErrSyntax, "not closed"},
		{"[1,1]]", nodeset.ErrSyntax, "column 6"},
		{"[1,1][2,2]", nodeset.ErrSyntax, "want a blank or a comma after [1,1]"},
		{"[1 1]", nodeset.ErrSyntax, "want a comma or ]"},
		{"[1,,1]", nodeset.ErrSyntax, "unexpected ','"},
		{"[4..1,1]", nodeset.ErrSyntax, "4..1: the range runs backwards"},
		{"[1...4,1]", nodeset.ErrSyntax, "two dots"},
		{"[1..,1]", nodeset.ErrSyntax, "two numbers"},
		{"[1.5,1]", nodeset.ErrSyntax, "1.5 is neither"},
		{"[-1,1]", nodeset.ErrSyntax, "unexpected '-'"},
		{"[1-3,1]", nodeset.ErrSyntax, "unexpected '-'"},
		{"[x,1]", nodeset.ErrSyntax, "unexpected 'x'"},
		{"[1+1,1]", nodeset.ErrSyntax, ""},
		{"[1,`id`]", nodeset.ErrSyntax, ""},
		{"[system('rm'),1]", nodeset.ErrSyntax, ""},
		{"[fit01]", nodeset.ErrSyntax, ""},
		{"1..4", nodeset.ErrSyntax, "1..4: a range with dots belongs into a pair"},
		{"1..2,3,4", nodeset.ErrSyntax, "belongs into a pair"},
		{"1..2..3,4", nodeset.ErrSyntax, ""},
		{"3-1", nodeset.ErrSyntax, "backwards"},
		{"1-10-0", nodeset.ErrSyntax, "step is 0"},
		{"1-2-3-4", nodeset.ErrSyntax, "from-to-step"},
		{"1-", nodeset.ErrSyntax, ""},
		{"1--3", nodeset.ErrSyntax, ""},
		{"1,", nodeset.ErrSyntax, "nothing after the comma"},
		{"1,,2", nodeset.ErrSyntax, "nothing after the comma"},
		{",1", nodeset.ErrSyntax, "unexpected ','"},
		{"all ~", nodeset.ErrSyntax, "nothing after ~"},
		{"all ~ 4", nodeset.ErrSyntax, "unexpected ' '"},
		{"all ~~4", nodeset.ErrSyntax, "unexpected '~'"},
		{"1~2", nodeset.ErrSyntax, "want a blank or a comma"},
		{"(1 2", nodeset.ErrSyntax, "parenthesis is not closed"},
		{"1)", nodeset.ErrSyntax, ""},
		{"(1,)", nodeset.ErrSyntax, "nothing after the comma"},
		{"-b", nodeset.ErrSyntax, "to take nodes away write ~"},
		{"-", nodeset.ErrSyntax, "standard input"},
		{"--all", nodeset.ErrSyntax, ""},
		{"@nodes.txt", nodeset.ErrSyntax, "read by the command line"},
		{"../etc/passwd", nodeset.ErrSyntax, ""},
		{"/etc/passwd", nodeset.ErrSyntax, "a path cannot name nodes"},
		{"'n1-1'", nodeset.ErrSyntax, "quotes"},
		{"a::b", nodeset.ErrSyntax, "words with a colon between"},
		{":", nodeset.ErrSyntax, ""},
		{"..:..:etc:passwd", nodeset.ErrSyntax, ""},
		{"a:.", nodeset.ErrSyntax, ""},
		{"né", nodeset.ErrSyntax, "want a blank or a comma after n"},
		{"é", nodeset.ErrSyntax, "unexpected 'é'"},
		{"\xff", nodeset.ErrSyntax, ""},
		{"n1-1;n1-2", nodeset.ErrSyntax, ""},
		{"$NODES", nodeset.ErrSyntax, "unexpected '$'"},
		{"all\x00", nodeset.ErrSyntax, ""},
		{"[1..99999999,1]", nodeset.ErrTooLarge, "[1..99999999,1] names 99999999 nodes, allowed are 65536"},
		{"[1..999999999,1..999999999]", nodeset.ErrTooLarge, ""},
		{"[1..9999999999,1]", nodeset.ErrSyntax, "at most 9 digits"},
		{"[1..256,1..256] [1,1]", nodeset.ErrTooLarge, "names 65537 nodes"},
		{"1-99999999", nodeset.ErrTooLarge, ""},
		{"1..99999999,1", nodeset.ErrTooLarge, ""},
		{"1-99999999999", nodeset.ErrSyntax, "at most 9 digits"},
		{strings.Repeat("[", 9) + "1,1", nodeset.ErrTooLarge, "nested deeper than 8"},
		{strings.Repeat("[", 100000), nodeset.ErrTooLarge, "nested"},
		{strings.Repeat("(", 100000), nodeset.ErrTooLarge, "nested"},
		{strings.Repeat("n", 257), nodeset.ErrTooLarge, "257 bytes"},
		{strings.Repeat("n ", nodeset.MaxExpr), nodeset.ErrTooLarge, "the expression has"},
		{strings.Repeat("n ", nodeset.MaxNodes+1), nodeset.ErrTooLarge, "more than 65536 items"},
		{"[" + strings.Repeat("1,", 70000) + "1]", nodeset.ErrTooLarge, "elements in a list"},
		{"[[" + strings.Repeat("1,", 5000) + "1],1]", nodeset.ErrTooLarge, "numbers in a list"},
	} {
		set, err := nodeset.Parse(c.expr)
		require.ErrorIs(t, err, c.kind, "%.40q", c.expr)
		require.ErrorContains(t, err, c.want)
		require.True(t, set.Empty())
		require.Less(t, len(err.Error()), 400, "an error is a line")
		var pe *nodeset.ParseError
		require.ErrorAs(t, err, &pe)
		require.True(t, pe.Column >= 1 && pe.Line == 0)
	}
}

// Deep but legal nesting is not held against what follows.
func TestNestingEnds(t *testing.T) {
	nodes, _ := resolve(t, strings.Repeat("[[[[1,1]]]] (((n1-2))) ", 20), grid(2, 2))
	require.Equal(t, []string{"n1-1", "n1-2"}, nodes)
}

// A hostile expression is refused before anything is made of it.
func TestHostileCostsNothing(t *testing.T) {
	for _, expr := range []string{
		"[1..99999999,1]", "[1..999999999,1..999999999]", "1-99999999", "1..99999999,1..2",
		"[[1,1],[1..99999,1..99999]]", "[" + strings.Repeat("[1..99999,1],", 1000) + "[1,1]]",
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := nodeset.Parse(expr)
		runtime.ReadMemStats(&after)
		require.ErrorIs(t, err, nodeset.ErrTooLarge)
		limit := uint64(16<<10 + 400*len(expr))
		require.Less(t, after.TotalAlloc-before.TotalAlloc, limit, "%.40q", expr)
	}
}

// Words that make the resolution work are counted as well.
func TestResolveBounded(t *testing.T) {
	set, err := nodeset.Parse(strings.Repeat("all ", 60000))
	require.NoError(t, err)
	_, _, err = set.Resolve(grid(20, 20))
	require.ErrorIs(t, err, nodeset.ErrTooLarge)

	tb := fit()
	set, err = nodeset.Parse("fit1-99999999")
	require.NoError(t, err)
	_, _, err = set.Resolve(tb)
	require.ErrorIs(t, err, nodeset.ErrTooLarge)
}

func TestCircle(t *testing.T) {
	// Written down from omf-legacy c.3: (10,18), (10,2) and for dx 1…8 the
	// four points 10±dx, 10±round(sqrt(64-dx²)).
	var want []string
	seen := map[string]bool{}
	add := func(x, y int) {
		if n := nodeset.Name(x, y); !seen[n] {
			seen[n] = true
			want = append(want, n)
		}
	}
	add(10, 18)
	add(10, 2)
	for dx, dy := range []int{1: 8, 2: 8, 3: 7, 4: 7, 5: 6, 6: 5, 7: 4, 8: 0} {
		if dx == 0 {
			continue
		}
		require.InDelta(t, math.Sqrt(float64(64-dx*dx)), dy, 0.5)
		add(10+dx, 10+dy)
		add(10+dx, 10-dy)
		add(10-dx, 10+dy)
		add(10-dx, 10-dy)
	}
	require.Len(t, want, 2+8*4-2)
	nodes, missing := resolve(t, "system:topo:circle", grid(20, 20))
	require.Equal(t, want, nodes)
	require.Empty(t, missing)

	// In a smaller grid just those that lie in it, and nobody misses the rest.
	nodes, missing = resolve(t, "system:topo:circle", grid(12, 9))
	var small []string
	for _, n := range want {
		if x, y, _ := nodeset.Coordinates(n); x <= 12 && y <= 9 {
			small = append(small, n)
		}
	}
	require.Equal(t, []string{"n10-2", "n11-2", "n9-2", "n12-2", "n8-2", "n7-3", "n6-3", "n5-4", "n4-5", "n3-6"}, small)
	require.Equal(t, small, nodes)
	require.Empty(t, missing)

	nodes, _ = resolve(t, "all ~system:topo:circle", grid(20, 20))
	require.Len(t, nodes, 400-len(want))
}

func TestCoordinates(t *testing.T) {
	for word, want := range map[string][2]int{"n1-2": {1, 2}, "n_1_2": {1, 2}, "node1-2": {1, 2}, "node10_20": {10, 20}, "n0-0": {}} {
		x, y, ok := nodeset.Coordinates(word)
		require.True(t, ok, word)
		require.Equal(t, want, [2]int{x, y})
	}
	for _, word := range []string{"", "n", "n-", "n1", "n1-", "n-1", "m1-2", "n1-2-3", "n1.2", "node", "nodes1-2", "n1-2x", "n1234567890-1", "N1-2", "n__1_2", "[1,2]", "n+1-2"} {
		_, _, ok := nodeset.Coordinates(word)
		require.False(t, ok, word)
	}
}

func TestCheckName(t *testing.T) {
	for _, good := range []string{"n1-2", "omf.nicta.node1", "fit01", "PC_7", "3com", strings.Repeat("n", 128)} {
		require.NoError(t, nodeset.CheckName(good))
		set, err := nodeset.Parse(good)
		require.NoError(t, err)
		require.Equal(t, good, set.String())
	}
	for _, bad := range []string{"", "all", "-a", "1", "1-3", "1-10-2", "1..3", "10.1.1.1", ".n", "_n", "a:b", "a b", "a,b", "~a", "a~", "@a", "a/b", "é", "a\n", strings.Repeat("n", 129)} {
		require.ErrorIs(t, nodeset.CheckName(bad), nodeset.ErrName, "%q", bad)
	}
}

// Brackets against a plain reading of their meaning.
func TestBracketsProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const size = 6
		var want []string
		seen := map[string]bool{}
		axis := func(label string) (string, []int) {
			lo := rapid.IntRange(1, size).Draw(t, label)
			switch rapid.IntRange(0, 2).Draw(t, "shape") {
			case 0:
				return fmt.Sprint(lo), []int{lo}
			case 1:
				hi := rapid.IntRange(lo, size).Draw(t, "hi")
				var all []int
				for i := lo; i <= hi; i++ {
					all = append(all, i)
				}
				return fmt.Sprintf("%d..%d", lo, hi), all
			}
			// Lists of three: of two could be a pair.
			all := rapid.SliceOfN(rapid.IntRange(1, size), 3, 5).Draw(t, "list")
			return strings.ReplaceAll(fmt.Sprint(all), " ", ","), all
		}
		var set func(depth int) string
		set = func(depth int) string {
			if depth == 0 || rapid.Bool().Draw(t, "pair") {
				xt, xs := axis("x")
				yt, ys := axis("y")
				for _, x := range xs {
					for _, y := range ys {
						if n := nodeset.Name(x, y); !seen[n] {
							seen[n] = true
							want = append(want, n)
						}
					}
				}
				return "[" + xt + "," + yt + "]"
			}
			var parts []string
			for range rapid.IntRange(1, 4).Draw(t, "sets") {
				parts = append(parts, set(depth-1))
			}
			return "[" + strings.Join(parts, ",") + "]"
		}
		expr := set(3)
		nodes, missing := resolve(t, expr, grid(size, size))
		require.Equal(t, want, nodes, expr)
		require.Empty(t, missing)
	})
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"[1,1]", "[1..4,2]", "[[1,1],[2..6,1..2]]", "[2,[1,3]]", "1,1..2", "1 4 5", "1-10-2", "-a ~10-20", "fit8,fit09",
		"n1-2 n_1_2 node1-2", "system:topo:circle", "([1..2,1] ~n1-1) n3-1", "all ~()", "[[1,2,3],[4,5]]", "omf.nicta.node1,omf.nicta.node2",
		"a:b:c", "0-0-2", "[1..99999999,1]", "[1,2,3],4..5", "~(", "10.18.1.2", "[[[[",
	} {
		f.Add(s)
	}
	tb := grid(4, 4)
	tb.topologies = map[string]string{"a:b": "defTopology('a:b', [[1,1],[9,9]])", "a:b:c": "defTopology('x', 'a:b:c')"}
	f.Fuzz(func(t *testing.T, expr string) {
		set, err := nodeset.Parse(expr)
		if err != nil {
			var pe *nodeset.ParseError
			require.ErrorAs(t, err, &pe)
			return
		}
		plain := set.String()
		if len(plain) <= nodeset.MaxExpr {
			again, err := nodeset.Parse(plain)
			require.NoError(t, err)
			require.Equal(t, set, again, "%s", plain)
		}
		nodes, _, err := set.Resolve(tb)
		if err != nil {
			return
		}
		seen := map[string]bool{}
		for _, n := range nodes {
			_, ok := tb.Named(n)
			require.True(t, ok, "%s is no node", n)
			require.False(t, seen[n], "%s twice", n)
			seen[n] = true
		}
	})
}
