package legacy

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// What an agent says (§a.8, §a.9).
const (
	Heartbeat   = "HB"
	WhoAmI      = "WHOAMI"
	AppEvent    = "APP_EVENT"
	DevEvent    = "DEV_EVENT"
	Status      = "STATUS"
	ErrorWord   = "ERROR"
	Warn        = "WARN"
	Allo        = "ALLO"
	EndOfExp    = "END_EXPERIMENT"
	Connected   = "Already connected to a handler" // after ERROR, the answer to a second controller
	LoadProcess = "builtin:load_image"             // the id of what LOAD_IMAGE starts
	SaveProcess = "builtin:save_image"
)

// words are those a message can begin with behind its sender and number.
var words = []string{Heartbeat, WhoAmI, AppEvent, DevEvent, Status, ErrorWord, Warn, Allo, Retry, EndOfExp}

// Kinds of application events (§a.9).
const (
	Started   = "STARTED"
	Stdout    = "STDOUT"
	Stderr    = "STDERR"
	DoneOK    = "DONE.OK"
	DoneError = "DONE.ERROR"
)

// ErrMessage says that a text is no message of an agent.
var ErrMessage = errors.New("not a message of the agent protocol")

// ErrConnected is what an agent tells a second controller, before it hangs up.
var ErrConnected = errors.New("the agent is connected to another controller")

// Message is what an agent says: <sender> <seq> <COMMAND> [arg …].
type Message struct {
	Sender string
	Seq    int
	Name   string
	Args   []string
}

// String is the message as it is sent: without a terminator.
func (m Message) String() string {
	return Encode(append([]string{m.Sender, strconv.Itoa(m.Seq), m.Name}, m.Args...)...)
}

// ParseMessage reads a message which a Splitter gave.
func ParseMessage(text string) (Message, error) {
	if strings.TrimSpace(text) == ErrorWord+" "+Connected {
		return Message{}, ErrConnected
	}
	w := Decode(text)
	if len(w) < 3 {
		return Message{}, fmt.Errorf("%w: %.80q", ErrMessage, text)
	}
	seq, err := strconv.ParseInt(w[1], 10, 32)
	if err != nil || !slices.Contains(words, w[2]) {
		return Message{}, fmt.Errorf("%w: %.80q", ErrMessage, text)
	}
	return Message{Sender: w[0], Seq: int(seq), Name: w[2], Args: w[3:]}, nil
}

// Event is an application event.
type Event struct {
	Kind string // Started … DoneError
	ID   string
	Text string // of a line of output; of "status: W" for the ends
}

// Event reads the arguments of APP_EVENT; ok is false for anything else.
func (m Message) Event() (e Event, ok bool) {
	if m.Name != AppEvent || len(m.Args) < 2 {
		return Event{}, false
	}
	return Event{Kind: m.Args[0], ID: m.Args[1], Text: strings.Join(m.Args[2:], " ")}, true
}

// ExitStatus is what a raw wait status (§a.9) says: the exit code, or the signal that ended the process.
func (e Event) ExitStatus() (code, signal int, ok bool) {
	text, found := strings.CutPrefix(e.Text, "status: ")
	w, err := strconv.ParseUint(text, 10, 16)
	if !found || err != nil {
		return 0, 0, false
	}
	return int(w >> 8), int(w & 0x7f), true
}

// Output of frisbee, as the ORBIT client prints it and as others do (§a.9).
var (
	progressLine = regexp.MustCompile(`^Progress: ([0-9]{1,3})%`)
	wroteLine    = regexp.MustCompile(`^Wrote ([0-9]{1,19}) bytes \(([0-9]{1,19}) actual\)`)
	sizeLine     = regexp.MustCompile(`File is ([0-9]{1,9}) chunks`)
)

// Percent is the progress a line of output states. Legacy clients print no 0 and no 100, and with small images none at all.
func (e Event) Percent() (percent int, ok bool) {
	m := progressLine.FindStringSubmatch(e.Text)
	if m == nil {
		return 0, false
	}
	n, _ := strconv.Atoi(m[1])
	return n, n <= 100
}

// Wrote is what a client says at its end: bytes of disk covered, and bytes really written.
func (e Event) Wrote() (covered, written int64, ok bool) {
	m := wroteLine.FindStringSubmatch(e.Text)
	if m == nil {
		return 0, 0, false
	}
	covered, err1 := strconv.ParseInt(m[1], 10, 64)
	written, err2 := strconv.ParseInt(m[2], 10, 64)
	return covered, written, err1 == nil && err2 == nil
}

// Chunks is the size of the image that some clients print when they have joined.
func (e Event) Chunks() (n int, ok bool) {
	m := sizeLine.FindStringSubmatch(e.Text)
	if m == nil {
		return 0, false
	}
	n, _ = strconv.Atoi(m[1])
	return n, true
}
