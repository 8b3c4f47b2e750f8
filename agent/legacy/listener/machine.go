package listener

import "context"

// Machine is what the commands of a controller act on.
type Machine interface {
	// Load receives the image of a multicast group onto a disk.
	Load(group string, port uint16, disk string) Program
	// Save captures a disk to a file NAME in what dir means ("host:/path" of NFS). An error is answered before anything
	// starts.
	Save(dir, name, disk string) (Program, error)
	// Command runs a program by its words.
	Command(words []string) Program
	// Reboot restarts the machine. It may return before that has happened.
	Reboot()
}

// Program runs until it ends by itself or ctx ends, which kills it. It prints lines as they come, on legacy.Stdout or
// legacy.Stderr, and returns its raw wait status: exit code × 256, or the signal that ended it (§a.9).
type Program func(ctx context.Context, print func(stream, line string)) (status int)

// Exit is the wait status of an exit code.
func Exit(code int) int { return code << 8 }

// killed is the wait status of what was killed.
const killed = 9
