package inventory

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

const maxWords = 64

// Placeholders lists what is replaced in the words of a power command.
func Placeholders() []string {
	return []string{"{node}", "{action}", "{testbed}", "{effect}", "{mac}", "{ip}"}
}

var placeholder = regexp.MustCompile(`\{[a-zA-Z_]+\}`)

// CheckCommand checks the command of a power driver: 1 to 64 words, the first
// an absolute path without placeholders, no placeholder that does not exist,
// and {action} somewhere.
func CheckCommand(words []string) error {
	if len(words) == 0 {
		return fmt.Errorf(`the command is missing; write command: [/usr/local/bin/power, "{node}", "{action}"]`)
	}
	if len(words) > maxWords {
		return fmt.Errorf("the command has %d words, allowed are %d", len(words), maxWords)
	}
	action := false
	for i, w := range words {
		if len(w) > 4096 || strings.ContainsRune(w, 0) {
			return fmt.Errorf("word %d of the command is longer than 4096 bytes or has a zero byte", i+1)
		}
		for _, p := range placeholder.FindAllString(w, -1) {
			if !slices.Contains(Placeholders(), p) {
				return fmt.Errorf("the command uses %s; there are %s", clip(p), strings.Join(Placeholders(), " "))
			}
			if i == 0 {
				return fmt.Errorf("the program %q cannot depend on %s; use it in the words behind", clip(w), p)
			}
			action = action || p == "{action}"
		}
	}
	if !strings.HasPrefix(words[0], "/") {
		return fmt.Errorf("the program %q is not an absolute path; write /usr/local/bin/… (for a line of shell: [/bin/sh, -c, …])", clip(words[0]))
	}
	if !action {
		return fmt.Errorf("the command does not use {action}, so on and off would be the same")
	}
	return nil
}
