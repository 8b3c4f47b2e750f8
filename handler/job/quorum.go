package job

import (
	"fmt"
	"strconv"
	"strings"

	"loadnode/events"
)

// Quorum reads how many of n nodes must succeed: "95%" (rounded up), a count,
// or "" for every node.
func Quorum(require string, n int) (int, *events.Error) {
	bad := func(why string) (int, *events.Error) {
		return 0, &events.Error{Code: events.CodeBadRequest,
			Message: fmt.Sprintf("require %q: %s", clip(require, maxName), why), Hint: `use a share such as "95%" or a count such as "12"`}
	}
	if require == "" {
		return n, nil
	}
	if text, percent := strings.CutSuffix(require, "%"); percent {
		// Digits only: no signs, spaces or exponents.
		share, err := strconv.ParseUint(text, 10, 8)
		if err != nil || share < 1 || share > 100 {
			return bad("a share is 1% to 100%")
		}
		return (n*int(share) + 99) / 100, nil
	}
	count, err := strconv.ParseUint(require, 10, 16)
	if err != nil || count < 1 {
		return bad("neither a share nor a count of at least 1")
	}
	if int(count) > n {
		return bad(fmt.Sprintf("the job has %d nodes", n))
	}
	return int(count), nil
}

// Check refuses a request whose fields are wrong, whatever the nodes and the
// image are.
func Check(r events.LoadRequest) *events.Error {
	bad := func(format string, args ...any) *events.Error {
		return &events.Error{Code: events.CodeBadRequest, Message: fmt.Sprintf(format, args...)}
	}
	switch {
	case strings.TrimSpace(r.Nodes) == "":
		return bad("nodes: the request names no nodes")
	case r.Image == "":
		return bad("image: the request names no image")
	case len(r.Image) > maxName:
		return bad("image: the name has %d bytes, at most %d are possible", len(r.Image), maxName)
	case len(r.Disk) > maxName:
		return bad("disk: the selector has %d bytes, at most %d are possible", len(r.Disk), maxName)
	}
	switch r.Then {
	case "", events.ThenShutdown, events.ThenReboot, events.ThenStay:
	default:
		return bad("then %q: want shutdown, reboot or stay", clip(string(r.Then), maxName))
	}
	switch r.Verify {
	case "", events.VerifyReadback:
	default:
		return bad("verify %q: want %q or nothing", clip(r.Verify, maxName), events.VerifyReadback)
	}
	switch r.Free {
	case "", events.FreeZero, events.FreeDiscard:
	default:
		return bad("free %q: want %q, %q or nothing", clip(r.Free, maxName), events.FreeZero, events.FreeDiscard)
	}
	if r.Resize != "" {
		if _, err := events.ParseResize(r.Resize); err != nil {
			return bad("resize: %v", err)
		}
	}
	if r.Weight < 0 || r.Weight > events.MaxWeight {
		return bad("weight %d: want 1 to %d, or nothing", r.Weight, events.MaxWeight)
	}
	if err := r.Personalise.Check(); err != nil {
		return bad("%v", err)
	}
	if r.Timeout < 0 || r.TTL < 0 {
		return bad("timeout and ttl are not negative")
	}
	// The number of nodes is not known yet; the largest possible one lets
	// every well-formed count through.
	if _, e := Quorum(r.Require, MaxNodes); e != nil {
		return e
	}
	return nil
}
