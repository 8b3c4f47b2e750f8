package nodeset_test

import (
	"errors"
	"io/fs"
	"strconv"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"loadnode/handler/nodeset"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testbed is a View for tests: a grid, or numbered nodes.
type testbed struct {
	columns, rows int
	names         []string          // instead of a grid
	also          map[string]string // other names
	prefix        string
	active        []string
	topologies    map[string]string
	asked         []string // for topologies
}

func grid(columns, rows int) *testbed { return &testbed{columns: columns, rows: rows} }

func (tb *testbed) All() []string {
	all := append([]string(nil), tb.names...)
	for x := 1; x <= tb.columns; x++ {
		for y := 1; y <= tb.rows; y++ {
			all = append(all, nodeset.Name(x, y))
		}
	}
	return all
}

func (tb *testbed) At(x, y int) (string, bool) {
	ok := x >= 1 && x <= tb.columns && y >= 1 && y <= tb.rows
	if !ok {
		return "", false
	}
	return nodeset.Name(x, y), true
}

func (tb *testbed) Named(name string) (string, bool) {
	if other, ok := tb.also[name]; ok {
		return other, true
	}
	for _, n := range tb.All() {
		if n == name {
			return n, true
		}
	}
	return "", false
}

func (tb *testbed) Numbered(n int) (string, bool) {
	if tb.prefix != "" {
		for _, name := range tb.names {
			if v, err := strconv.Atoi(strings.TrimPrefix(name, tb.prefix)); err == nil && v == n {
				return name, true
			}
		}
		return "", false
	}
	if all := tb.All(); n >= 1 && n <= len(all) {
		return all[n-1], true
	}
	return "", false
}

func (tb *testbed) Prefix() string   { return tb.prefix }
func (tb *testbed) Grid() (int, int) { return tb.columns, tb.rows }
func (tb *testbed) Active() []string { return tb.active }
func (tb *testbed) Topology(name string) ([]byte, error) {
	tb.asked = append(tb.asked, name)
	text, ok := tb.topologies[name]
	switch {
	case text == "locked":
		return nil, errors.New("permission denied")
	case !ok:
		return nil, fs.ErrNotExist
	}
	return []byte(text), nil
}

// fit is a rhubarbe testbed: fit01 … fit37.
func fit() *testbed {
	tb := &testbed{prefix: "fit", also: map[string]string{"faraday": "fit07"}}
	for i := 1; i <= 37; i++ {
		tb.names = append(tb.names, "fit"+string(rune('0'+i/10))+string(rune('0'+i%10)))
	}
	return tb
}

// fits names nodes of fit.
func fits(numbers ...int) []string {
	all := fit().names
	var names []string
	for _, n := range numbers {
		names = append(names, all[n-1])
	}
	return names
}
