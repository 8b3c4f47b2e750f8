package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"loadnode/cmd/omf/internal/config"
)

// TestManual: every command has a page, with every flag and its value in it;
// every setting is in that of the settings; groff has nothing to complain about.
func TestManual(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	text := filepath.Join(t.TempDir(), "usage")
	require.NoError(t, os.WriteFile(text, []byte("frisbee -m GROUP DISK\n\nLoads. Fast.\n\n  -m GROUP  the group\n"), 0o600))
	r := omf(t, "", "man", dir, "--date", "2026-11-23", "--usage", "frisbee.1="+text)
	require.Equal(t, result{}, r)

	read := func(name string) string {
		b, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		return string(b)
	}
	root := newApp(nil, new(bytes.Buffer), new(bytes.Buffer)).root()
	root.InitDefaultCompletionCmd()
	pages := map[string]bool{"loadnode.yaml.5": true, "frisbee.1": true}
	walk(root, func(c *cobra.Command) {
		if !c.IsAvailableCommand() && c.HasParent() {
			return // man itself, and help
		}
		name := manName(c) + ".1"
		pages[name] = true
		page := read(name)
		for _, below := range c.Commands() {
			if below.IsAvailableCommand() {
				require.Contains(t, page, "\n\\fB"+below.Name()+"\\fR\n", name)
			}
		}
		check := func(f *pflag.Flag) {
			if f.Hidden {
				return
			}
			want := `\fB\-\-` + strings.ReplaceAll(f.Name, "-", `\-`) + `\fR`
			for _, word := range f.Annotations[placeholderKey] {
				want += ` \fI` + strings.NewReplacer("-", `\-`, "\u2026", "...").Replace(word) + `\fR`
			}
			require.Contains(t, page, want+"\n", name)
			if f.Shorthand != "" {
				require.Contains(t, page, `\fB\-`+f.Shorthand+`\fR, `+want, name)
			}
		}
		c.LocalFlags().VisitAll(check)
		c.InheritedFlags().VisitAll(check)
	})
	require.Greater(t, len(pages), 30)
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	var files []string
	for _, e := range entries {
		require.True(t, pages[e.Name()], "%s is the page of nothing", e.Name())
		files = append(files, filepath.Join(dir, e.Name()))
	}
	require.Len(t, files, len(pages))

	settings := read("loadnode.yaml.5")
	for _, s := range config.Settings() {
		require.Contains(t, settings, "\n\\fB"+s.Key+"\\fR\n")
		require.Contains(t, settings, s.Env())
	}

	groff, err := exec.LookPath("groff")
	if err != nil {
		t.Skip("groff is not installed, so nobody judges how the pages are written: .ci/run installs it")
	}
	out, err := exec.Command(groff, append([]string{"-ww", "-man", "-Tutf8", "-z"}, files...)...).CombinedOutput()
	require.NoError(t, err)
	require.Empty(t, string(out))
}

func TestManualRefused(t *testing.T) {
	none := filepath.Join(t.TempDir(), "none")
	other := filepath.Join(t.TempDir(), "other")
	require.NoError(t, os.WriteFile(other, []byte("other\n\nX.\n"), 0o600))
	for name, tc := range map[string]struct {
		args []string
		code int
		want string
	}{
		"no directory":      {nil, exitUsage, "wants one directory"},
		"absent":            {[]string{none}, exitFailed, none},
		"what":              {[]string{t.TempDir(), "--usage", "x"}, exitUsage, "want NAME.SECTION=FILE"},
		"leaves":            {[]string{t.TempDir(), "--usage", "../x.1=" + other}, exitUsage, "want NAME.SECTION=FILE"},
		"no text":           {[]string{t.TempDir(), "--usage", "x.1=" + none}, exitFailed, none},
		"of something else": {[]string{t.TempDir(), "--usage", "x.1=" + other}, exitFailed, "begin with x"},
	} {
		t.Run(name, func(t *testing.T) {
			r := omf(t, "", append([]string{"man"}, tc.args...)...)
			require.Equal(t, tc.code, r.code, r.stderr)
			require.Contains(t, r.stderr, tc.want)
		})
	}
}

// TestCompletion: the shells take the scripts, and what they ask while a
// command is typed is answered.
func TestCompletion(t *testing.T) {
	t.Parallel()
	for shell, check := range map[string][]string{"bash": {"bash", "-n"}, "zsh": {"zsh", "-n"}, "fish": {"fish", "--no-execute"}} {
		t.Run(shell, func(t *testing.T) {
			r := omf(t, "", "completion", shell)
			require.Zero(t, r.code, r.stderr)
			require.Contains(t, r.stdout, "__complete")
			program, err := exec.LookPath(check[0])
			if err != nil {
				t.Skipf("%s is not installed: .ci/run installs it", shell)
			}
			file := filepath.Join(t.TempDir(), "script")
			require.NoError(t, os.WriteFile(file, []byte(r.stdout), 0o600))
			cmd := exec.Command(program, append(check[1:], file)...)
			cmd.Env = []string{"HOME=" + t.TempDir(), "PATH=" + os.Getenv("PATH")}
			out, err := cmd.CombinedOutput()
			require.NoError(t, err, string(out))
			require.Empty(t, string(out))
		})
	}
	r := omf(t, "", "__complete", "im")
	require.Contains(t, r.stdout, "images\t")
	require.Contains(t, r.stdout, "import\t")
	require.NotContains(t, omf(t, "", "__complete", "ma").stdout, "man\t", "hidden")
	require.Contains(t, omf(t, "", "__complete", "load", "--req").stdout, "--require")
}
