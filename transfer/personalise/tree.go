package personalise

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Config says what is to be written. Zero fields leave things as they are.
type Config struct {
	Hostname       string   // full, as the system shall call itself
	ResetMachineID bool     // the system makes a new one when it starts
	RemoveHostKeys bool     // of the SSH server; most systems make new ones when it starts
	AuthorizedKeys []string // lines added to those of User that are not there
	User           string   // empty: root
	Seed           *Seed
}

// Seed is a NoCloud seed: the files of /var/lib/cloud/seed/nocloud. Empty texts make no file, but MetaData and UserData,
// without which cloud-init does not take the seed: it must not be empty for the first.
type Seed struct{ MetaData, UserData, NetworkConfig string }

// maxFile bounds what is read of a file of the image, in bytes.
const maxFile = 1 << 20

// ErrTree says that the system is not as it must be to be changed; what was done before stands.
var ErrTree = errors.New("the loaded system cannot be changed")

const (
	machineIDFile = "etc/machine-id"
	dbusIDFile    = "var/lib/dbus/machine-id"
	seedDir       = "var/lib/cloud/seed/nocloud"
)

// Tree writes into a mounted system. It does not sync.
func Tree(root *os.Root, c Config) error {
	for _, step := range []struct {
		wanted bool
		what   string
		do     func(*os.Root, Config) error
	}{
		{c.Hostname != "", "host name", hostname},
		{c.ResetMachineID, "machine id", machineID},
		{c.RemoveHostKeys, "host keys", hostKeys},
		{len(c.AuthorizedKeys) > 0, "authorised keys", authorizedKeys},
		{c.Seed != nil, "seed", seed},
	} {
		if !step.wanted {
			continue
		}
		if err := step.do(root, c); err != nil {
			return fmt.Errorf("%w: %s: %w", ErrTree, step.what, err)
		}
	}
	return nil
}

// hostname writes /etc/hostname, and the line of 127.0.1.1 in /etc/hosts where there is one, as Debian does.
func hostname(root *os.Root, c Config) error {
	if err := replace(root, "etc/hostname", []byte(c.Hostname+"\n"), 0o644, nil); err != nil {
		return err
	}
	old, info, err := read(root, "etc/hosts")
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	names := c.Hostname
	if short, _, found := strings.Cut(c.Hostname, "."); found {
		names += " " + short
	}
	var out bytes.Buffer
	changed := false
	for line := range strings.Lines(string(old)) {
		if w := strings.Fields(line); len(w) > 0 && w[0] == "127.0.1.1" {
			if !changed {
				out.WriteString("127.0.1.1\t" + names + "\n")
			}
			changed = true
			continue
		}
		out.WriteString(line)
	}
	if !changed {
		return nil
	}
	return replace(root, "etc/hosts", out.Bytes(), info.Mode().Perm(), info)
}

// machineID empties the id, which systemd takes for a system that has none yet. Without the file systemd takes the start
// for the first one ever and enables and disables services.
func machineID(root *os.Root, _ Config) error {
	switch _, err := root.Lstat(machineIDFile); {
	case errors.Is(err, fs.ErrNotExist):
		return nil // the system keeps none
	case err != nil:
		return err
	}
	if err := replace(root, machineIDFile, nil, 0o444, nil); err != nil {
		return err
	}
	// That of D-Bus is a link to it, or goes: D-Bus makes it from the other.
	info, err := root.Lstat(dbusIDFile)
	if errors.Is(err, fs.ErrNotExist) || err == nil && info.Mode()&fs.ModeSymlink != 0 {
		return nil
	}
	if err != nil {
		return err
	}
	return root.Remove(dbusIDFile)
}

// hostKeys removes the keys of the SSH server, and their public halves.
func hostKeys(root *os.Root, _ Config) error {
	dir, err := root.Open("etc/ssh")
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer dir.Close()
	const most = 4096
	names, err := dir.Readdirnames(most)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if len(names) == most {
		return fmt.Errorf("/etc/ssh has %d entries or more", most)
	}
	for _, name := range names {
		if !strings.HasPrefix(name, "ssh_host_") || !strings.HasSuffix(strings.TrimSuffix(name, ".pub"), "_key") {
			continue
		}
		if err := root.Remove(path.Join("etc/ssh", name)); err != nil {
			return err
		}
	}
	return nil
}

// account is a user of the system.
type account struct {
	uid, gid int
	home     string // below the root
}

// lookup finds a user in /etc/passwd of the system.
func lookup(root *os.Root, name string) (account, error) {
	text, _, err := read(root, "etc/passwd")
	if err != nil {
		return account{}, err
	}
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, maxFile+1)
	for lines.Scan() {
		f := strings.Split(lines.Text(), ":")
		if len(f) < 7 || f[0] != name {
			continue
		}
		uid, err1 := strconv.ParseUint(f[2], 10, 31)
		gid, err2 := strconv.ParseUint(f[3], 10, 31)
		home := strings.TrimPrefix(path.Clean("/"+f[5]), "/")
		if err1 != nil || err2 != nil || home == "" {
			return account{}, fmt.Errorf("/etc/passwd: user %s has no number or no home", name)
		}
		return account{int(uid), int(gid), home}, nil
	}
	return account{}, fmt.Errorf("the system has no user %s", name)
}

// authorizedKeys adds keys to those of the user. Folder and file are the user's, as the SSH server demands.
func authorizedKeys(root *os.Root, c Config) error {
	name := c.User
	if name == "" {
		name = "root"
	}
	who, err := lookup(root, name)
	if err != nil {
		return err
	}
	home, err := root.OpenRoot(who.home)
	if err != nil {
		return fmt.Errorf("home of %s: %w", name, err)
	}
	defer home.Close()
	if err := home.Mkdir(".ssh", 0o700); err == nil {
		if err := home.Lchown(".ssh", who.uid, who.gid); err != nil {
			return err
		}
	} else if !errors.Is(err, fs.ErrExist) {
		return err
	}
	ssh, err := home.OpenRoot(".ssh")
	if err != nil {
		return fmt.Errorf("folder .ssh of %s: %w", name, err)
	}
	defer ssh.Close()
	const file = "authorized_keys"
	old, _, err := read(ssh, file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	have := strings.Split(string(old), "\n")
	text := string(old)
	if text != "" && !strings.HasSuffix(text, "\n") {
		text += "\n"
	}
	for _, key := range c.AuthorizedKeys {
		if !slices.Contains(have, key) {
			text += key + "\n"
		}
	}
	if err := replace(ssh, file, []byte(text), 0o600, nil); err != nil {
		return err
	}
	return ssh.Lchown(file, who.uid, who.gid)
}

// seed writes a NoCloud seed, and makes cloud-init forget what it did on the machine that the image is of.
func seed(root *os.Root, c Config) error {
	if err := root.MkdirAll(seedDir, 0o755); err != nil {
		return err
	}
	// Without a folder of state cloud-init begins as on a new machine.
	if err := root.RemoveAll("var/lib/cloud/instances"); err != nil {
		return err
	}
	if err := root.Remove("var/lib/cloud/instance"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	files := []struct {
		name, text string
		always     bool
	}{
		{"meta-data", c.Seed.MetaData, true}, {"user-data", c.Seed.UserData, true}, {"network-config", c.Seed.NetworkConfig, false},
	}
	for _, f := range files {
		if f.text == "" && !f.always {
			if err := root.Remove(path.Join(seedDir, f.name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			continue
		}
		if err := replace(root, path.Join(seedDir, f.name), []byte(f.text), 0o600, nil); err != nil {
			return err
		}
	}
	return nil
}

// read reads a regular file of the system.
func read(root *os.Root, name string) ([]byte, fs.FileInfo, error) {
	// A pipe would keep whoever opens it waiting, so the kind is looked at before, and again on what was opened.
	if info, err := root.Stat(name); err != nil {
		return nil, nil, err
	} else if !info.Mode().IsRegular() {
		return nil, nil, fmt.Errorf("/%s is no file", name)
	}
	f, err := root.Open(name)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, nil, fmt.Errorf("/%s is no file", name)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(text) > maxFile {
		err = fmt.Errorf("/%s has more than %d bytes", name, maxFile)
	}
	return text, info, err
}

// replace puts a new file in the place of what has the name, whatever that is: a link is replaced and not followed. It
// keeps the owner of like, if there is one.
func replace(root *os.Root, name string, text []byte, mode fs.FileMode, like fs.FileInfo) error {
	fresh := name + ".loadnode"
	if err := root.Remove(fresh); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := root.OpenFile(fresh, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err == nil {
		err = f.Chmod(mode) // whatever the umask
	}
	if uid, gid, ok := owner(like); ok && err == nil {
		err = f.Chown(uid, gid)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = root.Rename(fresh, name)
	}
	if err != nil {
		return errors.Join(err, root.Remove(fresh))
	}
	return nil
}
