package legacy

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"loadnode/internal/vectors"
)

func TestQuotingOfTheOriginal(t *testing.T) {
	raw := vectors.Read(t, "omf/"+"omf-lineserializer-vectors.json")
	var v struct {
		Encode []struct {
			In  []any
			Out string
		}
		Decode []struct {
			In  string
			Out []string
		}
	}
	require.NoError(t, json.Unmarshal(raw, &v))
	require.Equal(t, 34, len(v.Encode)+len(v.Decode))
	for _, c := range v.Encode {
		var words []string
		for _, w := range c.In {
			if w == nil {
				w = ""
			}
			words = append(words, fmt.Sprint(w))
		}
		require.Equal(t, c.Out, Encode(words...), "%q", c.In)
	}
	for _, c := range v.Decode {
		got := Decode(c.In)
		if len(c.Out) == 0 {
			require.Empty(t, got, "%q", c.In)
			continue
		}
		require.Equal(t, c.Out, got, "%q", c.In)
	}
}

func TestDecodeExamples(t *testing.T) {
	for in, want := range map[string]string{
		`1 * EXEC id "a  b" c`: `1|*|EXEC|id|a  b|c`,
		`a "x \" y" b`:         `a|x " y|b`,
		`a "" b`:               `a||b`,
		`a x"y b`:              `a|x|y b`,
		`a "open ended`:        `a|open ended`,
		`a\b c`:                `a|b|c`,
		`\"`:                   ``,
		``:                     ``,
	} {
		require.Equal(t, want, strings.Join(Decode(in), "|"), "%q", in)
	}
}

// FuzzDecode: no input is too odd, and lines of plain words survive.
func FuzzDecode(f *testing.F) {
	for _, s := range []string{`1 * EXEC id "a  b" c`, `\`, `"\"`, `"\" \"`, "a\tb\n", `""""`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		words := Decode(s)
		if strings.ContainsAny(s, "\"\\\x00") {
			return
		}
		require.Equal(t, append([]string{}, fields(s)...), append([]string{}, words...))
		require.Equal(t, strings.Join(words, " "), Encode(words...))
	})
}
