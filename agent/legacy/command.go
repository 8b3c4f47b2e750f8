package legacy

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// What a controller says (§a.8), as far as imaging needs it.
const (
	YouAre    = "YOUARE"     // name, highest sequence number to ignore, aliases …
	Alias     = "ALIAS"      // names …
	LoadImage = "LOAD_IMAGE" // group, port, disk
	SaveImage = "SAVE_IMAGE" // NFS directory, image name, disk
	Exec      = "EXEC"       // id, command words …
	Kill      = "KILL"       // id, signal
	Reset     = "RESET"      // stop everything, forget the name; no answer
	Reboot    = "REBOOT"     // also obeyed by agents that are not enrolled
	Rallo     = "RALLO"      // answered by ALLO: the only harmless question
	Hello     = "HELLO"      // keep-alive of the multicast transport, to NOBODY
	Retry     = "RETRY"      // say again: first, last
)

// Any is the target which every agent takes for its own.
const Any = "*"

// MaxCommand is how long a line to an agent may be, in bytes with its newline: the original reads with a buffer of
// 1024 bytes and does not put together what comes in two pieces (§a.2), and the original commServer takes 512.
const MaxCommand = 512

// ErrCommand says that a line is no command.
var ErrCommand = errors.New("not a command of the agent protocol")

// Command is a line from a controller to agents: <seq> <target> <COMMAND> [arg …].
type Command struct {
	// Seq is 0 for unnumbered commands; -n repeats n.
	Seq    int
	Target string // one pattern, or several separated by blanks
	Name   string // in upper case
	Args   []string
}

// Line is the command as it is sent, with its newline. It must go out in one write. An error means that an original
// agent would not get what was meant.
func (c Command) Line() (string, error) {
	line := Encode(append([]string{strconv.Itoa(c.Seq), c.Target, c.Name}, c.Args...)...) + "\n"
	switch {
	case len(line) > MaxCommand:
		return "", fmt.Errorf("%w: %s to %s takes %d bytes, agents read at most %d", ErrCommand, c.Name, c.Target, len(line), MaxCommand)
	case strings.ContainsAny(line[:len(line)-1], "\r\n\x00"):
		return "", fmt.Errorf("%w: %s to %s contains a line end, which would cut it", ErrCommand, c.Name, c.Target)
	}
	return line, nil
}

// ParseCommand reads a line as the original agent does: the sequence number is the digits its first word begins with,
// 0 for any other word ("S"); the name counts in upper case. Fewer than three words are an error.
func ParseCommand(line string) (Command, error) {
	words := Decode(strings.TrimRight(line, "\r\n"))
	if len(words) < 3 {
		return Command{}, fmt.Errorf("%w: %d words, at least 3 are needed", ErrCommand, len(words))
	}
	return Command{Seq: leadingInt(words[0]), Target: words[1], Name: strings.ToUpper(words[2]), Args: words[3:]}, nil
}

// leadingInt is the number a word begins with, 0 if there is none or if it is beyond 31 bits.
func leadingInt(s string) int {
	digits := strings.TrimLeft(s, "+-")
	if len(s)-len(digits) > 1 {
		return 0
	}
	end := strings.IndexFunc(digits, func(r rune) bool { return r < '0' || r > '9' })
	if end < 0 {
		end = len(digits)
	}
	n, err := strconv.ParseInt(s[:len(s)-len(digits)+end], 10, 32)
	if err != nil {
		return 0
	}
	return int(n)
}

// Addresses says whether the target means one of an agent's names. Each word of it is a pattern: "*" stands for
// anything, all else is a regular expression for the whole name (§a.2). What does not compile matches nobody.
func (c Command) Addresses(names ...string) bool {
	for _, word := range fields(c.Target) {
		re, err := regexp.Compile(`^(?:` + strings.ReplaceAll(word, "*", ".*") + `)$`)
		if err != nil {
			continue
		}
		for _, n := range names {
			if n != "" && re.MatchString(n) {
				return true
			}
		}
	}
	return false
}
