package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"loadnode/cmd/omf/internal/config"
	"loadnode/cmd/omf/internal/display"
)

func (a *app) configCommand() *cobra.Command {
	var origin bool
	show := &cobra.Command{
		Use: "show", Short: "Show every setting with its value", Args: words(0, "no words"),
		Long: `Settings come from, weakest first: the defaults of the program,
/etc/loadnode/loadnode.yaml, /etc/loadnode/conf.d/*.yaml,
~/.config/loadnode/loadnode.yaml, LOADNODE_* in the environment, flags.
LOADNODE_CONFIG names one file that is read instead of those.`,
		RunE: func(*cobra.Command, []string) error { return a.showConfig(origin) },
	}
	show.Flags().BoolVar(&origin, "origin", false, "and where each value comes from")
	return group("config", "Show the configuration", show)
}

func (a *app) showConfig(origin bool) error {
	type value struct {
		Key    string `json:"key"`
		Value  string `json:"value"`
		Origin string `json:"origin"`
	}
	var all []value
	var rows [][]string
	for _, s := range config.Settings() {
		v := a.cfg.Get(s.Key)
		all = append(all, value{s.Key, v.Text, v.Origin})
		rows = append(rows, []string{s.Key, v.Text, v.Origin})
	}
	switch a.output {
	case "json":
		return a.printJSON(all)
	case "jsonl":
		return printEach(a, all)
	}
	if origin {
		return display.Table(a.stdout, []string{"SETTING", "VALUE", "ORIGIN"}, rows)
	}
	for _, v := range all {
		if _, err := fmt.Fprintf(a.stdout, "%s: %s\n", v.Key, display.Clean(v.Value)); err != nil {
			return err
		}
	}
	return nil
}
