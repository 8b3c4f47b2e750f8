package power

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"

	"loadnode/bus"
	"loadnode/handler/inventory"
)

// expand puts the node of a request into an address of its controller.
func (d Deps) expand(text string, r Request) (string, error) {
	if strings.Trim(r.Node, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz.-_") != "" || strings.HasPrefix(r.Node, ".") || strings.HasPrefix(r.Node, "-") {
		return "", bus.Permanent(fmt.Errorf("%w: %s cannot be part of an address", ErrRequest, quote(r.Node)))
	}
	x, y := d.place(r)
	_, ip := d.addresses(r)
	for _, c := range []struct {
		target string
		known  bool
	}{{"{x}", x > 0}, {"{y}", y > 0}, {"{ip}", ip != ""}, {"{digits}", inventory.Digits(r.Node) != ""}} {
		if !c.known && strings.Contains(text, c.target) {
			return "", bus.Permanent(fmt.Errorf("%w: the inventory does not know %s of %s, which %s uses", ErrRequest, c.target, r.Node, text))
		}
	}
	return inventory.Expand(text, r.Node, x, y, ip), nil
}

func (d Deps) place(r Request) (x, y int) {
	if d.Place == nil {
		return 0, 0
	}
	return d.Place(r.Testbed, r.Node)
}

func (d Deps) addresses(r Request) (mac, ip string) {
	if d.Addresses == nil {
		return "", ""
	}
	return d.Addresses(r.Testbed, r.Node)
}

// maxPassword bounds a file with a password, in bytes.
const maxPassword = 4 << 10

// password is what the specification says it is, read anew each time: it may
// be changed while the service runs. Errors do not show it.
func (d Deps) password(spec inventory.Power) (string, error) {
	switch {
	case spec.PasswordEnv != "":
		getenv := d.Getenv
		if getenv == nil {
			getenv = os.Getenv
		}
		if v := getenv(spec.PasswordEnv); v != "" {
			return v, nil
		}
		return "", bus.Permanent(fmt.Errorf("%w: the environment variable %s with the password is not set for this service", ErrDriver, spec.PasswordEnv))
	case spec.PasswordFile == "":
		return spec.Password, nil
	}
	f, err := os.Open(spec.PasswordFile)
	if err != nil {
		return "", bus.Permanent(fmt.Errorf("%w: password file: %w", ErrDriver, err))
	}
	defer f.Close()
	st, err := f.Stat()
	switch {
	case err != nil:
		return "", fmt.Errorf("password file: %w", err)
	case !st.Mode().IsRegular():
		return "", bus.Permanent(fmt.Errorf("%w: password file %s is not a regular file", ErrDriver, spec.PasswordFile))
	case st.Mode().Perm()&0o007 != 0:
		return "", bus.Permanent(fmt.Errorf("%w: everybody may use password file %s (mode %04o); chmod 600 it", ErrDriver, spec.PasswordFile, st.Mode().Perm()))
	}
	text, err := io.ReadAll(io.LimitReader(f, maxPassword+1))
	if err != nil {
		return "", fmt.Errorf("password file: %w", err)
	}
	line, _, _ := bytes.Cut(text, []byte("\n"))
	line = bytes.TrimSuffix(line, []byte("\r"))
	if len(line) == 0 || len(text) > maxPassword || bytes.IndexByte(line, 0) >= 0 {
		return "", bus.Permanent(fmt.Errorf("%w: password file %s does not have a password in its first line", ErrDriver, spec.PasswordFile))
	}
	return string(line), nil
}

// cannot is the refusal of an action that a driver does not have.
func cannot(driver, action, why string) error {
	return bus.Permanent(fmt.Errorf("%w: %s cannot do %s: %s", ErrUnsupported, driver, action, why))
}
