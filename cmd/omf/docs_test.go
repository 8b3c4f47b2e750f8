package main

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"loadnode/agent/sim"
	"loadnode/cmd/omf/internal/config"
	"loadnode/events"
	"loadnode/handler/inventory"
	"loadnode/handler/nodeset"
)

// document is a text for people, and what is written in it as code.
type document struct {
	name, text string
	code       []string
}

var (
	fenced   = regexp.MustCompile("(?ms)^```[a-z]*\n(.*?)^```$")
	indented = regexp.MustCompile(`(?m)^    (\S.*)$`)
	inline   = regexp.MustCompile("`([^`\n]+)`")
)

func documents(t *testing.T) (all []document) {
	t.Helper()
	names, err := filepath.Glob("../../docs/*.md")
	require.NoError(t, err)
	for _, name := range append(names, "../../README.md") {
		b, err := os.ReadFile(name)
		require.NoError(t, err)
		d := document{name: filepath.Base(name), text: string(b)}
		for _, block := range fenced.FindAllStringSubmatch(d.text, -1) {
			d.code = append(d.code, strings.Split(strings.ReplaceAll(block[1], "\\\n", " "), "\n")...)
		}
		rest := fenced.ReplaceAllString(d.text, "")
		for _, line := range indented.FindAllStringSubmatch(rest, -1) {
			d.code = append(d.code, line[1])
		}
		for _, span := range inline.FindAllStringSubmatch(rest, -1) {
			d.code = append(d.code, strings.ReplaceAll(span[1], `\|`, "|"))
		}
		all = append(all, d)
	}
	require.Greater(t, len(all), 8)
	return all
}

func find(t *testing.T, name string) document {
	t.Helper()
	all := documents(t)
	i := slices.IndexFunc(all, func(d document) bool { return d.name == name })
	require.GreaterOrEqual(t, i, 0, name)
	return all[i]
}

// commands takes a line of a shell apart. A word like show|cancel stands for one command line each.
func commands(line string) (all [][]string) {
	line, _, _ = strings.Cut(line, " #")
	for _, part := range regexp.MustCompile(` (?:&&|\||;) `).Split(line, -1) {
		lines := [][]string{nil}
		for _, word := range strings.Fields(part) {
			var next [][]string
			for _, l := range lines {
				for choice := range strings.SplitSeq(word, "|") {
					next = append(next, append(slices.Clone(l), choice))
				}
			}
			lines = next
		}
		all = append(all, lines...)
	}
	return all
}

func flagNamed(c *cobra.Command, word string) bool {
	name, _, _ := strings.Cut(word, "=")
	if long, ok := strings.CutPrefix(name, "--"); ok {
		return long == "help" || c.Flag(long) != nil
	}
	return name == "-h" || c.Flags().ShorthandLookup(name[1:2]) != nil || c.InheritedFlags().ShorthandLookup(name[1:2]) != nil
}

// TestDocumentedCommands: every command line of omf in README and docs names commands and flags that there are.
func TestDocumentedCommands(t *testing.T) {
	root := newApp(nil, new(bytes.Buffer), new(bytes.Buffer)).root()
	root.InitDefaultCompletionCmd()
	root.InitDefaultHelpCmd()
	seen := map[string]bool{}
	for _, d := range documents(t) {
		for _, line := range d.code {
			for _, words := range commands(line) {
				if len(words) < 2 || words[0] != "omf" && words[0] != "bin/omf" || words[1] == "COMMAND" {
					continue
				}
				c, rest, err := root.Find(legacyArgs(words[1:]))
				if err != nil || c == root && !strings.HasPrefix(words[1], "-") {
					t.Errorf("%s: %q: no such command: %v", d.name, line, err)
					continue
				}
				for at := c; at.HasParent(); at = at.Parent() {
					seen[at.Name()] = true
				}
				if word := regexp.MustCompile(`^[a-z]+$`); c.HasSubCommands() && len(rest) > 0 && word.MatchString(rest[0]) {
					t.Errorf("%s: %q: %s has no command %s", d.name, line, c.CommandPath(), rest[0])
				}
				for _, w := range rest {
					if regexp.MustCompile(`^--?[a-z]`).MatchString(w) && !flagNamed(c, w) {
						t.Errorf("%s: %q: %s has no flag %s", d.name, line, c.CommandPath(), w)
					}
				}
			}
		}
	}
	for _, c := range root.Commands() {
		if !c.Hidden && !slices.Contains([]string{"help", "version"}, c.Name()) {
			require.True(t, seen[c.Name()], "no document shows omf %s", c.Name())
		}
	}
}

// TestDocumentedFlags: every long flag that README and docs name is one of some program of ours.
func TestDocumentedFlags(t *testing.T) {
	known := map[string]bool{"help": true}
	walk(newApp(nil, new(bytes.Buffer), new(bytes.Buffer)).root(), func(c *cobra.Command) {
		c.Flags().VisitAll(func(f *pflag.Flag) { known[f.Name] = true })
		c.PersistentFlags().VisitAll(func(f *pflag.Flag) { known[f.Name] = true })
	})
	for program, flag := range map[string]string{
		"frisbee": `(?m)^  --([a-z-]+)`, "frisbeed": `(?m)^  --([a-z-]+)`, "imagezip": `(?m)^  --([a-z-]+)`, "imageunzip": `(?m)^  --([a-z-]+)`,
		"omf-agent": `Var\(&[a-zA-Z.]+, "([a-z-]+)"`,
	} {
		src, err := os.ReadFile(filepath.Join("..", program, "settings.go"))
		require.NoError(t, err)
		found := regexp.MustCompile(flag).FindAllStringSubmatch(string(src), -1)
		require.NotEmpty(t, found, program)
		for _, m := range found {
			known[m[1]] = true
		}
	}
	ours := regexp.MustCompile(`^(--[a-z]|(bin/)?(omf|omf-agent|frisbee|frisbeed|imagezip|imageunzip) )`)
	for _, d := range documents(t) {
		for _, line := range d.code {
			for _, words := range commands(line) {
				if !ours.MatchString(strings.Join(words, " ")) {
					continue
				}
				for _, w := range words {
					if name, ok := strings.CutPrefix(w, "--"); ok && name != "" {
						name, _, _ = strings.Cut(strings.TrimRight(name, ",…"), "=")
						require.True(t, known[name], "%s: %q: nothing has a flag --%s", d.name, line, name)
					}
				}
			}
		}
	}
}

// TestDocumentedSettings: every key and variable of the settings that README and docs name is there.
func TestDocumentedSettings(t *testing.T) {
	known, files := map[string]bool{}, map[string]bool{"netboot.efi": true, "netboot.conf": true, "netboot.md": true}
	for _, s := range config.Settings() {
		known[s.Key], known[s.Env()] = true, true
	}
	seen := 0
	for _, d := range documents(t) {
		for _, line := range d.code {
			for _, key := range regexp.MustCompile(`\b(?:serve|netboot)\.[a-z_]+\b|\bLOADNODE_[A-Z_]+\b`).FindAllString(line, -1) {
				if files[key] || key == "LOADNODE_AUTH_ISSUER" { // the servers' own
					continue
				}
				seen++
				require.True(t, known[key], "%s: %q: there is no setting %s", d.name, line, key)
			}
		}
	}
	require.Greater(t, seen, 10)
}

// TestDocumentedFacts: what looks like a fact or a subject in README and docs is one.
func TestDocumentedFacts(t *testing.T) {
	kinds := map[string]bool{}
	names, err := filepath.Glob("../../events/schema/*.json")
	require.NoError(t, err)
	for _, name := range names {
		kinds[strings.TrimSuffix(filepath.Base(name), ".json")] = true
	}
	trees := map[string]bool{}
	for kind := range kinds {
		tree, _, _ := strings.Cut(kind, ".")
		trees[tree] = true
	}
	delete(trees, "boot") // the inventory has keys boot.…
	seen, subjects := map[string]bool{}, 0
	for _, d := range documents(t) {
		for _, code := range d.code {
			for _, kind := range regexp.MustCompile(`(?:^|[ "])([a-z]+\.[a-z]+)\b(?:$|[ ",])`).FindAllStringSubmatch(code, -1) {
				tree, _, _ := strings.Cut(kind[1], ".")
				if trees[tree] && !strings.HasSuffix(code, ".sh") {
					seen[kind[1]] = true
					require.True(t, kinds[kind[1]], "%s: %q: there is no fact %s", d.name, code, kind[1])
				}
			}
			for _, subject := range regexp.MustCompile(`omf\.v1\.(?:req|evt|rpt|tlm|cmd)\.[^\s'"]+`).FindAllString(code, -1) {
				if strings.HasSuffix(subject, ".>") {
					require.Contains(t, []string{events.AllFacts, events.AllRequests, events.AllReports, events.AllTelemetry}, subject, d.name)
					continue
				}
				subjects++
				subject = strings.NewReplacer("<", "", ">", "").Replace(subject)
				_, err := events.ParseSubject(subject)
				require.NoError(t, err, "%s: %q", d.name, code)
			}
		}
	}
	require.Greater(t, len(seen), 10)
	require.Greater(t, subjects, 2)
}

// rows are the first cells of the table in a document that begins with this head.
func rows(t *testing.T, d document, head string) (all []string) {
	t.Helper()
	_, table, ok := strings.Cut(d.text, "\n| "+head+" |")
	require.True(t, ok, "%s has no table %q", d.name, head)
	table, _, _ = strings.Cut(table, "\n\n")
	for _, line := range strings.Split(strings.TrimSpace(table), "\n")[2:] {
		cell := regexp.MustCompile(`^\| (.*?[^\\])\|`).FindStringSubmatch(line)
		require.NotNil(t, cell, line)
		for _, m := range inline.FindAllStringSubmatch(cell[1], -1) {
			all = append(all, m[1])
		}
	}
	return all
}

// TestFailuresDocument: docs/failures.md has every class, and no code that there is not.
func TestFailuresDocument(t *testing.T) {
	d := find(t, "failures.md")
	var classes []string
	for _, c := range events.Classes() {
		classes = append(classes, string(c))
	}
	require.ElementsMatch(t, classes, rows(t, d, "class"))
	src, err := os.ReadFile("../../events/error.go")
	require.NoError(t, err)
	for _, code := range rows(t, d, "code") {
		require.Regexp(t, `(?m)^\tCode[A-Za-z]+ +Code = "`+code+`"`, string(src))
	}
}

// TestTablesOfDocuments: what docs list of the vocabulary and the inventory is all of it.
func TestTablesOfDocuments(t *testing.T) {
	drivers := rows(t, find(t, "power.md"), "driver")
	for _, d := range inventory.PowerDrivers() {
		require.Contains(t, drivers, d)
	}
	trust := find(t, "trust.md")
	for _, kind := range []events.CredentialKind{events.CredentialNode, events.CredentialResident, events.CredentialOperator, events.CredentialService} {
		require.Contains(t, trust.text, "\n| "+string(kind)+" |", "kinds of credentials")
	}
}

// TestDocumentedFiles: the files that README and docs show are read.
func TestDocumentedFiles(t *testing.T) {
	seen := 0
	for _, d := range documents(t) {
		texts := regexp.MustCompile(`(?m)^echo '(\{.*testbeds.*\})' >`).FindAllStringSubmatch(d.text, -1)
		for _, block := range append(texts, fenced.FindAllStringSubmatch(d.text, -1)...) {
			if !strings.Contains(block[1], "testbeds:") || strings.Contains(block[1], "omf ") {
				continue
			}
			seen++
			text := block[1]
			if !strings.Contains(text, "version: 1") {
				text = "version: 1\n" + text
			}
			_, err := inventory.Parse([]byte(text))
			require.NoError(t, err, "%s:\n%s", d.name, text)
		}
	}
	require.Equal(t, 3, seen)

	_, file, ok := strings.Cut(find(t, "disks.md").text, "\n```\nhostname:")
	require.True(t, ok)
	file, _, _ = strings.Cut(file, "\n```\n")
	_, err := parsePersonalise([]byte("hostname:" + file))
	require.NoError(t, err)
}

// TestReadme: its commands, faults, node sets and exit codes are those of the program.
func TestReadme(t *testing.T) {
	d := find(t, "README.md")
	named := map[string]bool{}
	for _, line := range rows(t, d, "command") {
		for _, words := range commands(strings.ReplaceAll(line, `\|`, "|")) {
			if words[0] == "omf" {
				named[words[1]] = true
			}
		}
	}
	for _, c := range newApp(nil, new(bytes.Buffer), new(bytes.Buffer)).root().Commands() {
		if !c.Hidden && !slices.Contains([]string{"help", "version", "completion", "config", "demo"}, c.Name()) {
			require.True(t, named[c.Name()], "the table of commands has no %s", c.Name())
			delete(named, c.Name())
		}
	}
	require.Empty(t, slices.Collect(maps.Keys(named)))

	_, faults, ok := strings.Cut(d.text, "\nFaults are ")
	require.True(t, ok)
	faults, _, _ = strings.Cut(faults, " of all nodes")
	for _, m := range inline.FindAllStringSubmatch(faults, -1) {
		_, err := sim.ParseFault(strings.NewReplacer("PERCENT", "2", "BYTE", "4096").Replace(m[1]))
		require.NoError(t, err, m[1])
	}

	_, sets, ok := strings.Cut(d.text, "\nNode sets: ")
	require.True(t, ok)
	sets, _, _ = strings.Cut(sets, "\n")
	for _, m := range inline.FindAllStringSubmatch(sets, -1) {
		if strings.HasPrefix(m[1], "@") || strings.HasPrefix(m[1], "omf ") {
			continue
		}
		_, err := nodeset.Parse(m[1])
		require.NoError(t, err, m[1])
	}

	for code, means := range map[int]string{
		exitOK: "all nodes good", exitFailed: "some nodes failed", exitUsage: "usage", exitRefused: "refused", exitTimeout: "timeout",
		exitUnreachable: "service unreachable", exitInterrupted: "interrupted",
	} {
		require.Regexp(t, fmt.Sprintf(`\nExit codes: .*\b%d %s`, code, means), d.text)
	}
}
