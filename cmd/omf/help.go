package main

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"loadnode/cmd/omf/internal/config"
	"loadnode/cmd/omf/internal/display"
)

// placeholderKey marks flags with the word that stands for their value.
const placeholderKey = "loadnode-placeholder"

// placeholder says which word stands for the value of a flag.
func placeholder(f *pflag.FlagSet, name, word string) {
	flag := f.Lookup(name)
	if flag.Annotations == nil {
		flag.Annotations = map[string][]string{}
	}
	flag.Annotations[placeholderKey] = []string{word}
}

// Widths of help, in cells: it is set in lines of the terminal's width up to
// maxHelp, of helpWidth where there is no terminal. Flags with their words get
// a column of flagColumn at most; longer ones have their text below.
const (
	helpWidth  = 80
	maxHelp    = 120
	flagColumn = 27
)

// usage writes how a command is used: below its description in its help.
func (a *app) usage(c *cobra.Command) error {
	width := helpWidth
	if terminal(a.stdout) {
		width, _ = size(a.stdout)
	}
	return writeUsage(c.OutOrStdout(), c, min(max(width, 50), maxHelp))
}

func writeUsage(w io.Writer, c *cobra.Command, width int) error {
	var b strings.Builder
	b.WriteString("Usage:\n")
	if c.Runnable() {
		fmt.Fprintf(&b, "  %s\n", c.UseLine())
	}
	if c.HasAvailableSubCommands() && !strings.HasSuffix(c.Use, "COMMAND") {
		fmt.Fprintf(&b, "  %s COMMAND [flags]\n", c.CommandPath())
	}
	if c.HasExample() {
		fmt.Fprintf(&b, "\nExamples:\n%s\n", c.Example)
	}
	if c.HasAvailableSubCommands() {
		b.WriteString("\nCommands:\n")
		for _, below := range c.Commands() {
			if below.IsAvailableCommand() || below.Name() == "help" {
				entry(&b, "  "+below.Name(), 2+max(below.NamePadding(), 1), below.Short, width)
			}
		}
	}
	if c.HasAvailableLocalFlags() {
		b.WriteString("\nFlags:\n")
		flags(&b, c.LocalFlags(), width)
	}
	if c.HasAvailableInheritedFlags() {
		b.WriteString("\nFlags of every command:\n")
		flags(&b, c.InheritedFlags(), width)
	}
	if c.HasAvailableSubCommands() {
		fmt.Fprintf(&b, "\n%s COMMAND --help says more about each.\n", c.CommandPath())
	}
	if s := aSetting(c.LocalFlags()); s != "" {
		b.WriteString("\n" + display.Wrap(s, width, 0) + "\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// aSetting tells by the example of one flag that settings need not be flags.
func aSetting(f *pflag.FlagSet) string {
	text := ""
	f.VisitAll(func(flag *pflag.Flag) {
		for _, s := range config.Settings() {
			if key := flag.Annotations[settingKey]; len(key) == 1 && s.Key == key[0] && (text == "" || s.Key == config.KeyServeHTTP) {
				text = fmt.Sprintf("Settings can come from the environment and from files too: --%s is also %s, and %s in a file. omf config show lists them all.",
					flag.Name, s.Env(), s.Key)
			}
		}
	})
	return text
}

// flags writes a line or more for each flag.
func flags(b *strings.Builder, f *pflag.FlagSet, width int) {
	column := 0
	f.VisitAll(func(flag *pflag.Flag) {
		if n := utf8.RuneCountInString(flagName(flag)); !flag.Hidden && n <= flagColumn {
			column = max(column, n)
		}
	})
	f.VisitAll(func(flag *pflag.Flag) {
		if !flag.Hidden {
			entry(b, flagName(flag), column, flagText(flag), width)
		}
	})
}

// entry writes a name in a column and the text beside it, or below it where
// the name is wider than the column.
func entry(b *strings.Builder, name string, column int, text string, width int) {
	n, indent := utf8.RuneCountInString(name), column+2
	gap := strings.Repeat(" ", max(indent-n, 0))
	if n > column {
		gap = "\n" + strings.Repeat(" ", indent)
	}
	b.WriteString(name + gap + display.Wrap(text, width, indent) + "\n")
}

// flagName is the flag with the word that stands for its value.
func flagName(f *pflag.Flag) string {
	s := "      --" + f.Name
	if f.Shorthand != "" {
		s = "  -" + f.Shorthand + ", --" + f.Name
	}
	if word := f.Annotations[placeholderKey]; len(word) == 1 {
		s += " " + word[0]
	}
	return s
}

// flagText is what a flag is for, and its default where it has one.
func flagText(f *pflag.Flag) string {
	byDefault := ""
	if key := f.Annotations[settingKey]; len(key) == 1 {
		for _, s := range config.Settings() {
			switch {
			case s.Key != key[0] || s.Instead == "":
			case strings.Contains(s.Instead, " "):
				byDefault = ": " + s.Instead
			default:
				byDefault = " " + s.Instead
			}
		}
	}
	switch f.DefValue {
	case "", "false", "[]", "0s", "0":
	default:
		byDefault = " " + f.DefValue
	}
	if byDefault == "" {
		return f.Usage
	}
	return f.Usage + " (default" + byDefault + ")"
}
