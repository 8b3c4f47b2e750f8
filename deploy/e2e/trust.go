package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"loadnode/bus"
	"loadnode/events"
)

// misuse is what the job's log says of one node.
type misuse struct {
	alarms []string // reasons
	failed []events.Class
	up     []int // attempts in which its agent reported
}

// strangers has two machines loaded while another computer takes their MAC and
// address and asks for their credentials: of one before the machine itself
// asks, of the other after it was delivered. Both attempts are to fail with an
// alarm, and the second ones to load.
func strangers(ctx context.Context, s settings, conn *bus.Conn, first, second *machine, image proof) error {
	early, err := newStranger(ctx, first)
	if err != nil {
		return err
	}
	job, err := begin(ctx, s, first.name+","+second.name, imageName)
	if err != nil {
		return err
	}
	var late *stranger
	seen := map[string]*misuse{first.name: {}, second.name: {}}
	end, err := follow(ctx, conn, job, func(node string, d events.Data) error {
		n := seen[node]
		if n == nil {
			return nil // of the job
		}
		switch d := d.(type) {
		case events.CredentialMisused:
			n.alarms = append(n.alarms, d.Reason)
		case events.LoadFailed:
			n.failed = append(n.failed, d.Class)
			if node == second.name {
				return plug(ctx, second, true)
			}
		case events.PxeUp:
			n.up = append(n.up, d.Attempt)
			if node != second.name || late != nil {
				return nil
			}
			// From here, which is not the machine's address; then from there.
			status, body, err := get(ctx, configURL(second))
			if err == nil && status != http.StatusForbidden {
				err = fmt.Errorf("another address got %d, %s", status, body)
			}
			if err != nil {
				return err
			}
			// Only one of two can have its MAC on a switch: now it is the stranger.
			if err := plug(ctx, second, false); err != nil {
				return err
			}
			late, err = newStranger(ctx, second)
			return err
		}
		return nil
	})
	if err != nil {
		return err
	}
	if late == nil {
		return fmt.Errorf("job %s: %s never reported", job, second.name)
	}
	for _, want := range []struct {
		who    *stranger
		status int
		text   string
	}{{early, http.StatusOK, `"password"`}, {late, http.StatusConflict, "delivered already"}} {
		status, body, err := want.who.answer()
		if err != nil {
			return err
		}
		if status != want.status || !strings.Contains(body, want.text) {
			return fmt.Errorf("job %s: a stranger got %d, %s", job, status, body)
		}
	}
	for node, want := range map[string]string{first.name: "[second] [credential] [2]", second.name: "[address second] [credential] [1 2]"} {
		if got := fmt.Sprintf("%v %v %v", seen[node].alarms, seen[node].failed, seen[node].up); got != want {
			return fmt.Errorf("job %s: alarms, failures and starts of %s are %s, want %s", job, node, got, want)
		}
	}
	if end.OK != 2 {
		return fmt.Errorf("job %s: %d of 2 nodes loaded: %+v", job, end.OK, end.Results)
	}
	list, err := omf(ctx, s, "jobs").Output()
	if err != nil {
		return fmt.Errorf("omf jobs: %w", err)
	}
	if !strings.Contains(string(list), "(alarm)") {
		return fmt.Errorf("omf jobs shows no alarm:\n%s", list)
	}
	return errors.Join(first.awaitOff(ctx), second.awaitOff(ctx), same(image.raw, first.disk), same(image.raw, second.disk))
}
