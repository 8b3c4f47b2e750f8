package dropin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"loadnode/cmd/internal/getopt"
)

func TestParseAndExplain(t *testing.T) {
	about := About{Name: "tool", Speaks: "reads all", Usage: "tool [options] FILE\n", Mistake: 3}
	errLevel := errors.New("option -z: want 1")
	for _, c := range []struct {
		args           []string
		operands, set  []string
		code           int
		stdout, stderr string
	}{
		{args: []string{"-z1", "a", "-d", "b"}, operands: []string{"a", "b"}, set: []string{"z1", "d"}},
		{args: []string{"-h"}, stdout: "tool [options] FILE\n"},
		{args: []string{"-dv", "a"}, set: []string{"d"}, stdout: "tool (loadnode), reads all\n"},
		{args: []string{"-vh"}, stdout: "tool [options] FILE\n"},
		{args: []string{"-h", "-z2"}, set: []string{"z2"}, code: 3, stderr: "tool: option -z: want 1\nTry tool -h.\n"},
		{args: []string{"-hq"}, code: 3, stderr: "tool: unknown option -q\nTry tool -h.\n"},
	} {
		var set []string
		operands, err := Parse(c.args, []getopt.Option{{Name: "z", Arg: true}, {Name: "d"}}, func(f getopt.Found) error {
			set = append(set, f.Name+f.Value)
			if f.Value == "2" {
				return errLevel
			}
			return nil
		})
		require.Equal(t, c.set, set, "%q", c.args)
		if c.operands != nil {
			require.NoError(t, err, "%q", c.args)
			require.Equal(t, c.operands, operands)
			continue
		}
		var out, errs bytes.Buffer
		require.Equal(t, c.code, about.Explain(err, Streams{Out: &out, Err: &errs}), "%q", c.args)
		require.Equal(t, c.stdout, out.String(), "%q", c.args)
		require.Equal(t, c.stderr, errs.String(), "%q", c.args)
	}
}

func TestFail(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	about := About{Name: "tool"}
	said := func(err error) string {
		var errs bytes.Buffer
		about.Fail(ctx, err, Streams{Err: &errs})
		return errs.String()
	}
	stopped := fmt.Errorf("chunk 3: %w; /dev/sdx is incomplete", context.Canceled)
	require.Equal(t, "tool: chunk 3: context canceled; /dev/sdx is incomplete\n", said(stopped), "it was not a signal")
	cancel(errors.New("interrupt signal received"))
	require.Equal(t, "tool: chunk 3: interrupt signal received; /dev/sdx is incomplete\n", said(stopped))
	require.Equal(t, "tool: no space\n", said(errors.New("no space")))
}
