package main

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"loadnode/cmd/omf/internal/config"
	"loadnode/frisbeesvc"
	"loadnode/handler"
	"loadnode/internal/golden"
	transferserver "loadnode/transfer/server"
)

// walk visits a command and all below it, with the flags that a run adds.
func walk(c *cobra.Command, visit func(*cobra.Command)) {
	c.InitDefaultHelpFlag()
	visit(c)
	for _, below := range c.Commands() {
		walk(below, visit)
	}
}

func TestUsageText(t *testing.T) {
	root := newApp(nil, new(bytes.Buffer), new(bytes.Buffer)).root()
	root.InitDefaultCompletionCmd()
	root.InitDefaultHelpCmd()
	seen := 0
	walk(root, func(c *cobra.Command) {
		seen++
		for _, width := range []int{80, 120} {
			var b bytes.Buffer
			require.NoError(t, writeUsage(&b, c, width))
			for line := range strings.Lines(b.String()) {
				require.LessOrEqual(t, utf8.RuneCountInString(strings.TrimSuffix(line, "\n")), width, "%s at %d: %s", c.CommandPath(), width, line)
			}
			if width == 80 && (c.Name() == "serve" || c.Name() == "load" || c.Name() == "save") {
				golden.Equal(t, "help-"+c.Name()+".txt", b.String())
			}
		}
		for line := range strings.Lines(c.Long) {
			if strings.Contains(c.CommandPath(), "completion") {
				break // cobra's words
			}
			require.LessOrEqual(t, utf8.RuneCountInString(line), 81, "%s: %s", c.CommandPath(), line)
		}
		c.NonInheritedFlags().VisitAll(func(f *pflag.Flag) {
			about := c.CommandPath() + " --" + f.Name
			require.NotContains(t, f.Usage, "`", about)
			word := f.Annotations[placeholderKey]
			if f.Value.Type() == "bool" {
				require.Empty(t, word, about)
				return
			}
			require.Len(t, word, 1, "%s has no word for its value", about)
			require.NotContains(t, flagText(f), word[0], about)
		})
	})
	require.Greater(t, seen, 25)
}

// TestHelpDefaults: what the help says happens by default is what the
// packages do.
func TestHelpDefaults(t *testing.T) {
	says := map[string]string{}
	for _, s := range config.Settings() {
		says[s.Key] = s.Instead
		require.False(t, s.Default != "" && s.Instead != "", s.Key)
	}
	var got serverConfig
	a := newApp(nil, new(bytes.Buffer), new(bytes.Buffer))
	for _, key := range []string{
		config.KeyWindow, config.KeyCheckIn, config.KeyJoin, config.KeyStall, config.KeySilence, config.KeyLeave, config.KeyBoots, config.KeyLoads,
		config.KeySweep, config.KeyRate, config.KeyIdle, config.KeyPort, config.KeyGroup, config.KeySaveLife, config.KeySavePort,
	} {
		value, _, _ := strings.Cut(says[key], ",")
		name := strings.ToUpper(strings.ReplaceAll(key, ".", "_"))
		a.environ = append(a.environ, "LOADNODE_"+name+"="+value)
	}
	a.system = ""
	require.NoError(t, a.configure(a.root()))
	require.NoError(t, a.numbers(&got))
	want := handler.DefaultPolicy()
	require.Equal(t, want.Window, got.policy.Window)
	require.Equal(t, want.CheckIn, got.policy.CheckIn)
	require.Equal(t, want.Join, got.policy.Join)
	require.Equal(t, want.Stall, got.policy.Stall)
	require.Equal(t, want.Silence, got.policy.Silence)
	require.Equal(t, want.Leave, got.policy.Leave)
	require.Equal(t, want.BootAttempts, got.policy.BootAttempts)
	require.Equal(t, want.LoadAttempts, got.policy.LoadAttempts)
	require.Equal(t, want.Sweep, got.policy.Sweep)
	require.EqualValues(t, transferserver.DefaultRate, got.frisbee.rate)
	require.Equal(t, frisbeesvc.DefaultIdle, got.frisbee.idle)
	require.EqualValues(t, frisbeesvc.DefaultPort, got.frisbee.port)
	require.Equal(t, frisbeesvc.DefaultSaveLife, got.frisbee.saveLife)
	require.EqualValues(t, frisbeesvc.DefaultSavePort, got.frisbee.savePort)
	require.Equal(t, "239.192.77.0", got.frisbee.group.String())
}
