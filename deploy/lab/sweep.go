package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
)

const (
	// prefix of the names of all namespaces; the number of the process follows.
	prefix = "loadnode-lab-"
	// spaces is where ip keeps named namespaces.
	spaces = "/run/netns"
)

// sweep removes what processes left which are no more.
func sweep(ctx context.Context, t tools) error {
	names, err := named(prefix)
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range names {
		number, _, _ := strings.Cut(strings.TrimPrefix(name, prefix), "-")
		pid, err := strconv.Atoi(number)
		if err != nil || pid <= 0 || !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			continue
		}
		// Another lab may be sweeping as well.
		if err := remove(ctx, t, name); err != nil {
			if _, gone := os.Stat(spaces + "/" + name); gone == nil {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}

// named lists the namespaces whose names begin with something.
func named(beginning string) ([]string, error) {
	entries, err := os.ReadDir(spaces)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	var out []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), beginning) {
			out = append(out, e.Name())
		}
	}
	return out, nil
}

// remove ends the processes in the namespaces whose names begin with something,
// and removes these with all that is in them.
func remove(ctx context.Context, t tools, beginning string) error {
	names, err := named(beginning)
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range names {
		out, err := output(ctx, "", t.ip, "netns", "pids", name)
		if err == nil {
			for _, f := range strings.Fields(string(out)) {
				if pid, err := strconv.Atoi(f); err == nil && pid > 1 && pid != os.Getpid() {
					_ = syscall.Kill(pid, syscall.SIGKILL)
				}
			}
		}
		if _, err := output(ctx, "", t.ip, "netns", "del", name); err != nil {
			errs = append(errs, fmt.Errorf("remove namespace %s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}
