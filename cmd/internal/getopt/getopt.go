// Package getopt reads command lines as the original Frisbee and imagezip programs take them: single letters that may
// be combined, with their argument attached or following (-z1, -z 1, -dz1). Long options (--name, --name=value) are for
// what those programs do not have. Options may stand between operands; "--" ends them.
package getopt

import (
	"fmt"
	"strings"
)

// Option is one that a program knows.
type Option struct {
	Name    string // a letter, or a longer name
	Arg     bool   // it takes an argument
	Refused string // if not empty, using the option is this error
}

// Found is an option on a command line.
type Found struct {
	Name, Value string
}

// Parse splits a command line, without the program's name, into options in their order and operands.
func Parse(args []string, known []Option) ([]Found, []string, error) {
	byName := make(map[string]Option, len(known))
	for _, o := range known {
		byName[o.Name] = o
	}
	var found []Found
	var operands []string
	for i := 0; i < len(args); i++ {
		arg := args[i]
		if arg == "--" {
			return found, append(operands, args[i+1:]...), nil
		}
		if long, ok := strings.CutPrefix(arg, "--"); ok {
			name, value, attached := strings.Cut(long, "=")
			o, ok := byName[name]
			switch {
			case !ok || len(name) < 2:
				return nil, nil, fmt.Errorf("unknown option --%s", name)
			case o.Refused != "":
				return nil, nil, fmt.Errorf("option --%s: %s", name, o.Refused)
			case attached && !o.Arg:
				return nil, nil, fmt.Errorf("option --%s takes no argument", name)
			case o.Arg && !attached:
				if i++; i == len(args) {
					return nil, nil, fmt.Errorf("option --%s needs an argument", name)
				}
				value = args[i]
			}
			found = append(found, Found{name, value})
			continue
		}
		if arg == "-" || !strings.HasPrefix(arg, "-") {
			operands = append(operands, arg)
			continue
		}
		for letters := arg[1:]; letters != ""; {
			name := letters[:1]
			letters = letters[1:]
			o, ok := byName[name]
			switch {
			case !ok:
				return nil, nil, fmt.Errorf("unknown option -%s", name)
			case o.Refused != "":
				return nil, nil, fmt.Errorf("option -%s: %s", name, o.Refused)
			case !o.Arg:
				found = append(found, Found{name, ""})
				continue
			}
			value := letters
			if letters = ""; value == "" {
				if i++; i == len(args) {
					return nil, nil, fmt.Errorf("option -%s needs an argument", name)
				}
				value = args[i]
			}
			found = append(found, Found{name, value})
		}
	}
	return found, operands, nil
}
