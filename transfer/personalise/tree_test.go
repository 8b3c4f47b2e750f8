package personalise

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

const key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5 me@here"

// system is a tree with these files, as an image may have it.
func system(t testing.TB, files map[string]string) (dir string, root *os.Root) {
	dir = filepath.Join(t.TempDir(), "system")
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "etc"), 0o755))
	for name, text := range files {
		path := filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
	}
	root, err := os.OpenRoot(dir)
	require.NoError(t, err)
	t.Cleanup(func() { root.Close() })
	return dir, root
}

// passwd has users with the numbers of who runs the test, so that it needs no rights.
func passwd(homes ...string) string {
	var b strings.Builder
	for i := 0; i+1 < len(homes); i += 2 {
		fmt.Fprintf(&b, "%s:x:%d:%d::%s:/bin/sh\n", homes[i], os.Getuid(), os.Getgid(), homes[i+1])
	}
	return b.String()
}

func text(t *testing.T, parts ...string) string {
	b, err := os.ReadFile(filepath.Join(parts...))
	require.NoError(t, err)
	return string(b)
}

func everything() Config {
	return Config{
		Hostname: "n1-2.example.org", ResetMachineID: true, RemoveHostKeys: true, AuthorizedKeys: []string{key}, User: "me",
		Seed: &Seed{MetaData: "instance-id: x\n", UserData: "#cloud-config\n"},
	}
}

func TestTree(t *testing.T) {
	dir, root := system(t, map[string]string{
		"etc/hostname": "template\n", "etc/hosts": "127.0.0.1 localhost\n127.0.1.1\ttemplate\n::1 localhost\n127.0.1.1 again\n", "etc/machine-id": "0123\n",
		"var/lib/dbus/machine-id": "0123\n", "etc/ssh/ssh_host_rsa_key": "secret", "etc/ssh/ssh_host_rsa_key.pub": "public", "etc/ssh/sshd_config": "Port 22\n",
		"etc/passwd": passwd("root", "/root", "me", "/home/me"), "home/me/.ssh/authorized_keys": "ssh-rsa OLD",
		"var/lib/cloud/instances/i-1/sem": "", "var/lib/cloud/seed/nocloud/network-config": "old",
	})
	for range 2 { // it may be repeated
		require.NoError(t, Tree(root, everything()))
		require.Equal(t, "n1-2.example.org\n", text(t, dir, "etc/hostname"))
		require.Equal(t, "127.0.0.1 localhost\n127.0.1.1\tn1-2.example.org n1-2\n::1 localhost\n", text(t, dir, "etc/hosts"))
		require.Empty(t, text(t, dir, "etc/machine-id"))
		require.NoFileExists(t, filepath.Join(dir, "var/lib/dbus/machine-id"))
		require.NoFileExists(t, filepath.Join(dir, "etc/ssh/ssh_host_rsa_key"))
		require.NoFileExists(t, filepath.Join(dir, "etc/ssh/ssh_host_rsa_key.pub"))
		require.FileExists(t, filepath.Join(dir, "etc/ssh/sshd_config"))
		require.Equal(t, "ssh-rsa OLD\n"+key+"\n", text(t, dir, "home/me/.ssh/authorized_keys"))
		require.Equal(t, "instance-id: x\n", text(t, dir, seedDir, "meta-data"))
		require.Equal(t, "#cloud-config\n", text(t, dir, seedDir, "user-data"))
		require.NoFileExists(t, filepath.Join(dir, seedDir, "network-config"))
		require.NoDirExists(t, filepath.Join(dir, "var/lib/cloud/instances"))
	}
	st, err := os.Stat(filepath.Join(dir, "home/me/.ssh/authorized_keys"))
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o600), st.Mode())
}

// TestPlainSystem: what a system does not have is not made up, and nothing that is not asked for is touched.
func TestPlainSystem(t *testing.T) {
	dir, root := system(t, map[string]string{"etc/passwd": passwd("root", "/root"), "root/.profile": ""})
	require.NoError(t, Tree(root, Config{Hostname: "a", ResetMachineID: true, RemoveHostKeys: true, AuthorizedKeys: []string{key}}))
	require.NoFileExists(t, filepath.Join(dir, "etc/machine-id"))
	require.NoFileExists(t, filepath.Join(dir, "etc/hosts"))
	require.Equal(t, key+"\n", text(t, dir, "root/.ssh/authorized_keys"))
	st, err := os.Stat(filepath.Join(dir, "root/.ssh"))
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o700), st.Mode().Perm())
	require.ErrorContains(t, Tree(root, Config{AuthorizedKeys: []string{key}, User: "nobody"}), "no user nobody")
	require.NoError(t, Tree(root, Config{}))
}

// TestHostileTrees: whatever an image has in the place of files and folders, nothing outside of it is read, written or
// removed, and nothing waits.
func TestHostileTrees(t *testing.T) {
	for name, prepare := range map[string]func(dir, outside string) error{
		"etc leads out":        func(d, o string) error { _ = os.RemoveAll(d + "/etc"); return os.Symlink(o, d+"/etc") },
		"hostname leads out":   func(d, o string) error { return os.Symlink(o+"/victim", d+"/etc/hostname") },
		"fresh name leads out": func(d, o string) error { return os.Symlink(o+"/victim", d+"/etc/hostname.loadnode") },
		"hosts leads out": func(d, o string) error {
			_ = os.Remove(d + "/etc/hosts")
			return os.Symlink(o+"/victim", d+"/etc/hosts")
		},
		"hosts leads up": func(d, o string) error {
			_ = os.Remove(d + "/etc/hosts")
			return os.Symlink("../../outside/victim", d+"/etc/hosts")
		},
		"hosts is a pipe":           func(d, o string) error { _ = os.Remove(d + "/etc/hosts"); return unix.Mkfifo(d+"/etc/hosts", 0o600) },
		"machine-id leads out":      func(d, o string) error { return os.Symlink(o+"/victim", d+"/etc/machine-id") },
		"keys of the host lead out": func(d, o string) error { return os.Symlink(o+"/victim", d+"/etc/ssh_host_x_key") },
		"ssh leads out":             func(d, o string) error { _ = os.RemoveAll(d + "/etc/ssh"); return os.Symlink(o, d+"/etc/ssh") },
		"home leads out":            func(d, o string) error { _ = os.RemoveAll(d + "/home/me"); return os.Symlink(o, d+"/home/me") },
		".ssh leads out":            func(d, o string) error { return os.Symlink(o, d+"/home/me/.ssh") },
		".ssh leads to another":     func(d, o string) error { return os.Symlink("../../etc", d+"/home/me/.ssh") },
		"authorized_keys leads out": func(d, o string) error {
			_ = os.Mkdir(d+"/home/me/.ssh", 0o700)
			return os.Symlink(o+"/victim", d+"/home/me/.ssh/authorized_keys")
		},
		"seed leads out": func(d, o string) error {
			_ = os.MkdirAll(d+"/var/lib/cloud", 0o700)
			return os.Symlink(o, d+"/var/lib/cloud/seed")
		},
		"instances lead out": func(d, o string) error {
			_ = os.MkdirAll(d+"/var/lib/cloud", 0o700)
			return os.Symlink(o, d+"/var/lib/cloud/instances")
		},
		"passwd is a folder": func(d, o string) error { _ = os.Remove(d + "/etc/passwd"); return os.Mkdir(d+"/etc/passwd", 0o700) },
		"passwd is too long": func(d, o string) error { return os.Truncate(d+"/etc/passwd", maxFile+1) },
		"passwd sends home up": func(d, o string) error {
			return os.WriteFile(d+"/etc/passwd", []byte(passwd("me", "/../outside")), 0o600)
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir, root := system(t, map[string]string{"etc/hosts": "127.0.1.1 x\n", "etc/passwd": passwd("me", "/home/me"), "home/me/.profile": "", "etc/ssh/x": ""})
			outside := filepath.Join(filepath.Dir(dir), "outside")
			require.NoError(t, os.Mkdir(outside, 0o755))
			for _, victim := range []string{"victim", "ssh_host_x_key", "hostname", "authorized_keys"} {
				require.NoError(t, os.WriteFile(filepath.Join(outside, victim), []byte("precious 127.0.1.1"), 0o640))
			}
			require.NoError(t, prepare(dir, outside))
			c := everything()
			for _, one := range []Config{{Hostname: c.Hostname}, {ResetMachineID: true}, {RemoveHostKeys: true}, {AuthorizedKeys: c.AuthorizedKeys, User: c.User}, {Seed: c.Seed}} {
				if err := Tree(root, one); err != nil {
					require.ErrorIs(t, err, ErrTree)
				}
			}
			entries, err := os.ReadDir(outside)
			require.NoError(t, err)
			require.Len(t, entries, 4, "nothing was made or removed outside")
			for _, e := range entries {
				require.Equal(t, "precious 127.0.1.1", text(t, outside, e.Name()))
				info, err := e.Info()
				require.NoError(t, err)
				require.Equal(t, fs.FileMode(0o640), info.Mode())
			}
		})
	}
}

// FuzzTree: whatever files of the image say, what is written is what was asked for, or there is an error.
func FuzzTree(f *testing.F) {
	f.Add("127.0.1.1 x\n", passwd("me", "/home/me"), "ssh-rsa OLD")
	f.Add("\x00\n127.0.1.1", "me:::::\nme:x:-1:0::/:", key)
	f.Add("", "me:x:99999999999:1::/home/me:", "\n\n")
	f.Fuzz(func(t *testing.T, hosts, users, keys string) {
		if strings.Contains(users, "me:") && !strings.HasPrefix(users, passwd("me", "/home/me")) {
			users = "other" + users // who runs this cannot give files away
		}
		dir, root := system(t, map[string]string{"etc/hosts": hosts, "etc/passwd": users, "home/me/.ssh/authorized_keys": keys})
		require.NoError(t, Tree(root, Config{Hostname: "h"}))
		require.Equal(t, "h\n", text(t, dir, "etc/hostname"))
		if err := Tree(root, Config{AuthorizedKeys: []string{key}, User: "me"}); err != nil {
			require.ErrorIs(t, err, ErrTree)
			require.Equal(t, keys, text(t, dir, "home/me/.ssh/authorized_keys"))
			return
		}
		got := text(t, dir, "home/me/.ssh/authorized_keys")
		require.True(t, strings.HasPrefix(got, keys))
		require.Contains(t, strings.Split(got, "\n"), key)
	})
}

// FuzzSignature: no head of a partition is too strange.
func FuzzSignature(f *testing.F) {
	f.Add([]byte("XFSB"))
	f.Add(append(make([]byte, 1024+56), 0x53, 0xef))
	f.Add(append(make([]byte, 64<<10+64), "_BHRfS_M"...))
	f.Fuzz(func(t *testing.T, head []byte) {
		require.Contains(t, []string{"", "ext4", "xfs", "btrfs"}, signature(head))
	})
}
