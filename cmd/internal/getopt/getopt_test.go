package getopt

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParse(t *testing.T) {
	known := []Option{{Name: "d"}, {Name: "r"}, {Name: "z", Arg: true}, {Name: "force"}, {Name: "manifest", Arg: true},
		{Name: "e", Arg: true, Refused: "not here"}}
	for _, c := range []struct {
		args     []string
		found    []Found
		operands []string
		err      string
	}{
		{args: nil},
		{args: []string{"-"}, operands: []string{"-"}},
		{args: []string{"-z1", "disk", "-"}, found: []Found{{"z", "1"}}, operands: []string{"disk", "-"}},
		{args: []string{"-z", "1", "disk"}, found: []Found{{"z", "1"}}, operands: []string{"disk"}},
		{args: []string{"-ddrz", "9"}, found: []Found{{"d", ""}, {"d", ""}, {"r", ""}, {"z", "9"}}},
		{args: []string{"-rz9d"}, found: []Found{{"r", ""}, {"z", "9d"}}},
		{args: []string{"a", "-d", "b"}, found: []Found{{"d", ""}}, operands: []string{"a", "b"}},
		{args: []string{"-d", "--", "-r"}, found: []Found{{"d", ""}}, operands: []string{"-r"}},
		{args: []string{"--force", "--manifest=a=b", "--manifest", "c"}, found: []Found{{"force", ""}, {"manifest", "a=b"}, {"manifest", "c"}}},
		{args: []string{"-q"}, err: "unknown option -q"},
		{args: []string{"-dq"}, err: "unknown option -q"},
		{args: []string{"--quick"}, err: "unknown option --quick"},
		{args: []string{"--d"}, err: "unknown option --d"},
		{args: []string{"--force=1"}, err: "takes no argument"},
		{args: []string{"-dz"}, err: "-z needs an argument"},
		{args: []string{"--manifest"}, err: "--manifest needs an argument"},
		{args: []string{"-de", "x"}, err: "option -e: not here"},
	} {
		found, operands, err := Parse(c.args, known)
		if c.err != "" {
			require.ErrorContains(t, err, c.err, "%q", c.args)
			continue
		}
		require.NoError(t, err, "%q", c.args)
		require.Equal(t, c.found, found, "%q", c.args)
		require.Equal(t, c.operands, operands, "%q", c.args)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("-z1", "--force", "-")
	f.Fuzz(func(t *testing.T, a, b, c string) {
		_, operands, err := Parse([]string{a, b, c}, []Option{{Name: "z", Arg: true}, {Name: "d"}, {Name: "force"}})
		if err == nil {
			require.LessOrEqual(t, len(operands), 3)
		}
	})
}
