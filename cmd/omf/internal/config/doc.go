// Package config holds the settings of the omf command and where each came
// from. The layers, from weak to strong:
//
//	built-in defaults
//	/etc/loadnode/loadnode.yaml, then /etc/loadnode/conf.d/*.yaml by name
//	$XDG_CONFIG_HOME/loadnode/loadnode.yaml (~/.config/loadnode/loadnode.yaml)
//	LOADNODE_* in the environment
//	flags
//
// LOADNODE_CONFIG names one file that is read instead of all of those files.
// Every key in a file must be known: a misspelt key is an error that names the
// file and the line. The inventory of nodes is another file; see package
// handler/inventory.
package config
